"""`service.api_keys`: who may post records and give orders. Without keys everybody may.

A key comes as `Authorization: Bearer KEY`, `X-Api-Key: KEY`, as the password of Basic credentials, or as Amazon Data
Firehose sends it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import pybase64

from firehose.http.wire import Head

KEY_HEADERS = (b"x-api-key", b"x-amz-firehose-access-key")


@dataclass(frozen=True, slots=True)
class Keys:
    keys: Sequence[bytes]

    def admit(self, head: Head) -> bool:
        """True where the request carries one of the keys, or none is asked for."""
        if not self.keys:
            return True
        given = presented(head)
        return sum(hmac.compare_digest(key, one) for key in self.keys for one in given) > 0  # all: no early end


def presented(head: Head) -> list[bytes]:
    """Every key that the request presents, in whichever way."""
    given = [head.headers[name] for name in KEY_HEADERS if name in head.headers]
    scheme, _, rest = head.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        given.append(rest.strip())
    if scheme.lower() == b"basic":
        given += _password(rest.strip())
    return given


def _password(credentials: bytes) -> list[bytes]:
    try:
        return [pybase64.b64decode(credentials, validate=True).partition(b":")[2]]
    except ValueError:
        return []
