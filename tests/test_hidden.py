"""Secrets kept out of texts."""

from __future__ import annotations

from pydantic import SecretStr

from firehose.blocks import Block
from firehose.hidden import Hidden


class Within(Block):
    password: SecretStr
    pin: SecretStr = SecretStr("123")


class Options(Block):
    name: str = "visible"
    token: SecretStr | None = None
    within: Within | None = None
    headers: dict[str, SecretStr] = {}


def test_secrets_are_found_wherever_they_are() -> None:
    """A block's own secrets, those of blocks within it, and those by name; nothing else is touched."""
    within = Within(password=SecretStr("opening"))
    hidden = Hidden(Options(token=SecretStr("open"), within=within, headers={"X": SecretStr("sesame")}))
    assert hidden.out_of("visible: open sesame, opening 123") == "visible: *** ***, *** 123"


def test_nothing_to_hide() -> None:
    """Secrets that are empty or so short that words hold them by chance spoil no text."""
    assert Hidden(Options(token=SecretStr(""))).out_of("as it is") == "as it is"
    assert Hidden(Options(token=SecretStr("is"))).out_of("as it is") == "as it is"
