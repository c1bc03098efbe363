"""The service as a program, its streams partitioned by the last digit of a record's id (`torture/posting.py`).

    python tests/support/by_last_digit.py serve -c FILE

Only with `service.delivery: inline`: a delivery process of its own would be the ordinary one.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).parents[2]))

from firehose import cli, delivery_half, partitions
from firehose.delivery.pipeline import Line
from firehose.delivery.workshop import Workshop
from firehose.model import Outcome

DIGIT_AT = len('{"id": "00000000')


class LastDigit:
    """A row's partition is the last digit of its id."""

    repeatable = True

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        digits = pc.binary_slice(rows.column("record"), DIGIT_AT, DIGIT_AT + 1).cast(pa.string())
        start, end = partitions.encode([("partitionKeyFromQuery", "digit", "?")]).split("?")
        names = pc.binary_join_element_wise(start, digits, end, "")
        return Outcome(rows.append_column(partitions.COLUMN, names.dictionary_encode()))


class Partitioned(Workshop):
    """Every line is partitioned."""

    def _build(self, *of: Any) -> Line:
        return replace(super()._build(*of), transforms=(LastDigit(),), partitioned=True)


if __name__ == "__main__":
    vars(delivery_half)["Workshop"] = Partitioned
    cli.main()
