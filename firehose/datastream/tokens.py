"""NextToken: where a listing goes on, as an opaque text that is good for 300 seconds.

It holds all that the listing was asked for, so that its next page needs nothing else, and a checksum: a text that is
none of ours is told apart, but whoever makes one up gains nothing, since a request may say the same itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2s
from typing import Any

import msgspec
import pybase64

from firehose.http.aws_json import ApiError

LIFE_MS = 300_000
_CHECK_BYTES = 8


def token(kind: str, now_ms: int, **said: Any) -> str:
    """What a listing of that kind goes on with."""
    content = msgspec.json.encode([kind, now_ms, said])
    return pybase64.urlsafe_b64encode(_check(content) + content).decode()


def told(kind: str, text: str, now_ms: int) -> Mapping[str, Any]:
    """What the token says. Raises `ApiError` where it is none of that kind, or too old."""
    try:
        raw = pybase64.b64decode(text, altchars=b"-_", validate=True)
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != _check(content):
            raise ValueError("the checksum is wrong")
        its_kind, made_ms, said = msgspec.json.decode(content, type=tuple[str, int, dict[str, Any]])
    except ValueError:
        raise ApiError("InvalidArgumentException", "Invalid NextToken.") from None
    if its_kind != kind:
        raise ApiError("InvalidArgumentException", "Invalid NextToken.")
    if not 0 <= now_ms - made_ms <= LIFE_MS:
        raise ApiError("ExpiredNextTokenException", f"NextToken has expired: it is good for {LIFE_MS} milliseconds.")
    return said


def _check(content: bytes) -> bytes:
    return blake2s(content, digest_size=_CHECK_BYTES).digest()
