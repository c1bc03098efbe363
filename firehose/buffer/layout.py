"""Names in the data folder. Those of the buffer's files are written and read back in this one place; the others that it
lists, by those whose files they are.

<data_dir>/service.lock                        held by the one service that uses the folder
<data_dir>/delivery.lock                       held by its delivery half
<data_dir>/catalog                             which streams exist
<data_dir>/ledger                              what became of the segments
<data_dir>/schemas/<stream>/<destination>/     versions of a schema, see `firehose.schemas.versions`
<data_dir>/buffer/<stream>/lanes               records of lanes that were folded, see `recovery`
<data_dir>/buffer/<stream>/<lane>/<n>.open     being written; n is the number of its first record, 20 digits
                                  <n>.sealed   immutable, waiting for delivery
                                  <n>.out      durable outcome of transforms that cannot be repeated
                                  <n>.damaged  kept for inspection
                                  <n>.head     empty: the lane had n records when its last segment was sealed

<data_dir>/datastreams/<id>/ is the folder of a data stream, and laid out in the same way: what is a delivery stream's
above is a shard's there, and each lane has its generation before its name, g and 7 digits. The lane of the highest one
is never removed while the shard is there, so that no counter is given out twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from firehose.contracts import Disk
from firehose.model import Segment, SegmentKey

DATA_STREAMS = "datastreams"
OPEN, SEALED, OUT, DAMAGED, HEAD = ".open", ".sealed", ".out", ".damaged", ".head"
LANES = "lanes"
# As `Runtime.lane_name` draws them, of a shard with the generation; no other folder is ever touched.
LANE = re.compile(r"(?:g(\d{7})-)?\d{8}T\d{6}-[0-9a-f]+")


def buffer_folder(data_dir: str) -> str:
    return os.path.join(data_dir, "buffer")


def stream_folder(data_dir: str, stream: str) -> str:
    return os.path.join(data_dir, "buffer", stream)


def lane_folder(data_dir: str, stream: str, lane: str) -> str:
    return os.path.join(data_dir, "buffer", stream, lane)


def data_streams(disk: Disk, data_dir: str) -> list[str]:
    """Ids of data streams."""
    return _folders(disk, os.path.join(data_dir, DATA_STREAMS), lambda name: True)


def data_stream_folder(data_dir: str, id: str) -> str:
    return os.path.join(data_dir, DATA_STREAMS, id)


def definition_of(data_dir: str, id: str) -> str:
    """Path of the file that says what a data stream is."""
    return os.path.join(data_stream_folder(data_dir, id), "stream")


def numbered(folder: str, number: int, suffix: str) -> str:
    """Path of the lane's file that begins with record `number`."""
    return os.path.join(folder, f"{number:020d}{suffix}")


def file_of(data_dir: str, key: SegmentKey | Segment, suffix: str = SEALED) -> str:
    stream, lane, first = key.key if isinstance(key, Segment) else key
    return numbered(lane_folder(data_dir, stream, lane), first, suffix)


def numbers(names: list[str], suffix: str) -> list[int]:
    """First record numbers of a lane's files with this suffix, ascending."""
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isdigit())


def streams(disk: Disk, data_dir: str) -> list[str]:
    return _folders(disk, buffer_folder(data_dir), lambda name: True)


def lanes(disk: Disk, data_dir: str, stream: str) -> list[str]:
    """Lanes never have a dot in their names: `lanes`, `lanes.new` and whatever a system leaves there are none."""
    return _folders(disk, stream_folder(data_dir, stream), LANE.fullmatch)


def _folders(disk: Disk, path: str, wanted: Callable[[str], object]) -> list[str]:
    """The wanted names in the folder that are folders: a stray file must not keep anything from starting."""
    return [name for name in disk.list(path) if wanted(name) and _is_folder(disk, os.path.join(path, name))]


def _is_folder(disk: Disk, path: str) -> bool:
    try:
        disk.list(path)
    except NotADirectoryError:
        return False
    return True


def with_generation(generation: int, lane: str) -> str:
    """The name of a shard's lane."""
    return f"g{generation:07d}-{lane}"


def generation(lane: str) -> int:
    """The generation of a shard's lane; 0 of any other."""
    found = LANE.fullmatch(lane)
    return int(found[1] or 0) if found else 0
