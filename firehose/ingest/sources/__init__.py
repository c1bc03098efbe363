"""What a delivery stream can read its records from: one file per source, and its line in this table."""

from collections.abc import Mapping

TABLE: Mapping[str, str] = {
    "data_stream": "firehose.ingest.sources.data_stream:DataStreamSource",
    "direct_put": "firehose.ingest.sources.direct_put:DirectPut",
    "kinesis": "firehose.ingest.sources.kinesis:KinesisSource",
}
