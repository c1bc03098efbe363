"""What a server says to a bulk request, document by document.

Servers differ in what they say beside: what is not looked at may be anything. An answer that does not speak of as many
documents as were sent is no answer: nobody knows which of them it means.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# All that is looked at; of a large request the rest of the answer would be as large as the request.
LOOKED_AT = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
REASON_CHARACTERS = 1000
PASSING = (401, 403, 404, 429)  # rights, blocks and missing indices are the cluster's, and may be mended meanwhile
# So are these, which it calls 400: an index that is closed, or one shard too many; an alias without one index to write
# to; a pipeline of the index that is not there.
PASSING_TYPES = ("index_closed_exception", "validation_exception")
PASSING_REASONS = ("no write index is defined", "pipeline with id [")


class Mismatch(ValueError):
    """It speaks of fewer documents than were sent, or of more."""


class Cause(msgspec.Struct):
    reason: str | None = None


class Error(msgspec.Struct):
    type: str | None = None
    reason: str | None = None
    caused_by: Cause | None = None


class Item(msgspec.Struct):
    """What became of one document."""

    status: int
    error: Error | str | None = None  # a text in Elasticsearch 1

    def passes(self) -> bool:
        """Whether the same document may be taken another time."""
        if self.status in PASSING or self.status >= 500 or self.status < 400:
            return True
        error = self.error if isinstance(self.error, Error) else Error()
        return error.type in PASSING_TYPES or (error.reason or "").startswith(PASSING_REASONS)

    def reason(self) -> str:
        if not isinstance(self.error, Error):
            return (self.error or f"status {self.status}")[:REASON_CHARACTERS]
        cause = self.error.caused_by.reason if self.error.caused_by else None
        said = ": ".join(part for part in (self.error.type, self.error.reason, cause) if part)
        return (said or f"status {self.status}")[:REASON_CHARACTERS]


class Items(msgspec.Struct):
    """An answer to a bulk request."""

    items: list[dict[str, Item]]

    def each(self) -> list[Item]:
        return [item for one in self.items for item in one.values()]


def failures(body: bytes, count: int, exists_is_taken: bool) -> Sequence[tuple[int, Item]]:
    """Of the documents that were not taken, the place in the request and what the server said. Raises ValueError.

    `exists_is_taken`: a document that could not be created because its id is there is one that arrived before.
    """
    if b'"errors":false' in body and body.count(b'"status":20') == count == body.count(b'"status":'):
        return ()
    items = msgspec.json.decode(body, type=Items).each()
    if len(items) != count:
        raise Mismatch(f"speaks of {len(items)} documents, where {count} were sent")
    there = (409,) if exists_is_taken else ()
    return [(at, item) for at, item in enumerate(items) if not 200 <= item.status < 300 and item.status not in there]
