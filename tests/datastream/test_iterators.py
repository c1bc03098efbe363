"""Iterators: tokens that only we make, that live for five minutes, and outlive the process."""

from __future__ import annotations

from dataclasses import replace

import pytest
import virtual_time
from hypothesis import given
from hypothesis import strategies as st
from stream_shop import SECRET
from virtual_time import VirtualRuntime, passed

from firehose.datastream.iterators import Iterators
from firehose.datastream.model import Definition
from firehose.http.aws_json import ApiError

CLICKS = Definition("clicks", "clicks-1", 0, "ACTIVE", "PROVISIONED")
LIFE = 300
NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=128)


@given(NAMES, st.text("abc-0", min_size=1, max_size=200), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_what_a_token_says_is_read_again(name: str, stream_id: str, shard: int, position: int) -> None:
    """Stream, shard and position, whatever they are, in no more characters than AWS allows."""

    async def main() -> None:
        iterators = Iterators(lambda: SECRET, VirtualRuntime())
        definition = replace(CLICKS, name=name, id=stream_id)
        token = iterators.issue(definition, shard, position)
        assert 1 <= len(token) <= 512
        assert '"' not in token
        place = iterators.read(token)
        assert (place.stream, place.shard, place.position) == (name, shard, position)
        assert place.within(definition)
        assert not place.within(replace(definition, id=stream_id + "x"))
        assert iterators.read(f'"{token}"') == place

    virtual_time.run(main())


@given(st.data())
def test_a_token_that_was_changed_is_none(data: st.DataObject) -> None:
    """Whatever character of it became another."""

    async def main() -> None:
        iterators = Iterators(lambda: SECRET, VirtualRuntime())
        token = iterators.issue(CLICKS, 1, 2)
        place = data.draw(st.integers(0, len(token.rstrip("=")) - 2))  # the last one has bits that say nothing
        other = data.draw(st.sampled_from("abcdefgABCDEFG0123456789-_").filter(lambda one: one != token[place]))
        _invalid(iterators, token[:place] + other + token[place + 1 :])

    virtual_time.run(main())


@pytest.mark.parametrize("text", ["", "x", "AAAA", '"', "é", "=" * 40, "A" * 512, "AAAAAAAAAAE" * 20])
async def test_garbage_is_no_token(text: str) -> None:
    """It is told as AWS tells it."""
    _invalid(Iterators(lambda: SECRET, VirtualRuntime()), text)


async def test_another_key_makes_other_tokens() -> None:
    """Whoever does not know the key makes none that counts."""
    forged = Iterators(lambda: b"another key of sixteen", VirtualRuntime()).issue(CLICKS, 0, 0)
    _invalid(Iterators(lambda: SECRET, VirtualRuntime()), forged)


async def test_no_two_tokens_are_the_same() -> None:
    """Not even those of one place in one millisecond."""
    iterators = Iterators(lambda: SECRET, VirtualRuntime())
    assert len({iterators.issue(CLICKS, 0, 0) for _ in range(1000)}) == 1000


def test_a_token_lives_for_five_minutes() -> None:
    """And no longer, which the answer says with both instants."""

    async def main() -> None:
        iterators = Iterators(lambda: SECRET, VirtualRuntime())
        token = iterators.issue(CLICKS, 0, 7)
        await passed(LIFE)
        assert iterators.read(token).position == 7
        await passed(1)
        with pytest.raises(ApiError) as expired:
            iterators.read(token)
        assert (expired.value.code, expired.value.message) == (
            "ExpiredIteratorException",
            "Iterator expired. The iterator was created at time Sun Mar 01 12:00:00 UTC 2026 while right now it is "
            "Sun Mar 01 12:05:01 UTC 2026 which is further in the future than the tolerated delay of 300000 "
            "milliseconds.",
        )

    virtual_time.run(main())


@pytest.mark.parametrize("jump_seconds", [-86_400, -3, 0, 3, 86_400])
def test_a_clock_that_jumps_changes_nothing(jump_seconds: int) -> None:
    """While the process lives, its tokens age with the time that passes."""

    async def main() -> None:
        runtime = VirtualRuntime()
        iterators = Iterators(lambda: SECRET, runtime)
        token = iterators.issue(CLICKS, 0, 7)
        runtime.wall_ms += jump_seconds * 1000
        await passed(LIFE - 1)
        assert iterators.read(token).position == 7
        await passed(2)
        _expired(iterators, token)

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("jump_seconds", "lives"), [(-86_400, False), (-LIFE - 1, False), (-10, True), (0, True), (LIFE + 1, False)]
)
def test_a_restart_keeps_tokens(jump_seconds: int, lives: bool) -> None:
    """As long as the wall clock gives no reason for doubt; put back, it makes none immortal."""

    async def main() -> None:
        runtime = VirtualRuntime()
        token = Iterators(lambda: SECRET, runtime).issue(CLICKS, 0, 7)
        runtime.wall_ms += jump_seconds * 1000
        after = Iterators(lambda: SECRET, runtime)
        if lives:
            assert after.read(token).position == 7
            await passed(2 * LIFE + 1)
        _expired(after, token)

    virtual_time.run(main())


def _invalid(iterators: Iterators, token: str) -> None:
    with pytest.raises(ApiError) as refused:
        iterators.read(token)
    assert (refused.value.code, refused.value.message) == ("InvalidArgumentException", "Invalid ShardIterator.")


def _expired(iterators: Iterators, token: str) -> None:
    with pytest.raises(ApiError) as refused:
        iterators.read(token)
    assert refused.value.code == "ExpiredIteratorException"
