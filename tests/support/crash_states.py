"""Every state in which a power cut may leave a disk, made from the record of what was done to it.

What was synced is there. Of everything else, each piece for itself is there or not, in no order: a write whole, not
at all, torn anywhere, as zeros, with a sector of zeros; a file's length without its bytes; a cut; a name's change, in
one folder or in several. Only a rename is never half done in the way that loses the file: it is done, not done, or
the file has both names. That is more than any one file system does, and POSIX forbids none of it.

States are made for the moments just before something becomes durable or is noted as seen from outside: those of every
other moment are among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import prod
from random import Random
from typing import Literal, TypeVar

from faulty_disk import File, Folder
from recording_disk import Cut, Named, Noted, RecordingDisk, Step, Synced, Wrote

T = TypeVar("T")
SECTOR = 512
Change = Literal["not", "done", "both"]  # of a name; both: a rename whose old name is still there
Tree = dict[str, bytes | None]  # by path; None is a folder


@dataclass(frozen=True, slots=True)
class Crash:
    """A state, and the step of the record before which the power went."""

    at: int
    tree: Tree

    def root(self) -> Folder:
        """The folders and files, all of them durable."""
        top = Folder()
        for path, content in sorted(self.tree.items()):
            *above, name = path.strip("/").split("/")
            folder = top
            for part in above:
                below = folder.names[part]
                assert isinstance(below, Folder)
                folder = below
            node = Folder() if content is None else File(bytearray(content), content, len(content))
            folder.names[name] = folder.durable[name] = node
        return top


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    pending: list[Wrote | Cut] = field(default_factory=list)

    def contents(self) -> list[bytes]:
        """What may be in it. Of several changes one is at a time done by half, those before and behind it whole or
        not at all.
        """
        found = {self._with([True] * len(self.pending)): None, self.durable: None}
        for number, change in enumerate(self.pending):
            rest = len(self.pending) - number - 1
            for part in _parts(change):
                for before, behind in product((True, False), repeat=2):
                    found[self._with([*[before] * number, part, *[behind] * rest])] = None
        return list(found)

    def _with(self, parts: Sequence[bytes | bool]) -> bytes:
        content = bytearray(self.durable)
        for change, part in zip(self.pending, parts, strict=True):
            if part is False:
                continue
            if isinstance(change, Cut):
                content = content[: change.size].ljust(change.size, b"\0")
            else:
                data = change.data if part is True else part
                content = content.ljust(change.offset, b"\0")
                content[change.offset : change.offset + len(data)] = data
        return bytes(content)

    def sync(self) -> None:
        self.durable, self.pending = self._with([True] * len(self.pending)), []


def _parts(change: Wrote | Cut) -> Iterator[bytes | bool]:
    """What may be left of one change: all, nothing, and of a write any part."""
    yield from (True, False)
    if isinstance(change, Cut) or not change.data:
        return
    data, size = change.data, len(change.data)
    sectors = range(SECTOR - change.offset % SECTOR, size, SECTOR)
    yield bytes(size)
    for end in sorted({1, size // 2, max(0, size - 1), *sectors}):
        yield data[:end]
        yield data[:end] + bytes(size - end)
        yield bytes(end) + data[end:]
    for start, end in pairwise(sectors):
        yield data[:start] + bytes(end - start) + data[end:]


@dataclass(slots=True)
class _Replay:
    """What is durable and what is pending, as the record goes on."""

    files: dict[int, _File] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})  # durable names
    pending: list[Named] = field(default_factory=list)

    def apply(self, step: Step) -> None:
        if isinstance(step, Wrote | Cut):
            self.files.setdefault(step.file, _File()).pending.append(step)
        elif isinstance(step, Named):
            self.pending.append(step)
        elif isinstance(step, Synced) and step.node in self.files:
            self.files[step.node].sync()
        elif isinstance(step, Synced):
            self._sync_folder(step.node)

    def _sync_folder(self, number: int) -> None:
        pending, self.pending = self.pending, []
        for named in pending:
            if named.folder != number:
                self.pending.append(named)
                continue
            _change(self.folders.setdefault(number, {}), named, "done")
            if named.left:  # the old name's folder is not synced yet
                self.pending.append(Named(named.left[0], {named.left[1]: None}))

    def trees(self, limit: int, dice: Random) -> Iterator[Tree]:
        """The states, all of them where they are no more than about `limit`, else the outermost and a sample."""
        made = 0
        for changes in _chosen([_changes(one) for one in self.pending], limit, dice):
            names = self._names(changes)
            unsure = sorted({node for node in names.values() if node in self.files and self.files[node].pending})
            whole = {path: self._durable(node) for path, node in names.items()}
            places = [(path, unsure.index(node)) for path, node in names.items() if node in unsure]
            contents = [self.files[node].contents() for node in unsure]
            for chosen in _chosen(contents, max(1, limit - made), dice):
                yield whole | {path: chosen[number] for path, number in places}
                made += 1

    def _durable(self, node: int) -> bytes | None:
        return self.files[node].durable if node in self.files else None

    def _names(self, changes: Sequence[Change]) -> dict[str, int]:
        """All paths, by the changes that have come to pass."""
        folders = {number: dict(names) for number, names in self.folders.items()}
        for named, change in zip(self.pending, changes, strict=True):
            _change(folders.setdefault(named.folder, {}), named, change)
            if named.left and change == "done":
                folders.get(named.left[0], {}).pop(named.left[1], None)
        found: dict[str, int] = {}
        below = [("", 0)]
        while below:
            path, number = below.pop()
            for name, node in folders.get(number, {}).items():
                found[f"{path}/{name}"] = node
                if node not in self.files:
                    below.append((f"{path}/{name}", node))
        return found


def _changes(named: Named) -> list[Change]:
    renames = named.left is not None or len(named.names) == 2
    return ["done", "not", "both"] if renames else ["done", "not"]


def _change(names: dict[str, int], named: Named, change: Change) -> None:
    for name, node in named.names.items() if change != "not" else ():
        if node is not None:
            names[name] = node
        elif change == "done":
            names.pop(name, None)


def _chosen(choices: Sequence[Sequence[T]], limit: int, dice: Random) -> Iterator[tuple[T, ...]]:
    """Every combination; of more than `limit` both ends, and a sample of what lies near them and anywhere."""
    if prod(map(len, choices)) <= limit:
        yield from product(*choices)
        return
    ends = [tuple(one[0] for one in choices), tuple(one[:2][-1] for one in choices)]
    yield from ends
    for _ in range(limit):
        near, place = list(dice.choice(ends)), dice.randrange(len(choices))
        near[place] = dice.choice(choices[place])
        yield tuple(near)
        yield tuple(dice.choice(one) for one in choices)


def crashes(disk: RecordingDisk, limit: int, dice: Random, share: float = 1.0) -> Iterator[Crash]:
    """The states that the run on this disk may have left, each once for what had been noted until then; by chance a
    share of them.
    """
    replay, seen, noted = _Replay(), set[int](), 0
    for at, step in enumerate([*disk.record, Noted("end", None)]):
        if at >= disk.begins and isinstance(step, Synced | Noted):
            for tree in replay.trees(limit, dice):
                if dice.random() < share and (state := hash((frozenset(tree.items()), noted))) not in seen:
                    seen.add(state)
                    yield Crash(at, tree)
        noted += isinstance(step, Noted)
        replay.apply(step)
