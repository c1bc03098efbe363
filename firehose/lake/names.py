"""Whether a name is one of a stream's own data objects'.

What a name tells (an instant, the identity) is put into the prefix again, and has to come to the same; of partition
keys anything may have come. Folders such as `day=2026-03-01` may follow a prefix, in place of the date that it would
have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from urllib.parse import unquote
from uuid import UUID

from firehose.naming import (
    PARTITION_NAMESPACES,
    SUFFIX,
    Expression,
    ObjectNames,
    Template,
    data_template,
    parse,
    rendered,
)

COLUMN_FOLDERS = "(?:[^/=]+=[^/]*/)+"
COLUMN_FOLDER = re.compile(r"""(?:^|(?<=/))([^/=%*?\[\]{}\\'"]+)=([^/]*)(?=/)""")


def is_data(name: str, stream: str, names: ObjectNames, zone: tzinfo) -> bool:
    """Whether these names, of that stream, have this one among them, whatever its extension and its partition."""
    found = re.search(re.escape(stream) + SUFFIX.pattern, name)
    if found is None:
        return False
    try:
        instant = datetime.strptime(found["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=zone)
    except ValueError:
        return False
    head, identity = name[: found.start()], UUID(found["identity"])
    templates = ((data_template(names.prefix), ""), (parse(names.prefix), COLUMN_FOLDERS))
    return any(
        re.fullmatch("".join(_exactly(template, instant.replace(fold=fold), identity)) + more, head, re.DOTALL)
        for template, more in templates
        for fold in (0, 1)
    )


def columns(name: str) -> dict[str, str]:
    """What the folders in a name tell, decoded."""
    return {key: unquote(value) for key, value in COLUMN_FOLDER.findall(name)}


def _exactly(template: Template, instant: datetime, identity: UUID) -> Iterator[str]:
    """Expressions that match what the pieces come to, as far as that is known: a name holds no fraction of a second."""
    for index, piece in enumerate(template):
        if isinstance(piece, Expression) and piece.namespace in PARTITION_NAMESPACES:
            yield ".*?"
            continue
        text, later = (rendered(piece, index, instant.replace(microsecond=one), identity) for one in (0, 999_999))
        yield re.escape(text) if text == later else ".{1,128}?"
