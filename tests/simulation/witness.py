"""Who knows what was sent, what was answered, what lies durably on the disk and what is in the store; and complains.

It reads files and objects by eye, looking for the tokens that every record carries, and shares no code with the
service. Each check names the invariant that it holds.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from faulty_disk import File, Folder
from simulation.machine import Machine
from simulation.world import World

TOKEN = re.compile(rb"<[a-z]+-[a-z0-9]+-\d{6}>")
ACKNOWLEDGED = "what was answered 200 is durable"
ONCE = "each record is stored once"
INVENTED = "nothing is stored that was not sent"
PLACED = "each record is in an object of its own partition"
IMMUTABLE = "an object's records never change"
IDENTITY = "a segment comes back with the same identity and bytes"
GONE = "a segment goes only when its records have arrived, and never comes back"
CONSERVATION = "accepted = delivered + buffered"
BOUNDED = "memory is bounded"
PROGRESS = "once faults stop, all is delivered"


class Witness:
    """`places` are the buckets that each stream's records go to."""

    def __init__(self, world: World, machine: Machine, places: dict[str, tuple[str, ...]]) -> None:
        self.acknowledged: dict[bytes, str] = {}
        self.sent: dict[bytes, str] = {}
        self.stored: dict[str, dict[bytes, str]] = {bucket: {} for buckets in places.values() for bucket in buckets}
        self._world = world
        self._machine = machine
        self._places = places
        self._objects: dict[str, list[bytes]] = {}
        self._segments: dict[str, str] = {}
        self._gone: set[str] = set()
        machine.removing = self.removing
        world.offered = self.offered

    def send(self, tokens: Iterable[bytes], stream: str) -> None:
        self.sent.update(dict.fromkeys(tokens, stream))

    def acknowledge(self, tokens: Iterable[bytes], stream: str) -> None:
        """The service has said that these are safe."""
        tokens = list(tokens)
        self.acknowledged.update(dict.fromkeys(tokens, stream))
        self._require_safe(tokens, "the answer")

    def after_crash(self) -> None:
        """What a crash left."""
        self._require_safe(list(self.acknowledged), "a crash")

    def _require_safe(self, tokens: Iterable[bytes], moment: str) -> None:
        missing = [token for token in tokens if not self._has_arrived(token)]
        if missing:
            durable = b"".join(self._durable(missing))
            lost = [token for token in missing if token not in durable]
            if lost:
                self._world.violated(ACKNOWLEDGED, f"{moment} finds {_names(lost)} neither on disk nor stored")

    def _has_arrived(self, token: bytes) -> bool:
        return all(token in self.stored[bucket] for bucket in self._places.get(self.sent.get(token, ""), ()))

    def _durable(self, tokens: list[bytes]) -> Iterable[bytes]:
        """The bytes that a power cut would leave of the segments of these records' streams."""
        for stream in sorted({self.sent[token] for token in tokens}):
            folder = _at(self._machine.disk._root, f"/data/buffer/{stream}")
            for lane in folder.durable.values() if folder else ():
                if isinstance(lane, Folder):
                    for name, file in lane.durable.items():
                        if isinstance(file, File) and name.endswith((".open", ".sealed")):
                            yield file.durable

    # The store.

    def store(self, key: str, body: bytes) -> None:
        """An object has got its name, or has been written over."""
        tokens = TOKEN.findall(zlib.decompress(body, 31) if body[:2] == b"\x1f\x8b" else body)
        bucket = key.partition("/")[0]
        if key in self._objects:
            if sorted(self._objects[key]) != sorted(tokens):
                self._world.violated(IMMUTABLE, f"{key} had {len(self._objects[key])} records, now {len(tokens)}")
            return
        self._objects[key] = tokens
        for token in tokens:
            if token not in self.sent or bucket not in self._places[self.sent[token]]:
                self._world.violated(INVENTED, f"{key} holds {token!r}")
            if token in self.stored[bucket]:
                self._world.violated(ONCE, f"{token!r} is in {self.stored[bucket][token]} and in {key}")
            self.stored[bucket][token] = key
            if "/k=" in key and f"/k={key_of(token).decode()}/" not in key:
                self._world.violated(PLACED, f"{token!r} is in {key}")

    # The disk.

    def removing(self, path: str, content: bytes) -> None:
        """A file is about to go. Where it is a segment's, all its records must have arrived everywhere."""
        if not path.endswith(".sealed"):
            return
        self._gone.add(path)
        missing = [token for token in TOKEN.findall(content) if not self._has_arrived(token)]
        if missing:
            self._world.violated(GONE, f"{path} goes with {_names(missing)}, which have not arrived")

    def offered(self, segment: str, identity: str, bucket: str) -> None:
        """A segment is to be delivered, or a cut: which records that has, each destination says for itself."""
        if f"/data/buffer/{segment}.sealed" in self._gone:
            self._world.violated(GONE, f"{segment} is delivered again")
        known = self._segments.setdefault(f"{segment} {bucket}" if "#" in segment else segment, identity)
        if known != identity:
            self._world.violated(IDENTITY, f"{segment} was {known} and is {identity}")

    # The end.

    def conclude(self) -> None:
        """Everything has been delivered."""
        missing = [token for token in self.acknowledged if not self._has_arrived(token)]
        if missing:
            self._world.violated(ACKNOWLEDGED, f"in the end {_names(missing)} are not stored")
        for stream, buckets in self._places.items():
            taken = {token for bucket in buckets for token in self.stored[bucket]}
            for bucket in buckets:
                if lacking := sorted(taken - self.stored[bucket].keys()):
                    self._world.violated(PROGRESS, f"{bucket} of {stream} lacks {_names(lacking)}")


def key_of(token: bytes) -> bytes:
    """The partition of a record: few enough that each gathers several."""
    return b"abc"[int(token[-7:-1]) % 3 :][:1]


def _at(root: Folder, path: str) -> Folder | None:
    """The folder as a power cut would leave it."""
    node: File | Folder | None = root
    for name in filter(None, path.split("/")):
        node = node.durable.get(name) if isinstance(node, Folder) else None
    return node if isinstance(node, Folder) else None


def _names(tokens: list[bytes]) -> str:
    shown = ", ".join(token.decode() for token in tokens[:3])
    return shown + (f" and {len(tokens) - 3} more" if len(tokens) > 3 else "")
