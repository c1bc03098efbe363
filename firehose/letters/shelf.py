"""Where objects lie that are read back: a folder or a bucket, listed page by page and read piece by piece.

It must never hold a whole listing or a whole object, and never change anything but by `remove`.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import Any, Protocol

from firehose import aws
from firehose.contracts import Disk, View
from firehose.model import Stored

PIECE_BYTES = 256 * 1024
PAGE_OBJECTS = 1000  # of a listing: the most that S3 tells at once
ATTEMPTS = 5  # of a call to a store: nobody else would repeat it
GONE = ("NoSuchKey", "404")


class Unreadable(Exception):
    """An object, or the whole shelf, cannot be read; the message says why."""


class Withheld(Unreadable):
    """This object cannot be read; that says nothing of others."""


class Gone(Unreadable):
    """There is no such object, or no longer."""


class Shelf(Protocol):
    """Every failure is `Unreadable`. Thread-safe where its store is."""

    def address(self, name: str = "") -> str:
        """The object's name in the world, whatever way led to this shelf; the shelf's own where no name is given."""
        ...

    def items(self, under: str = "") -> Iterator[Stored]:
        """The objects whose names begin with `under`, always in the same order."""
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """The object's bytes as stored. Raises `Gone` where there is none, `Withheld` where it alone is to blame."""
        ...

    def part(self, name: str, start: int, size_bytes: int) -> bytes:
        """These bytes of the object; it must have them. Raises as `pieces` does."""
        ...

    def remove(self, name: str) -> None:
        """Does nothing where there is no such object."""
        ...

    def close(self) -> None: ...


class FolderShelf:
    """A local folder. What begins with a dot is none of ours, or not finished."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = os.path.realpath(path)  # the folder's one name: letters are known by it

    def address(self, name: str = "") -> str:
        return os.path.join(self._path, name) if name else self._path

    def items(self, under: str = "") -> Iterator[Stored]:
        folder = posixpath.dirname(under)
        try:
            for item in self._disk.tree(self.address(folder)):
                name = posixpath.join(folder, item.name)
                hidden = item.name.startswith(".") or "/." in item.name
                if name.startswith(under) and not hidden:
                    yield Stored(name, item.size_bytes, item.written_ms)
        except OSError as error:
            raise _unreadable(error, self._path) from error

    def pieces(self, name: str) -> Iterator[bytes]:
        view = self._view(name)
        try:
            for start in range(0, view.buffer.size, PIECE_BYTES):
                size = min(PIECE_BYTES, view.buffer.size - start)
                yield view.buffer.slice(start, size).to_pybytes()
                view.release(start, start + size)
        finally:
            view.close()

    def part(self, name: str, start: int, size_bytes: int) -> bytes:
        view = self._view(name)
        try:
            return _whole(bytes(memoryview(view.buffer)[start : start + size_bytes]), size_bytes, self.address(name))
        finally:
            view.close()

    def _view(self, name: str) -> View:
        try:
            return self._disk.view(self.address(name))
        except FileNotFoundError:
            raise Gone(f"{self.address(name)} is gone") from None
        except OSError as error:
            raise Withheld(str(_unreadable(error, self.address(name)))) from error

    def remove(self, name: str) -> None:
        """And the folders that it leaves empty, of which a delivery makes anew what it needs."""
        try:
            self._disk.remove(self.address(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unreadable(error, self.address(name)) from error
        self._remove_empty(os.path.dirname(name))

    def _remove_empty(self, folder: str) -> None:
        try:
            while folder:
                self._disk.remove_folder(self.address(folder))
                folder = os.path.dirname(folder)
        except OSError:
            pass  # it is not empty: the usual end

    def close(self) -> None:
        """Nothing is held open between calls."""


class S3Shelf:
    """A bucket."""

    def __init__(
        self, clients: aws.Clients, options: aws.AwsOptions, region: str, bucket: str, style: str = "auto"
    ) -> None:
        patient = {"total_max_attempts": ATTEMPTS, "mode": "standard"}
        self._client = aws.Client(clients, "s3", options, region, s3={"addressing_style": style}, retries=patient)
        self._bucket = bucket

    def address(self, name: str = "") -> str:
        return f"s3://{self._bucket}/{name}"

    def items(self, under: str = "") -> Iterator[Stored]:
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", self.address(), Prefix=under, MaxKeys=PAGE_OBJECTS, **token)
            for item in page.get("Contents", ()):
                yield Stored(item["Key"], int(item["Size"]), int(item["LastModified"].timestamp() * 1000))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def pieces(self, name: str) -> Iterator[bytes]:
        yield from self._got(name)

    def part(self, name: str, start: int, size_bytes: int) -> bytes:
        got = b"".join(self._got(name, Range=f"bytes={start}-{start + size_bytes - 1}"))
        return _whole(got, size_bytes, self.address(name))

    def _got(self, name: str, **more: str) -> Iterator[bytes]:
        try:
            yield from self._client.pieces("get_object", "Body", PIECE_BYTES, Bucket=self._bucket, Key=name, **more)
        except aws.Failed as failed:
            said = f"{self.address(name)}: {failed}"
            if failed.code in GONE:
                raise Gone(said) from failed
            # No right to it, or it is in an archive: the store answers, and will of others too.
            raise (Withheld if 400 <= failed.status < 500 else Unreadable)(said) from failed

    def remove(self, name: str) -> None:
        self._call("delete_object", self.address(name), Key=name)

    def close(self) -> None:
        self._client.close()

    def _call(self, operation: str, what: str, **arguments: Any) -> dict[str, Any]:
        try:
            return self._client.call(operation, Bucket=self._bucket, **arguments)
        except aws.Failed as failed:
            raise Unreadable(f"{what}: {failed}") from failed


def _whole(got: bytes, size_bytes: int, address: str) -> bytes:
    """A store that knows no ranges sends more, an object that has become shorter less."""
    if len(got) != size_bytes:
        raise Withheld(f"{address}: {size_bytes} bytes were asked for, and {len(got)} came")
    return got


def _unreadable(error: OSError, path: str) -> Unreadable:
    return Unreadable(f"{error.filename or path}: {error.strerror or error}")
