"""A real PostgreSQL, with a data folder of its own, and a look into its tables that owes nothing to the service."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import PATIENCE_SECONDS, Programs, free_port, wait_for

OWNER, OWNER_PASSWORD = "owner", "owner-hush-hush"
PLACES = (".tools/postgresql/bin", *(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))))
SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in its folder: it is killed, and would leave it in the machine's memory
}
LOGINS = ("nobody", "postgres")  # it refuses to run as root


def executable(name: str) -> str | None:
    """Where the program is: under .tools, where Debian puts it, or else on the path."""
    found = (shutil.which(name, path=str(Path(place).absolute())) for place in reversed(PLACES))
    return next(filter(None, found), None) or shutil.which(name)


def running(programs: Programs) -> Iterator[Postgres]:
    """For fixtures."""
    if executable("postgres") is None:
        pytest.skip("no PostgreSQL: tests/live/install gets it")
    server = Postgres(programs)
    try:
        server.start()
        yield server
    finally:
        server.close()


class Postgres:
    """One server. It may be killed and started again on the same port."""

    def __init__(self, programs: Programs) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._as_owner: list[str] = []
        if os.getuid() == 0:
            login = pwd.getpwnam(LOGINS[0])
            os.chown(self.folder, login.pw_uid, login.pw_gid)
            self._as_owner = ["setpriv", f"--reuid={login.pw_uid}", f"--regid={login.pw_gid}", "--clear-groups"]
        self._initialise()
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        command = [_needed("postgres"), "-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)]
        self.program = programs.new("postgres", [*self._as_owner, *command, *settings])

    def _initialise(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(OWNER_PASSWORD)
        secret.chmod(0o644)
        words = ["-D", self.folder / "data", "-U", OWNER, "--pwfile", secret, "-A", "password", "-E", "UTF8"]
        words += ["--locale=C", "--no-sync"]
        command = [*self._as_owner, _needed("initdb"), *map(str, words)]
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=PATIENCE_SECONDS)

    def start(self) -> None:
        """Backends of a server that was killed end by themselves, a moment later, and until then it will not start."""
        wait_for(self._started, "PostgreSQL to answer", tail=self.program.tail)

    def _started(self) -> bool:
        if not self.program.alive:
            self.program.start()
        return self._answers()

    def close(self) -> None:
        self.program.kill()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        return self._psql("SELECT 1", "postgres").returncode == 0

    def new_database(self) -> str:
        name = f"dev_{os.urandom(6).hex()}"
        self.query(f"CREATE DATABASE {name}", "postgres")
        return name

    def query(self, statement: str, database: str) -> list[list[str]]:
        """The rows, each value as text."""
        done = self._psql(statement, database)
        assert done.returncode == 0, done.stderr
        rows = done.stdout.removesuffix("\n")
        return [row.split("\x1f") for row in rows.split("\x1e")] if rows else []

    def _psql(self, statement: str, database: str) -> subprocess.CompletedProcess[str]:
        where = f"host=127.0.0.1 port={self.port} user={OWNER} password={OWNER_PASSWORD} dbname={database}"
        options = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "-F", "\x1f", "-R", "\x1e"]
        command = [_needed("psql"), *options, "--command", statement, where]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def _needed(name: str) -> str:
    path = executable(name)
    assert path is not None, f"no {name}: tests/live/install gets PostgreSQL"
    return path
