"""A query's values as JSON text, written in SQL so that no value becomes a Python object.

DuckDB's own `to_json` writes decimals as floats, timestamps with a blank, and NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

from duckdb.sqltypes import DuckDBPyType

from firehose.sql.engine import key, name

SIGNED = {"tinyint", "smallint", "integer", "bigint", "hugeint"}
WHOLE = SIGNED | {f"u{one}" for one in SIGNED}
AS_THEY_ARE = {*WHOLE, "boolean", "bignum", "decimal"}
TIMES = {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"}

Labelled = tuple[str, str, DuckDBPyType]  # a name, an expression, its type


def row_text(columns: Sequence[Labelled]) -> str:
    """The expression of an object of these columns, in order."""
    return _object(columns)


def value_text(of: str, kind: DuckDBPyType, depth: int = 0) -> str:
    """The expression of the JSON text of `of`; it is NULL where that is, or where it is no number."""
    if kind.id in AS_THEY_ARE or str(kind) == "JSON":
        return f"{of}::VARCHAR"
    if kind.id in ("float", "double"):
        return f"CASE WHEN isfinite({of}) THEN {of}::VARCHAR END"
    if kind.id in TIMES:
        return f"""('"' || replace({of}::VARCHAR, ' ', 'T') || '"')"""
    if kind.id == "timestamp with time zone":
        return f"""('"' || replace(timezone('UTC', {of})::VARCHAR, ' ', 'T') || 'Z"')"""
    if kind.id == "blob":
        return f"""('"' || to_base64({of}) || '"')"""
    if kind.id in ("list", "array", "map", "struct"):
        return f"CASE WHEN {of} IS NOT NULL THEN {_nested(of, kind, depth)} END"
    return f"to_json({of}::VARCHAR)::VARCHAR"


def _nested(of: str, kind: DuckDBPyType, depth: int) -> str:
    inner: dict[str, DuckDBPyType] = dict(kind.children)  # type: ignore[arg-type]
    if kind.id == "struct":
        return _object([(field, f"{of}.{name(field)}", type_) for field, type_ in inner.items()], depth)
    one = f"_{depth}"
    if kind.id == "map":
        entry = f"""concat(to_json({one}.key::VARCHAR), ':', {_or_null(f"{one}.value", inner["value"], depth + 1)})"""
        return f"concat('{{', {_joined(f'map_entries({of})', one, entry)}, '}}')"
    return f"concat('[', {_joined(of, one, _or_null(one, inner['child'], depth + 1))}, ']')"


def _joined(items: str, one: str, text: str) -> str:
    return f"array_to_string(list_transform({items}, lambda {one}: {text}), ',')"


def _object(fields: Sequence[Labelled], depth: int = 0) -> str:
    parts = [f"{key(label)}, {_or_null(of, kind, depth)}" for label, of, kind in fields]
    return f"concat('{{', {''', ',', '''.join(parts)}{', ' if parts else ''}'}}')"


def _or_null(of: str, kind: DuckDBPyType, depth: int) -> str:
    return f"coalesce({value_text(of, kind, depth)}, 'null')"
