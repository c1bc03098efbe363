"""A YAML document with the line of every value, `${...}` references, and problems that name path, line and the way out.

Pure: what a variable or a secret file holds comes in as a function. A problem never shows a substituted value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

Path = tuple[str | int, ...]
REFERENCE = re.compile(r"\$(\$?)\{([^}]*)\}")
URL_WITH_USER = re.compile(r"//[^/\s]*@")  # http://user:password@host
SECRET_KEY = re.compile(r"password|secret|token|access_key|api_key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a file. `line` counts from 1; 0 where there is none."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ConfigError(Exception):
    """Everything that is wrong with a configuration, together."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(set(problems)))
        many = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{name}: {many}", *(f"  {problem}" for problem in self.problems)]))


@dataclass(slots=True)
class YamlFile:
    """A parsed document: plain values, and where each of them stands."""

    name: str
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    resolved: dict[Path, str] = field(default_factory=dict, repr=False)  # values that references gave
    unresolved: set[Path] = field(default_factory=set)  # where a reference led nowhere

    def complain(self, path: Path, message: str) -> None:
        """What is wrong at `path`. Where the message repeats a value that came by reference, the reference is shown."""
        if path in self.unresolved:
            return  # a value that is not there cannot be wrong, too
        for place, value in self.resolved.items():
            written = str(self.written(place))
            if place[: len(path)] == path and value not in written:
                message = message.replace(value, written)
        self.problems.append(Problem(self.line(path), dotted(path), message))

    def line(self, path: Path) -> int:
        """Line of the value at `path`, or of its nearest parent that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def written(self, path: Path) -> Any:
        """The value at `path` as the file has it, references and all; None where there is none."""
        value = self.data
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def check(self) -> None:
        if self.problems:
            raise ConfigError(self.name, self.problems)


def dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def substitute(file: YamlFile, lookup: Callable[[str], str | None]) -> Any:
    """The data with `${NAME}`, `${NAME:-default}` and `${file:/path}` replaced; `$${` stands for `${`.

    `lookup` gets `NAME` or `file:/path` and answers the text, or None where there is none, which is a problem.
    """
    return _substitute(file.data, (), file, lookup)


def _substitute(value: Any, path: Path, file: YamlFile, lookup: Callable[[str], str | None]) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(child, (*path, key), file, lookup) for key, child in value.items()}
    if isinstance(value, list):
        return [_substitute(child, (*path, index), file, lookup) for index, child in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        known = len(file.problems)
        value = REFERENCE.sub(lambda match: _reference(match, path, file, lookup), value)
        file.resolved[path] = value
        if len(file.problems) > known:
            file.unresolved.add(path)
    return value


def _reference(match: re.Match[str], path: Path, file: YamlFile, lookup: Callable[[str], str | None]) -> str:
    escaped, body = match.groups()
    if escaped:
        return "${" + body + "}"
    name, has_default, default = (body, "", "") if body.startswith("file:") else body.partition(":-")
    if "${" in default:
        file.complain(path, f"the default of {name} holds a reference; a default is plain text")
    found = lookup(name)
    if found or (found is not None and not has_default):
        return found
    if not has_default:
        if name.startswith("file:"):
            file.complain(path, f"the file {name[5:]} is missing, or no text that the service's user may read")
        elif name:
            file.complain(path, f"{name} is not set; set it, or write a default: ${{{name}:-value}}")
        else:
            file.complain(path, "a reference names nothing; write ${NAME}, or $${ where ${ itself is meant")
    return default


def nearest(word: str, choices: Sequence[str]) -> str:
    """A hint for a misspelt word: the nearest choice, or all of them where none is near."""
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose from {', '.join(sorted(choices))}" if choices else ""


def shown(file: YamlFile, path: Path) -> str:
    """The value at `path` fit for a message: as written, and never a secret."""
    value = file.written(path)
    if value is None or isinstance(value, dict | list):
        return ""
    if any(isinstance(step, str) and SECRET_KEY.search(step) for step in path) or URL_WITH_USER.search(str(value)):
        return ""
    return f" (is {value!r})"
