"""Imported late, and by name."""


def suffixed(record: bytes) -> bytes:
    return record + b"."
