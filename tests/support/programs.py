"""Programs run beside a test: each in a process group of its own, logging to a file, killed at the end; and
commands, which run to their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 40
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 300  # a busy machine takes a minute or two for what an idle one does in a few seconds


def wait_for(
    condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS, tail: Callable[[], str] = str
) -> None:
    """Returns once the condition holds; AssertionError, with the tail of a log, where that takes too long.

    It looks again and again, for it is there for what other processes do: nobody tells us what comes true in them.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}\n{tail()}"
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port on loopback that nobody listens on, and that nobody is given until this process ends: the server that is
    told of it may start there late, be killed and start again, or never start.
    """
    holding = socket.socket()
    holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # where servers set it too, they may listen there
    holding.bind(("127.0.0.1", 0))
    port = int(holding.getsockname()[1])
    holding.detach()  # so it stays open
    return port


def environment(home: Path, **more: str) -> dict[str, str]:
    """Little more than a path: whatever the developer has configured must not reach a test."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        **more,
    }


@dataclass(slots=True)
class Program:
    """One program, which may be started again once it has ended. Its log goes on in the same file."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, process_group=0
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} has never been started"
        return self._process.pid

    def signal(self, number: int) -> None:
        """To the program itself, not to what it has started."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Kills it and all that it has started, at once."""
        if self._process is None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def wait_until(
        self, condition: Callable[[], bool], what: str = "to be ready", seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Returns once the condition holds; AssertionError where that takes too long or the program has ended."""

        def holds_or_dead() -> bool:
            assert self.alive, f"{self.name} ended with {self.wait()}:\n{self.tail()}"
            return condition()

        wait_for(holds_or_dead, f"{self.name} {what}", seconds, self.tail)

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])


@dataclass(slots=True)
class Programs:
    """All programs of a test run, killed where the run ends. `folder` holds their logs."""

    folder: Path
    all: list[Program] = field(default_factory=list)

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *error: object) -> None:
        for program in self.all:
            program.kill()

    def new(self, name: str, command: Sequence[str | Path], **variables: str) -> Program:
        """A program, not started yet. It inherits no variables but those given."""
        log = self.folder / f"{len(self.all):03d}-{name}.log"
        program = Program(name, [str(part) for part in command], log, environment(self.folder, **variables))
        self.all.append(program)
        return program


@dataclass(frozen=True, slots=True)
class Command:
    """A client that runs to its end: call it with arguments."""

    words: Sequence[str]
    environment: dict[str, str]

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        command = [*self.words, *(str(argument) for argument in arguments)]
        done = subprocess.run(
            command, input=stdin, env=self.environment, capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
