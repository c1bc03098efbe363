"""The house rules, each a function from a module's source to what breaks it; nothing found means that it holds.

Source: DESIGN 3.2 and 6. The rules look at syntax trees alone: nothing is imported or run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("firehose", "transforms", "destinations")
FILE_LINES = 450
FUNCTION_LINES = 60


@dataclass(frozen=True, slots=True)
class Module:
    """A source file: its dotted name, and its path below the repository."""

    name: str
    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


Rule = Callable[[Module], Iterator[str]]


def modules(*folders: str) -> list[Module]:
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [_module(file.relative_to(ROOT)) for file in files]


def _module(path: Path) -> Module:
    parts = [*path.parts[:-1], *([] if path.stem == "__init__" else [path.stem])]
    return Module(".".join(parts), str(path), (ROOT / path).read_text())


# Who may import whom.

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "firehose.model": ("firehose", *PACKAGES[1:]),
    "firehose.ingest": ("firehose.buffer", "firehose.delivery", "firehose.delivery_half", "destinations", "transforms"),
    "firehose.delivery": ("firehose.ingest", "firehose.buffer", "firehose.http"),
    "firehose.buffer": ("firehose.ingest", "firehose.delivery", "firehose.http", "destinations", "transforms"),
    "firehose.http": ("firehose.buffer", "firehose.delivery"),
    "firehose.datastream": ("firehose.buffer", "firehose.delivery", "destinations", "transforms"),
    "firehose.hooks": (
        "firehose.ingest",
        "firehose.buffer",
        "firehose.delivery",
        "firehose.http",
        "destinations",
        "transforms",
    ),
    "transforms": ("destinations", "firehose.ingest", "firehose.buffer", "firehose.delivery"),
    "destinations": ("transforms", "firehose.ingest", "firehose.buffer", "firehose.delivery"),
}
ONLY_MODEL = ("firehose.contracts", "firehose.runtime")
MAY = {("destinations.redshift", "destinations.s3")}  # it stages through S3
ON_DISK = ("firehose.datastream.log", "firehose.datastream.streams")  # a shard is kept as a buffer is


def imports(module: Module) -> Iterator[str]:
    """Every import that crosses a wall."""
    for name in imported(module.tree):
        if module.name in ONLY_MODEL and under(name, "firehose") and not under(name, "firehose.model"):
            yield f"imports {name}, and may import of ours only firehose.model"
        for inside, outside in FORBIDDEN.items():
            crosses = under(module.name, inside) and any(under(name, one) for one in outside)
            kept = module.name in ON_DISK and under(name, "firehose.buffer")
            if crosses and not kept and not under(name, module.name):
                yield f"imports {name}, which {inside} never does"
        for kind in ("destinations", "transforms"):
            sibling = under(module.name, kind) and under(name, kind) and module.name != kind
            if sibling and not under(name, module.name) and (module.name, name.rsplit(".", 1)[0]) not in MAY:
                yield f"imports {name}: plug-ins never import each other"


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported; `from a import b` counts as `a.b`, since b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


# One file for each client library, for the file system, the clock and the environment.

LIBRARIES: dict[str, tuple[str, ...]] = {
    "boto3": ("firehose/aws.py",),
    "botocore": ("firehose/aws.py",),
    "opensearchpy": ("firehose/opensearch/connection.py",),
    "urllib3": ("firehose/opensearch/connection.py",),
    "redshift_connector": ("firehose/redshift/connection.py",),
    "httpx": ("firehose/posting.py",),
    "uvicorn": ("firehose/http/server.py",),
    "h2": ("firehose/http/h2.py", "firehose/http/h2_stream.py"),
    "yaml": ("firehose/yaml_text.py",),
    "prometheus_client": ("firehose/exposition.py",),
    "structlog": ("firehose/observe.py",),
    # The clock, dice and threads.
    "apscheduler": ("firehose/runtime.py",),
    "time": ("firehose/runtime.py",),
    "random": ("firehose/runtime.py", "firehose/sample.py"),  # the sample generator takes a seed: its dice are loaded
    "secrets": ("firehose/runtime.py",),
    "threading": ("firehose/runtime.py",),
    "concurrent": ("firehose/runtime.py",),
}
# What people's own tools do with people's own files and clocks is theirs: the commands, and what only they run.
TOOLS = ("firehose/cli/", "firehose/demo.py")


def libraries(module: Module) -> Iterator[str]:
    """Every import of a library that belongs to another file."""
    for name in imported(module.tree):
        owners = LIBRARIES.get(name.partition(".")[0])
        pardoned = _is_tool(module) or (module.path, name) in PARDONED
        if owners and module.path not in owners and not pardoned:
            yield f"imports {name}, which is for {owners[0]} alone"


PARDONED = {
    ("firehose/buffer/ledger.py", "threading"),  # a lock, no thread: the ledger is called from several
    ("destinations/folder.py", "threading"),  # likewise
    ("firehose/aws.py", "threading"),  # likewise
    ("firehose/partitions.py", "threading"),  # likewise
    ("firehose/opensearch/request.py", "threading"),  # a lock too, and what a thread of the runtime's is at
    ("firehose/encoded_once.py", "threading"),  # likewise
    ("firehose/lake/files.py", "threading.get_ident"),  # which of DuckDB's threads asks
    ("firehose/schemas/glue.py", "threading"),  # likewise
    ("firehose/schemas/versions.py", "threading"),  # likewise
}


def _is_tool(module: Module) -> bool:
    return module.path.startswith(TOOLS)


FILE_SYSTEM = {
    "open", "os.open", "os.rename", "os.replace", "os.unlink", "os.remove", "os.mkdir", "os.makedirs", "os.rmdir",
    "os.listdir", "os.scandir", "os.stat", "os.statvfs", "os.fsync", "os.fdatasync", "os.ftruncate", "os.walk",
    "os.path.exists", "os.path.isdir", "os.path.isfile", "os.path.getsize", "io.open",
}  # fmt: skip
PATH_METHODS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rmdir", "touch", "iterdir", "rglob", "mkdir",
}  # fmt: skip
FILE_LIBRARIES = ("shutil", "tempfile", "mmap", "fcntl", "glob")
DISK = "firehose/buffer/disk.py"
READERS = {"firehose/config.py"}  # the configuration and secret files are read before there is a disk to speak of
# Descriptors between two processes, and no files.
PIPES = ("firehose/hooks/process.py", "firehose/hooks/worker.py", "firehose/forked_half.py")
MEMORY = ("firehose/http/shared.py",)  # files without a name, on no disk


def files(module: Module) -> Iterator[str]:
    """Every call that touches the file system beside the one door to it."""
    if module.path == DISK or module.path in (*READERS, *PIPES, *MEMORY) or _is_tool(module):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in FILE_SYSTEM or called.rpartition(".")[2] in PATH_METHODS:
                yield f"line {node.lineno}: calls {called}; the file system is {DISK}'s"
    yield from (
        f"imports {name}; that is {DISK}'s" for name in imported(module.tree) if name.split(".")[0] in FILE_LIBRARIES
    )


CLOCK = {"now", "utcnow", "today"}


def clock(module: Module) -> Iterator[str]:
    """Every reading of the wall clock, and every roll of dice, beside the runtime's."""
    if module.path == "firehose/runtime.py" or _is_tool(module):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            owner, _, method = dotted(node.func).rpartition(".")
            if (method in CLOCK and owner.split(".")[-1] in ("datetime", "date")) or f"{owner}.{method}" in DICE:
                yield f"line {node.lineno}: calls {owner}.{method}; clock and dice are firehose/runtime.py's"


