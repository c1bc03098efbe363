"""Dead letters on their way back: `POST /v1/streams/{stream}/replay?object=NAME`, each stored once, ever.

The body is `{"letters":[{"line":0,"data":"<base64>"}, ...]}`: lines of one object of an error output, and the raw data
that stood there, which is stored byte for byte. A letter is known by its object and line. Which ones a stream has had
back is durable in the same frame as their records (see `replayed`), so that whoever is unsure what became of a request
sends it again: what is known is passed over. Success is 200 with

    {"replayed":n,"known":m,"refused":[{"line":0,"reason":"..."}]}

after the commit; with `&dry_run=true` that says what would be, and nothing is stored. "Slow down" is 503.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Annotated
from urllib.parse import parse_qs

import msgspec
import pyarrow as pa

from firehose.contracts import Unavailable
from firehose.http.wire import JSON, Head, Reply, Route
from firehose.ingest.dialects.generic import SHOWN_CHARACTERS, no_room, refuse
from firehose.ingest.gathering import batch_of
from firehose.ingest.intake import Intake, Intakes
from firehose.ingest.replayed import BLOCK_LINES, Lines, partition
from firehose.ingest.salvage import TooMany
from firehose.ingest.splitting import SplitOptions
from firehose.model import NewerFormat, Origin
from firehose.runtime import Threads

PREFIX, SUFFIX = "/v1/streams/", "/replay"
BLOCKS_LIMIT = 100_000  # source partitions that a stream remembers: some 30 MB
OBJECT_CHARACTERS = 4096  # of a name: a store and a key of it
LINES_LIMIT = 2**53  # beyond it JSON has no whole numbers that everybody reads alike


class Letter(msgspec.Struct, gc=False):
    line: Annotated[int, msgspec.Meta(ge=0, lt=LINES_LIMIT)]
    data: bytes


class Letters(msgspec.Struct):
    letters: list[Letter]


@dataclass(frozen=True, slots=True)
class Sorted:
    """A request's letters by block, in the order of their lines, and those that are no records of this stream."""

    blocks: list[tuple[int, list[Letter]]]
    refused: list[dict[str, object]]


class Gone(Exception):
    """The stream went away while the request was under way."""


