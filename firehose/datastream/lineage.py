"""How a stream's shards come of each other: pure steps from one definition to the next.

Source: data-streams.md sections 2.2 and 3. A stream's first shards, a split and a merge are one kind of step; what
UpdateShardCount asks for is a list of splits and merges, so that every shard has its parents. A step names shards that
an earlier one will open: numbers are known before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from firehose.datastream.model import Definition, Shard
from firehose.datastream.sequence import KEY_SPACE, even_ranges


@dataclass(frozen=True, slots=True)
class Step:
    """Closes `parents` and opens shards that begin at `starts` in their place: without parents, in all the key space.

    Of a split there is one parent and two starts, of a merge two parents and one start.
    """

    parents: tuple[int, ...]
    starts: tuple[int, ...]


def creation(count: int) -> Step:
    """A stream's first shards."""
    return Step((), tuple(start for start, _ in even_ranges(count)))


def split(shard: Shard, at: int) -> Step:
    return Step((shard.number,), (shard.start, at))


def merge(shard: Shard, neighbour: Shard) -> Step:
    return Step((shard.number, neighbour.number), (min(shard.start, neighbour.start),))


def adjacent(one: Shard, other: Shard) -> bool:
    """Whether their hash keys are one range, in either order."""
    return one.end + 1 == other.start or other.end + 1 == one.start


def touched(steps: Iterable[Step]) -> set[int]:
    """Shards that the steps close."""
    return {number for step in steps for number in step.parents}


def taken(definition: Definition, steps: Sequence[Step], now_ms: int) -> Definition:
    """The definition once all steps are taken, in their order."""
    shards = {shard.number: shard for shard in definition.shards}
    number = definition.next_shard
    for step in steps:
        parents = [shards[parent] for parent in step.parents]
        # Each shard is open for a while, whatever the clock did: else no instant would find it.
        at_ms = max(now_ms, *(parent.opened_ms + 1 for parent in parents)) if parents else definition.created_ms
        shards |= {parent.number: replace(parent, closed_ms=at_ms) for parent in parents}
        for child in _children(step, parents, at_ms, number):
            shards[child.number] = child
            number = child.number + 1
    return replace(definition, shards=tuple(shards.values()), next_shard=number)


def _children(step: Step, parents: Sequence[Shard], at_ms: int, number: int) -> Iterator[Shard]:
    """Created in a later second than any parent's close, so that their numbers are above all of their parents'."""
    created_s = max((max(parent.created_s, at_ms // 1000) + 1 for parent in parents), default=at_ms // 1000)
    behind = max((parent.end for parent in parents), default=KEY_SPACE - 1) + 1
    for start, next_start in pairwise([*step.starts, behind]):
        yield Shard(number, start, next_start - 1, created_s, at_ms, step.parents)
        number += 1


def resharding(definition: Definition, count: int) -> tuple[Step, ...]:
    """Splits and merges from the open shards to `count` equal ones: shards are cut where one of the new ranges begins
    within them, then those that lie in one new range are merged.
    """
    shards = sorted((shard for shard in definition.shards if shard.open), key=lambda shard: shard.start)
    starts = _snapped([start for start, _ in even_ranges(count)], [shard.start for shard in shards])
    number, steps, pieces = definition.next_shard, list[Step](), list[tuple[int, int]]()
    for shard in shards:
        piece = shard.number, shard.start
        for start in starts[bisect_left(starts, shard.start + 1) : bisect_left(starts, shard.end + 1)]:
            steps.append(Step((piece[0],), (piece[1], start)))
            pieces.append((number, piece[1]))
            piece, number = (number + 1, start), number + 2
        pieces.append(piece)
    return (*steps, *_merges(pieces, set(starts), number))


def _snapped(ideal: list[int], existing: list[int]) -> list[int]:
    """The new ranges' starts, where an existing one differs by rounding only, that one: no shard is cut for crumbs."""
    crumb = max(len(ideal), len(existing))
    starts = []
    for start in ideal:
        place = bisect_left(existing, start - crumb)
        near = place < len(existing) and existing[place] <= start + crumb
        starts.append(existing[place] if near else start)
    return starts


def _merges(pieces: Sequence[tuple[int, int]], starts: set[int], number: int) -> Iterator[Step]:
    """Steps that merge each piece, a number and its start, into the one before it, unless it begins a new range."""
    left = pieces[0] if pieces else None
    for piece in pieces[1:]:
        if piece[1] in starts or left is None:
            left = piece
        else:
            yield Step((left[0], piece[0]), (left[1],))
            left, number = (number, left[1]), number + 1