DICE = {"uuid.uuid1", "uuid.uuid4", "os.urandom", "os.getrandom"}


def environment(module: Module) -> Iterator[str]:
    """Every look at the environment beside the configuration's."""
    if module.path == "firehose/config.py" or _is_tool(module):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv", "os.environb", "os.putenv"):
            yield f"line {node.lineno}: looks at {dotted(node)}; the environment is firehose/config.py's"


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; what is no name counts as `?`."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


# Size, documentation, names.


def size(module: Module) -> Iterator[str]:
    """Files and functions that nobody can take in."""
    lines = module.text.count("\n")
    if lines > FILE_LINES:
        yield f"has {lines} lines, more than {FILE_LINES}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.name} has {length} lines, more than {FUNCTION_LINES}"


def documented(module: Module) -> Iterator[str]:
    """A module that does not say why it exists. An empty `__init__` needs no words."""
    if module.text.strip() and not ast.get_docstring(module.tree):
        yield "has no docstring"


NAMES = re.compile(r"Manager|Helper|Util|Base$|Base[A-Z]")


def names(module: Module) -> Iterator[str]:
    """Classes and functions whose name says nothing."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and NAMES.search(node.name):
            yield f"{node.name} says nothing about what it is"


LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def leftovers(module: Module) -> Iterator[str]:
    """Work that was put off in a comment."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if LEFTOVER.search(line):
            yield f"line {number}: {line.strip()}"


def promises(module: Module) -> Iterator[str]:
    """Tests that do not say in a sentence what they promise."""
    for node in ast.walk(module.tree):
        is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if is_test and not ast.get_docstring(node):  # type: ignore[arg-type]
            yield f"{node.name} has no docstring"  # type: ignore[attr-defined]


SOURCE_RULES: tuple[Rule, ...] = (
    imports, libraries, files, clock, environment, size, documented, names, leftovers,
)  # fmt: skip
TEST_RULES: tuple[Rule, ...] = (documented, promises)
