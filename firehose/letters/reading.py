"""Letters out of a shelf, object by object: what is damaged is told beside them and ends nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from firehose.letters.documents import documents
from firehose.letters.letter import Damage, Letter, NoLetter, Spot, letter
from firehose.letters.shelf import Gone, Shelf, Withheld
from firehose.letters.unpacking import Damaged, unpacked

# <stream>-<version>-<yyyy-MM-dd-HH-mm-ss>-<uuid><extension>: firehose.md section 5
OBJECT = re.compile(
    r"([a-zA-Z0-9_.-]{1,64}?)-\d+-\d{4}(?:-\d\d){5}-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
ERROR_TYPE = re.compile(r"[A-Za-z][A-Za-z-]*[-_]failed|activePartitionExceeded")


def letters(shelf: Shelf, name: str, told: tuple[str, str]) -> Iterator[Letter | Damage]:
    """All of an object, in their order; `told` are stream and error-output-type, which only names know. Raises
    `Unreadable` where the shelf fails; an object that is gone has none.
    """
    line = 0
    try:
        for document in documents(unpacked(shelf.pieces(name))):
            line = document.line
            if document.problem:
                yield Damage(name, line, document.offset, document.problem)
                continue
            try:
                yield letter(Spot(name, line, *told), document.members)
            except NoLetter as error:
                yield Damage(name, line, document.offset, str(error))
    except Damaged as error:
        yield Damage(name, 0, 0, f"{error}; {line} documents could be read before")
    except Withheld as error:
        yield Damage(name, 0, 0, str(error))
    except Gone:
        pass  # removed since it was listed, by a retention of days or by a person


def told_by(name: str) -> tuple[str, str]:
    """Stream and error-output-type as an object's name tells them; empty where it does not."""
    folders, _, last = name.rpartition("/")
    named = OBJECT.match(last)
    types = ERROR_TYPE.findall(folders) or ERROR_TYPE.findall(last if named is None else "")
    return named[1] if named else "", types[-1] if types else ""
