"""`firehose check`: find out beforehand whether a configuration would deliver, and whether the user's code loads."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from firehose import config as configuration
from firehose import registry
from firehose.buffer.disk import LocalDisk
from firehose.cli import options
from firehose.cli.serve import placed
from firehose.cli.show import Failure, as_json, as_table, note
from firehose.config import Config
from firehose.contracts import Destination, Hook, Refused, Retry
from firehose.runtime import Runtime
from firehose.stream_config import DestinationBlock, TransformBlock

CHECK_THREADS = 8
Purpose = Literal["transform", "data", "errors"]


@dataclass(frozen=True, slots=True)
class Part:
    """A block of a stream that is to be tried: a transform, a destination, or the error output."""

    stream: str
    name: str
    purpose: Purpose
    block: DestinationBlock | TransformBlock

    @property
    def place(self) -> str:
        """Where it writes, or what it calls."""
        return self.block.calls() if isinstance(self.block, TransformBlock) else placed(self.block)

    def at_work(self, site: registry.Site) -> Destination | Hook | None:
        """What can be asked whether it works; None for a transform of ours, which does as soon as its options are
        right.
        """
        if isinstance(self.block, DestinationBlock):
            return registry.destination(self.block, site)
        step = registry.transform(self.block, site)
        return step if isinstance(step, Hook) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a destination can be reached and written to, or a transform be called; if not, what to mend."""

    part: Part
    reason: str

    @property
    def row(self) -> tuple[str, ...]:
        part = self.part
        return part.stream, part.name, part.purpose, part.place, self.reason or "ok"

    def to_json(self) -> dict[str, Any]:
        part = self.part
        kind = "transform" if part.purpose == "transform" else "destination"
        about = {"stream": part.stream, kind: part.name, "purpose": part.purpose, "place": part.place}
        return {**about, "ok": not self.reason, "reason": self.reason}


def check(
    config: options.ConfigFile = None,
    json: options.Json = False,
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="How long each of them may take to answer.")] = 30,
) -> None:
    """Validate a configuration, then reach every destination and prove that it can be written to, and load every hook.

    Hooks are loaded in a process of their own, and not called.
    """
    loaded = options.loaded(options.needed(config))
    for warning in configuration.shared_places(loaded):
        note(f"warning: {warning}")
    verdicts = asyncio.run(_verdicts(loaded, timeout_seconds))
    if json:
        as_json([verdict.to_json() for verdict in verdicts])
    elif verdicts:
        as_table(("stream", "name", "for", "place", "result"), [verdict.row for verdict in verdicts])
    hooks = [verdict for verdict in verdicts if verdict.part.purpose == "transform"]
    places = [verdict for verdict in verdicts if verdict.part.purpose != "transform"]
    failed = [f"{_bad(places)} of {len(places)} destinations cannot be delivered to"] if _bad(places) else []
    failed += [f"{_bad(hooks)} of {len(hooks)} transforms cannot be used"] if _bad(hooks) else []
    if failed:
        raise Failure("; ".join(failed))
    ready = f"; transforms that are ready: {len(hooks)} of {len(hooks)}" if hooks else ""
    note(f"{loaded.name} is valid; destinations that answer: {len(places)} of {len(places)}{ready}")


def _bad(verdicts: list[Verdict]) -> int:
    return sum(bool(verdict.reason) for verdict in verdicts)


async def _verdicts(config: Config, timeout_seconds: float) -> list[Verdict]:
    """One after the other where they look at one place: their probes would meet there."""
    from firehose import observe  # takes a while: the other commands need not wait for it

    observe.listen(_printed)
    runtime = Runtime()
    places = defaultdict[object, asyncio.Lock](asyncio.Lock)
    threads = runtime.threads("check", CHECK_THREADS)
    shared = registry.Shared()

    async def verdict(part: Part) -> Verdict:
        purpose: Literal["data", "errors"] = "errors" if part.purpose == "errors" else "data"
        place = (part.stream, part.name, purpose, config.service.region)
        site = registry.Site(*place, LocalDisk(), threads, runtime, shared, config.service.account_id)
        async with places[_container(part.block)]:
            return Verdict(part, await _trouble(part, site, timeout_seconds))

    try:
        return await asyncio.gather(*(verdict(part) for part in parts(config)))
    finally:
        threads.close()


def _printed(event: str, said: Mapping[str, Any]) -> None:
    """What the user's code prints as it is loaded, such as a traceback."""
    if event == "hook.printed":
        note(f"{said['stream']}: {said['hook']}: {said['line']}")


def _container(block: DestinationBlock | TransformBlock) -> object:
    """What two probes must not enter at once."""
    container: Callable[[], object] | None = getattr(block, "container", None)
    return container() if container else id(block)


def parts(config: Config) -> Iterator[Part]:
    """Every transform, and every block that says where something goes, in the file's order."""
    for stream in config.streams.values():
        for transform in stream.transforms:
            yield Part(stream.name, transform.type, "transform", transform)
        for name, block in stream.destinations.items():
            yield Part(stream.name, name, "data", block)
        if stream.errors is not None:
            yield Part(stream.name, stream.errors.name or stream.errors.type, "errors", stream.errors)
        for name, block in stream.own_errors.items():
            yield Part(stream.name, name, "errors", block)


async def _trouble(part: Part, site: registry.Site, timeout_seconds: float) -> str:
    """What keeps the part from being used; empty when nothing does."""
    try:
        door = part.at_work(site)
        if door is None:
            return ""
        try:
            async with asyncio.timeout(timeout_seconds):
                await door.check()
        finally:
            await door.close()
    except (Retry, Refused) as said:
        return " ".join(said.reason.split())  # one line, whatever a far side answers
    except TimeoutError:
        return f"does not answer within {timeout_seconds:g} seconds"
    except Exception as error:  # a plug-in's bug must not hide what the others say
        return f"a bug in '{part.block.type}': {type(error).__name__}: {error}"
    return ""
