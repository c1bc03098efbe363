"""What is wrong with a partitioned stream as a whole: its keys and the prefixes that are to use them."""

from __future__ import annotations

from collections.abc import Iterator

from firehose import naming
from firehose.column_options import ColumnarOptions
from firehose.objects import ObjectOptions
from firehose.partitioning.columns import Column
from firehose.partitioning.options import PartitioningOptions
from firehose.partitions import FROM_LAMBDA, FROM_QUERY
from firehose.stream_config import StreamConfig
from firehose.yaml_file import Path

BLOCK = "dynamic_partitioning"


def problems(stream: StreamConfig) -> Iterator[tuple[Path, str]]:
    """Each with its place in the stream's definition. What a prefix alone shows is told by its own block."""
    options = stream.options.dynamic_partitioning
    if options is None:
        return
    if stream.options.buffering.interval_seconds == 0:
        yield ("buffering", "interval_seconds"), "zero buffering is not available for partitions; give it some seconds"
    taking = {path: one for path, one in stream.blocks() if isinstance(one, ObjectOptions) and stream.partitions(one)}
    prefixes = {path: block.prefix for path, block in taking.items()}
    if not prefixes:
        yield (BLOCK,), "no destination of the stream writes objects, in which alone there are partitions; remove it"
    for path, prefix in prefixes.items():
        yield from (((*path, "prefix"), message) for message in _of_prefix(stream, prefix))
    used = {key for prefix in prefixes.values() for key in naming.keys(prefix).get(FROM_QUERY, ())}
    for block in taking.values():
        yield from (((BLOCK, "columns"), message) for message in _of_columns(options, block))
    for name in options.queries:
        if name not in used:
            message = f"no prefix uses it; put !{{{FROM_QUERY}:{name}}} into a destination's prefix, or remove it"
            yield (BLOCK, "queries", name), message


def _of_columns(options: PartitioningOptions, block: ObjectOptions) -> Iterator[str]:
    """Folders are made of the records' keys, before there are columns."""
    if not isinstance(block.format, ColumnarOptions):
        return
    keys = block.format.keys()
    for column in map(Column.parsed, options.columns):
        key = keys.of_column(column.name)
        if not column.made_of and key != keys.folded(column.name):
            yield f"'{column.name}' is read from the key '{key}' ({block.format.type}); write {key}, or use queries"


def _of_prefix(stream: StreamConfig, prefix: str | None) -> Iterator[str]:
    options = stream.options.dynamic_partitioning
    assert options is not None
    keys = naming.keys(prefix)
    for key in keys.get(FROM_QUERY, ()):
        if not options.queries:
            yield (
                "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace: "
                f"give {BLOCK}.queries"
            )
            break
        if key not in options.queries:
            yield f"there is no query '{key}'; {BLOCK}.queries has {', '.join(options.queries)}"
    if FROM_LAMBDA in keys and not any(block.calls() for block in stream.transforms):
        yield (
            "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace: "
            "add a transform that returns metadata.partitionKeys, of type python or lambda"
        )
    if options.columns and prefix and not prefix.endswith("/"):
        yield "end it with '/': the columns' folders follow it"
