"""One request, between the loop that waits for its answer and the thread that makes it.

A thread in a socket cannot be interrupted, but its connection can be ended under it: so a server that is silent, or
sends a byte now and then, holds no thread for longer than the whole request may take, and a delivery that is stopped
leaves none behind. The loop must never touch a connection of which the thread has no more need: another request may
have it by then.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from firehose.posting import Answer, Failed


class Answered(Exception):
    """The server has answered, with anything but 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"answers {answer.status}")
        self.answer = answer


class Request:
    """Made at an instant of the monotonic clock. `begun` is called in the thread, which may have to be waited for."""

    def __init__(self, at: float, begun: Callable[[], object]) -> None:
        self.at = at
        self._begun = begun
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self.ended = False

    def begin(self) -> None:
        """Raises `Failed` where nobody waits any more."""
        if self.ended:
            raise Failed("timeout", "nobody waits for the answer any more")
        self._begun()

    def over(self, connection: socket.socket) -> None:
        """It goes over this connection."""
        handle = socket.socket(fileno=os.dup(connection.fileno()))  # TLS takes over the socket that it is given
        self.done()
        with self._lock:
            self._handle = handle
        if self.ended:
            self.end()

    def done(self) -> None:
        """It has no more need of the connection."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def end(self) -> None:
        """Nobody waits for it any more: what it still does with its connection fails."""
        self.ended = True
        with self._lock, suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)


class Requests:
    """The one that each thread is at."""

    def __init__(self) -> None:
        self._at = threading.local()

    @contextmanager
    def turn(self, request: Request) -> Iterator[None]:
        request.begin()
        self._at.request = request
        try:
            yield
        finally:
            del self._at.request
            request.done()

    @property
    def current(self) -> Request:
        request: Request = self._at.request
        return request
