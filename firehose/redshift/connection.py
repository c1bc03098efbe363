"""The one door to Redshift: the only file that imports redshift_connector.

It is imported at the first connection, because with what it imports itself it takes a quarter of a second and 28 MiB
that a service without Redshift need not spend. All calls block, and none for ever: each wait for the far side's next
bytes has a bound. Whatever goes wrong comes out as `Failed`, which names AWS's code. A session that failed is good for
nothing but to be closed: the far side then undoes what was not committed. The driver is given a user and a password
only; how these come about is `login`'s. Its way by `connect` would ask AWS with clients of its own, without bounds.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from firehose.redshift import codes

T = TypeVar("T")
TlsMode = Literal["verify-full", "verify-ca", "disable"]
APPLICATION = "firehose"
TEXT_LIMIT = 500  # characters of a far side's message that a reason may repeat
KEEPALIVE = {"tcp_keepalive_idle": 30, "tcp_keepalive_interval": 10, "tcp_keepalive_count": 3}


class Failed(Exception):
    """What the far side, or the way to it, made of a call. `state` is the SQLSTATE, empty where none was told."""

    def __init__(self, code: str, message: str, state: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.state = state


@dataclass(frozen=True, slots=True)
class Login:
    """Where to, and as whom."""

    host: str
    port: int
    database: str
    user: str
    password: str
    tls: TlsMode

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


class Connection:
    """One session, for one thread."""

    def __init__(self, login: Login, timeout_seconds: float) -> None:
        """Raises `Failed`."""
        with _told():
            self._session = _session(login, timeout_seconds)

    def bound(self, seconds: float) -> None:
        """From now on the far side may be silent for so long."""
        self._session._usock.settimeout(seconds)  # the driver has one time-out for all, given when it connects

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Runs one statement, in a transaction that the first one begins; its rows, where it has any. `%s` in the
        statement stands for a value, where some are given. Raises `Failed`.
        """
        with _told():
            cursor = self._session.cursor()
            cursor.execute(statement, values or None)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def commit(self) -> None:
        """Raises `Failed`: then nobody knows whether it is done, unless the far side has said no."""
        with _told():
            self._session.commit()

    def rollback(self) -> None:
        with _told():
            self._session.rollback()

    def close(self) -> None:
        """Never fails, and may be repeated."""
        _quietly(self._session.close)
        _drop(self._session)


def _session(login: Login, timeout_seconds: float) -> Any:
    from redshift_connector.core import Connection as Driven

    class Session(Driven):
        """The driver leaves its socket open where a login fails."""

        def __init__(self, **how: Any) -> None:
            try:
                super().__init__(**how)
            except BaseException:
                _drop(self)
                raise

    return Session(
        user=login.user,
        password=login.password,
        database=login.database,
        host=login.host,
        port=login.port,
        ssl=login.tls != "disable",
        sslmode=login.tls,
        timeout=timeout_seconds,
        application_name=APPLICATION,
        **KEEPALIVE,
    )


def _drop(session: Any) -> None:
    """Lets go of the socket, and of the file over it, whatever state they are in."""
    for part in ("_sock", "_usock"):
        held = getattr(session, part, None)
        if held is not None:
            _quietly(held.close)


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        pass  # of a session that is given up: what it has to say helps nobody


@contextmanager
def _told() -> Iterator[None]:
    from redshift_connector.error import Error

    try:
        yield
    except Error as error:
        raise _of_driver(error) from error
    except OSError as error:
        raise _of_network(error) from error
    except Exception as error:
        # The driver stumbles in many ways over bytes that no Redshift would send.
        raise Failed(codes.CONNECTION, f"its answer cannot be read: {error!r}"[:TEXT_LIMIT]) from error


def _of_driver(error: Exception) -> Failed:
    said = error.args[0] if error.args else ""
    if isinstance(said, dict):
        state, message = str(said.get("C", "")), str(said.get("M", ""))
        whole = f"{message} ({said['D']})" if said.get("D") else message
        return Failed(codes.name(state, whole), f"{whole[:TEXT_LIMIT]} [SQLSTATE {state}]", state)
    cause = error.args[1] if len(error.args) > 1 else None
    if isinstance(cause, OSError):
        return _of_network(cause)
    if "refuses SSL" in str(said):
        return Failed("SslNotSupported", "the server takes no TLS")
    return Failed(
        codes.CONNECTION, "the connection was closed" if "BrokenPipe" in str(said) else str(said)[:TEXT_LIMIT]
    )


def _of_network(error: OSError) -> Failed:
    said = str(error.strerror or error)[:TEXT_LIMIT]
    if isinstance(error, socket.gaierror):
        return Failed(codes.CONNECTION, f"its name cannot be resolved: {said}")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason or said
        return Failed("SslFailure", f"TLS fails: {reason}")
    if isinstance(error, TimeoutError):
        return Failed(codes.CONNECTION, "does not answer in time")
    return Failed(codes.CONNECTION, said)
