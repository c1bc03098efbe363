"""Bodies of dead letters go back until they are answered for; a service in memory says what it was sent."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.cli.client import Answer, Broken, Client, Unreachable
from firehose.cli.replaying import BODY_LETTERS, Back, Body, Found, Replay, Tally, bodies
from firehose.cli.running import Stopped

LATER = Answer(503, {"error": "the buffer is full"}, 7.0)
Told = Answer | Exception


class Remembering(Client):
    """Knows what it has had, as the service does. Before that it answers by its script, a `Broken` after it stored."""

    def __init__(self, *script: Told, limit: int = 1 << 30) -> None:
        self.url = "http://service"
        self.had: dict[tuple[str, str, int], bytes] = {}
        self._script: Sequence[Told] = script
        self._limit = limit

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        told, *rest = self._script or (None,)
        self._script = rest
        if isinstance(told, Unreachable):
            raise told
        if isinstance(told, Answer):
            return told
        if len(body) > self._limit:
            return Answer(413, {"error": "too large"})
        answer = self._stored(path, json.loads(body)["letters"])
        if told is not None:
            raise told
        return answer

    def _stored(self, path: str, letters: list[dict[str, object]]) -> Answer:
        at = urlsplit(path)
        (name,) = parse_qs(at.query)["object"]
        keys = {(at.path, name, int(str(one["line"]))): b64decode(str(one["data"])) for one in letters}
        new = {key: data for key, data in keys.items() if key not in self.had}
        if "dry_run" not in at.query:
            self.had.update(new)
        return Answer(200, {"replayed": len(new), "known": len(keys) - len(new), "refused": []})


def body(first: int = 1, end: int = 4, name: str = "s3://lake/a b&c") -> Body:
    return Body("app", name, [Back(line, b"%d" % line, "Code") for line in range(first, end)])


async def replay(client: Client, *given: Body, waits: list[float] | None = None, dry_run: bool = False) -> Tally:
    async def pause(seconds: float) -> None:
        assert waits is not None, "nothing was to wait"
        waits.append(seconds)

    tally = Tally()
    await Replay(client, tally, dry_run, patience_seconds=20, pause=pause).run(given, lambda reason: None)
    return tally


async def test_all_is_sent_and_counted() -> None:
    """Letters arrive byte for byte under their stream, object and line, and the tally adds up."""
    client = Remembering()
    tally = await replay(client, body(), body(3, 6))
    path = "/v1/streams/app/replay"
    assert client.had == {(path, "s3://lake/a b&c", line): b"%d" % line for line in range(1, 6)}
    assert (tally.replayed, tally.known, tally.refused, tally.letters) == (5, 1, 0, 6)
    assert (tally.bytes, tally.codes) == (6, {"Code": 6})


async def test_dry_run() -> None:
    """A dry run is told what would be, and sends nothing that is stored."""
    client = Remembering()
    assert (await replay(client, body(), dry_run=True)).replayed == 3
    assert client.had == {}


async def test_waits_as_long_as_the_service_asks() -> None:
    """503, no service at all and a broken connection are waited for; what was stored meanwhile is known."""
    waits: list[float] = []
    client = Remembering(LATER, Unreachable("nobody"), Broken("gone"))
    tally = await replay(client, body(), waits=waits)
    assert waits == [7.0, 1.0, 1.0]
    assert (tally.replayed, tally.known) == (0, 3)
    assert len(client.had) == 3


async def test_patience_ends() -> None:
    """A service that does not come back ends the run, with its reason."""
    waits: list[float] = []
    with pytest.raises(Stopped, match=r"the buffer is full; gave up after 14 seconds"):
        await replay(Remembering(*[LATER] * 9), body(), waits=waits)
    assert waits == [7.0, 7.0]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 507])
async def test_other_answers_end_the_run(status: int) -> None:
    """What waiting does not mend ends the run with the service's words."""
    with pytest.raises(Stopped, match=f"answers {status}: why"):
        await replay(Remembering(Answer(status, {"error": "why"})), body())


async def test_bodies_too_large_for_the_service() -> None:
    """A body over the service's own bound is cut until it fits; a letter that never does is refused, others go on."""
    client = Remembering(limit=100)
    large = Body("app", "a", [*body(1, 9).letters, Back(9, b"x" * 200)])
    tally = await replay(client, large)
    assert (tally.replayed, tally.refused, tally.letters) == (8, 1, 9)
    assert tally.refusals == ["a, document 9: too large"]


LETTERS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.binary(max_size=9)), max_size=40)


@given(LETTERS, st.integers(1, 30))
def test_bodies_are_the_letters(given_letters: list[tuple[str, str, bytes]], size: int) -> None:
    """Bodies joined are the letters in their order; each is of one object and too large only if one letter is."""
    found: list[Found] = [(stream, name, Back(n, data)) for n, (stream, name, data) in enumerate(given_letters)]
    made = list(bodies(found, size))
    assert [(one.stream, one.object, letter) for one in made for letter in one.letters] == found
    assert all(sum(len(letter.data) for letter in one.letters) <= size or len(one.letters) == 1 for one in made)


def test_bodies_are_bounded_in_letters() -> None:
    """Letters without any data fill a body too."""
    made = bodies(("app", "a", Back(line, b"")) for line in range(BODY_LETTERS + 1))
    assert [len(one.letters) for one in made] == [BODY_LETTERS, 1]
