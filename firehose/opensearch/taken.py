"""Which documents have arrived that have no ids: sent again, they would be there twice.

What a parcel as a whole has come to is `Arrived`'s. Of a parcel that was taken in part, the memo gets one bit for each
row. It never holds more than `NOTES` such notes: beyond them, and where a process dies between an answer and its note,
a repeat doubles documents, as AWS's does.
"""

from __future__ import annotations

import json
import zlib

import numpy as np
import pyarrow as pa
from pybase64 import b64decode, b64encode

from firehose.contracts import Memo
from firehose.parcels import Parcel

NOTES = 256
PLACE = "place"  # the column of a row's place in its parcel


def placed(rows: pa.Table) -> pa.Table:
    """With each row's place in its parcel."""
    return rows.append_column(PLACE, pa.array(range(rows.num_rows), pa.int32()))


class Taken:
    """Of one batch, by the first row of each parcel."""

    def __init__(self, memo: Memo, partition: str) -> None:
        self._memo = memo
        self._partition = partition
        self._bits: dict[int, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
        self._notes = 0
        for note in map(json.loads, memo.read()):
            if "taken" in note and note.get("of") == partition:
                packed = np.frombuffer(zlib.decompress(b64decode(note["bits"])), np.uint8)
                self._bits[note["taken"]] = np.unpackbits(packed, count=note["rows"]).astype(bool)
                self._notes += 1

    def split(self, parcel: Parcel, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Of the parcel's rows those that have not arrived, and those that have."""
        bits = self._bits.get(parcel.first)
        if bits is None:
            return rows, rows.slice(0, 0)
        here = bits[rows.column(PLACE).to_numpy()]
        return rows.filter(pa.array(~here)), rows.filter(pa.array(here))

    def note(self, parcel: Parcel, rows: pa.Table) -> None:
        """These of the parcel's rows have arrived, too. Durable when it returns. Raises `Retry`."""
        count = parcel.end - parcel.first
        bits = self._bits.setdefault(parcel.first, np.zeros(count, bool))
        bits[rows.column(PLACE).to_numpy()] = True
        if self._notes < NOTES:
            self._notes += 1
            packed = b64encode(zlib.compress(np.packbits(bits).tobytes())).decode()
            self._memo.write(json.dumps({"taken": parcel.first, "of": self._partition, "rows": count, "bits": packed}))
