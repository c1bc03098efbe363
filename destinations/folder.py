"""Objects as files in a local folder: the reference for every destination that writes objects.

Names, bytes and error layout are those of S3 (firehose.md sections 5 and 6), so that a folder can stand in
for a bucket. A name shows a whole object or none: a file is written under `.partial`, synced, then renamed
over its name (DESIGN 3, law 5). It must never write outside its folder, nor reach the file system past
`site.disk`.
"""

from __future__ import annotations

import errno
import posixpath
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from firehose.blocks import GIB, LARGEST
from firehose.compression import Piece
from firehose.contracts import Memo, Refused, Retry
from firehose.model import Batch, Receipt
from firehose.objects import ObjectEncoder, ObjectOptions
from firehose.registry import Site
from firehose.stream_config import DestinationBlock

PARTIAL = ".partial"  # readers of folders (Spark, Hive, shells) pass over names that begin with a dot
PROBE = "probe"
WAY_OUT = "make room, or let the service's user write there; it is tried again"


class FolderOptions(ObjectOptions):
    """`type: folder`."""

    type: Literal["folder"] = "folder"
    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
    limit_gib: Annotated[float, Field(gt=0, le=LARGEST)] | None = None

    def container(self) -> tuple[str, ...]:
        return (self.type, posixpath.normpath(self.path))

    def local_folder(self) -> str:
        return posixpath.join(self.path, posixpath.dirname(self.fixed_prefix()))


class Folder:
    """Delivers to a folder. One attempt at a time works on a name: an abandoned one may still write."""

    Options: ClassVar[type[DestinationBlock]] = FolderOptions
    error_type: ClassVar[str] = "delivery-failed"  # AWS has no name for it: it loses such rows

    def __init__(self, options: FolderOptions, site: Site) -> None:
        self._root = posixpath.normpath(options.path)
        self._partial = posixpath.join(self._root, PARTIAL)
        self._site = site
        self._disk = site.disk
        self._encoder = ObjectEncoder(options, site)
        self._limit_bytes = int(options.limit_gib * GIB) if options.limit_gib is not None else None
        self._used_bytes: int | None = None  # not counted yet
        self._guard = threading.Lock()
        self._busy: set[str] = set()

    async def check(self) -> None:
        await self._site.threads.run(self._check)

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        return await self._site.threads.run(lambda: self._deliver(batch, memo))

    async def close(self) -> None:
        await self._site.threads.run(self._encoder.close)

    def _check(self) -> None:
        self._encoder.check()
        with self._alone(PROBE), self._told():
            self._disk.make_folder(self._partial)
            self._written(posixpath.join(self._partial, PROBE), [b"probe"], self._disk.remove)

    def _deliver(self, batch: Batch, memo: Memo) -> Receipt:
        name = self._encoder.name(batch)
        self._target(name)
        with self._alone(name), self._told():
            stores = partial(self._store, name, self._beside(name)), partial(self._store_companion, name)
            return self._encoder.deliver(batch, memo, *stores)

    def _store(self, name: str, beside: str, chunks: Iterable[Piece]) -> int:
        """The object under its name, whole or not at all. It grows in the file `beside`."""
        target = self._target(name)
        folder = posixpath.dirname(target)

        def publish(partial: str) -> None:
            self._disk.rename(partial, target)
            self._disk.sync_folder(folder)

        self._make_sure_of_room()
        self._disk.make_folder(self._partial)
        self._disk.make_folder(folder)
        sent_bytes = self._written(beside, chunks, publish)
        self._count(sent_bytes)
        return sent_bytes

    def _store_companion(self, of: str, name: str, content: bytes) -> None:
        """Objects side by side may bring the same one: it grows in a file of the object's that brings it."""
        self._store(name, self._beside(f"{of}/{name}"), [content])

    def _make_sure_of_room(self) -> None:
        """Steps back at `limit_gib`. Files are counted once, and again at the limit: somebody may have made room."""
        if self._limit_bytes is None:
            return
        if self._used_bytes is None or self._used_bytes >= self._limit_bytes:
            self._used_bytes = self._disk.tree_bytes(self._root)
        if self._used_bytes >= self._limit_bytes:
            raise Retry(f"{self._root}: the folder is at its limit_gib; move files away, or raise the limit")

    def _count(self, size_bytes: int) -> None:
        with self._guard:
            if self._used_bytes is not None:
                self._used_bytes += size_bytes

    def _target(self, name: str) -> str:
        """The file of a name. That names stay inside is naming's promise; this holds where it is broken."""
        if name.startswith("/") or not {".", ".."}.isdisjoint(name.split("/")):
            raise Refused(f"{self._root}: the name {name!r} leads out of the folder; mend the prefix")
        return posixpath.join(self._root, name)

    def _beside(self, name: str) -> str:
        """Where the object grows: one and the same file for a name, so that a repeat clears a kill's rest; of each of
        the stream's destinations, which set down common error documents side by side.
        """
        return posixpath.join(self._partial, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._site.destination}/{name}")))

    def _written(self, path: str, chunks: Iterable[Piece], publish: Callable[[str], None]) -> int:
        """A new file, durable, then handed to `publish`. Nothing of it stays when any of that fails."""
        if self._disk.exists(path):
            self._disk.remove(path)
        writer = self._disk.create(path)
        try:
            try:
                size = sum(writer.write(chunk) for chunk in chunks)
                writer.sync()
            finally:
                writer.close()
            publish(path)
        except BaseException:
            self._discard(path)
            raise
        return size

    def _discard(self, path: str) -> None:
        try:
            if self._disk.exists(path):
                self._disk.remove(path)
        except OSError:
            pass  # the next attempt removes it; what went wrong first is what must be told

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._guard:
            if name in self._busy:
                raise Retry(f"{self._root}: an earlier attempt still writes {name}")
            self._busy.add(name)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Nearly all that a disk says may pass: space is made, rights are granted, a mount comes back."""
        try:
            yield
        except OSError as error:
            place = error.filename or self._root
            if error.errno == errno.ENAMETOOLONG:
                raise Refused(f"{place}: {error.strerror}; shorten the prefix") from error
            raise Retry(f"{place}: {error.strerror or error}; {WAY_OUT}") from error
