"""`service.api_keys`: which requests carry one of the keys."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.http.auth import Keys
from firehose.http.wire import Head

KEYS = Keys([b"first", b"s:econd"])


def head(**headers: bytes) -> Head:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Head("POST", "/ingest/app", b"", named)


def basic(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": b"Bearer first"},
        {"authorization": b"bearer  first "},
        {"x_api_key": b"s:econd"},
        {"authorization": basic(b"anybody:s:econd")},
        {"authorization": basic(b":first")},
        {"authorization": b"Bearer wrong", "x_api_key": b"first"},
    ],
)
def test_admitted(headers: dict[str, bytes]) -> None:
    """A key is taken as Bearer, X-Api-Key, or the password of Basic credentials, whoever the user."""
    assert KEYS.admit(head(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": b""},
        {"authorization": b"first"},
        {"authorization": b"Bearer"},
        {"authorization": b"Bearer firs"},
        {"authorization": b"Bearer firstx"},
        {"authorization": b"Token first"},
        {"authorization": basic(b"first")},
        {"authorization": basic(b"first:")},
        {"authorization": b"Basic first"},
        {"authorization": b"Basic \xff"},
        {"x_api_key": b""},
    ],
)
def test_refused(headers: dict[str, bytes]) -> None:
    """Whatever carries none of the keys, whole and in its place, is refused."""
    assert not KEYS.admit(head(**headers))


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_nothing_crashes(authorization: bytes, key: bytes) -> None:
    """Any header value is admitted or refused; without keys everybody is admitted."""
    asked = head(authorization=authorization, x_api_key=key)
    assert KEYS.admit(asked) in ((True,) if key in KEYS.keys else (True, False))
    assert Keys([]).admit(asked)