class TooManyBlocks(Exception):
    """The stream remembers as many replayed objects as it may."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Answers for every stream there is. Replays of one stream are stored one after the other."""

    intakes: Intakes
    threads: Threads
    admit: Callable[[Head], bool]
    body_limit_bytes: int
    blocks_limit: int = BLOCKS_LIMIT
    _turns: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _under_way: set[asyncio.Task[Reply]] = field(default_factory=set)

    def route(self) -> Route:
        return Route(self._begin, self._finish, self.body_limit_bytes, refuse, _turn)

    def _begin(self, head: Head) -> Reply | None:
        name = _stream(head)
        if not self.admit(head):
            return refuse(401, "send one of service.api_keys as Authorization: Bearer, X-Api-Key, or Basic password")
        intake = self.intakes.get(name)
        if intake is None:
            return refuse(404, f"there is no delivery stream '{name[:SHOWN_CHARACTERS]}'")
        if head.method != "POST":
            return Reply(405, b'{"error":"use POST"}', (*JSON, (b"allow", b"POST")))
        if intake.source != "direct_put":
            return refuse(400, f"'{name}' takes its records from a {intake.source}, not over HTTP")
        if not 0 < len(_asked(head, "object")) <= OBJECT_CHARACTERS:
            return refuse(400, f"name the object of the letters in {OBJECT_CHARACTERS} characters: ?object=NAME")
        if head.header(b"content-encoding") not in ("", "identity"):
            return refuse(400, "send the letters without a Content-Encoding")
        return no_room(head, intake)

    async def _finish(self, head: Head, body: bytes) -> Reply:
        """Whoever stops waiting leaves the work to its end: a turn is over only once the records are stored."""
        task = asyncio.get_running_loop().create_task(self._answer(head, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _answer(self, head: Head, body: bytes) -> Reply:
        stream = _stream(head)
        try:
            letters = await self.threads.run(partial(_sorted, body, self._intake(stream).split))
            async with self._turns[stream]:
                return await self._stored(self._intake(stream), head, letters)
        except Gone:
            return refuse(404, "the delivery stream is gone")
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            return refuse(400, f'the body is to be {{"letters":[{{"line":0,"data":"<base64>"}}, ...]}}: {error}')
        except TooMany as error:
            return refuse(413, f"a body may hold {error.limit} letters (service.body_limit_records); send it in parts")
        except NewerFormat as error:
            return refuse(409, str(error))
        except TooManyBlocks as error:
            return refuse(507, str(error))
        except Unavailable as error:
            return refuse(503, error.reason, error.after_seconds)

    def _intake(self, stream: str) -> Intake:
        intake = self.intakes.get(stream)
        if intake is None:
            raise Gone
        return intake

    async def _stored(self, intake: Intake, head: Head, letters: Sorted) -> Reply:
        name, dry = _asked(head, "object"), _asked(head, "dry_run") == "true"
        replayed = 0
        for block, those in letters.blocks:
            replayed += await self._append(intake, partition(name, block), those, dry)
        known = sum(len(those) for _, those in letters.blocks) - replayed
        said = {"replayed": replayed, "known": known, "refused": letters.refused}
        return Reply(200, msgspec.json.encode(said), JSON)

    async def _append(self, intake: Intake, source: str, letters: list[Letter], dry: bool) -> int:
        """What is new of one block and the memory of it, in one append; how many letters that is."""
        known = intake.appender.origins()
        if source not in known and len(known) >= self.blocks_limit:
            raise TooManyBlocks(
                f"'{intake.stream}' remembers {self.blocks_limit} replayed objects and has no room for another one; "
                "replay into another stream"
            )
        cursor = known[source].cursor if source in known else ""
        records, origin = await self.threads.run(partial(_new, letters, Origin(source, cursor)))
        if records.num_rows and not dry:
            await intake.appender.append(records, origin)
        return int(records.num_rows)


def _sorted(body: bytes, options: SplitOptions) -> Sorted:
    """Looks at letter by letter. Raises `TooMany`, MsgspecError, RecursionError, UnicodeDecodeError."""
    letters = msgspec.json.decode(body, type=Letters).letters
    if len(letters) > options.max_records:
        raise TooMany(options.max_records)
    limit = options.max_record_bytes
    refused: list[dict[str, object]] = [
        {"line": one.line, "reason": f"{len(one.data)} bytes, where a record has at most {limit} (max_record_kib)"}
        for one in letters
        if len(one.data) > limit
    ]
    fitting = sorted((one for one in letters if len(one.data) <= limit), key=lambda one: one.line)
    blocks = groupby(fitting, lambda one: one.line // BLOCK_LINES)
    return Sorted([(block, list(those)) for block, those in blocks], refused)


def _new(letters: list[Letter], before: Origin) -> tuple[pa.RecordBatch, Origin]:
    """The records of the letters that are new, and the origin behind them. Raises `NewerFormat`."""
    lines = Lines(before.cursor)
    fresh = [letters[place].data for place in lines.add(one.line for one in letters)]
    return batch_of(fresh), Origin(before.partition, lines.cursor)


def is_replay(path: str) -> bool:
    return path.startswith(PREFIX) and path.endswith(SUFFIX)


def _stream(head: Head) -> str:
    return head.path.removeprefix(PREFIX).removesuffix(SUFFIX)


def _turn(head: Head, body: bytes) -> bytes:
    """As the other dialects name it: a stream has one turn, whichever way its records come."""
    return _stream(head).encode()


def _asked(head: Head, name: str) -> str:
    """A parameter of the query; empty where it is not given. Names of files may be no UTF-8."""
    return parse_qs(head.query.decode("latin-1"), errors="surrogateescape").get(name, [""])[0]
