"""Secrets kept out of texts: some far sides repeat the key that they do not like, and reasons repeat what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

HIDDEN = "***"
LEAST_CHARACTERS = 4  # what is shorter hides nothing, and would spoil every other word


class Hidden:
    """Every secret of a block and of the blocks within it."""

    def __init__(self, options: BaseModel) -> None:
        found = {text for text in _secrets(options) if len(text) >= LEAST_CHARACTERS}
        self._secrets = sorted(found, key=len, reverse=True)  # one may begin with another

    def out_of(self, text: str) -> str:
        """The text, `***` in place of each secret."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def _secrets(held: Any) -> Iterator[str]:
    if isinstance(held, SecretStr):
        yield held.get_secret_value()
    elif isinstance(held, BaseModel):
        for _, value in held:
            yield from _secrets(value)
    elif isinstance(held, Mapping):
        for value in held.values():
            yield from _secrets(value)
