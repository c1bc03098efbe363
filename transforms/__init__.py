"""What can be done to records on their way: one file per transform, and its line in this table."""

from collections.abc import Mapping

TABLE: Mapping[str, str] = {
    "append_delimiter": "transforms.append_delimiter:AppendDelimiter",
    "csv_to_json": "transforms.csv_to_json:CsvToJson",
    "deaggregate": "transforms.deaggregate:Deaggregate",
    "decompress": "transforms.decompress:Decompress",
    "jq": "transforms.jq:Jq",
    "lambda": "transforms.lambda_:Lambda",
    "log_to_json": "transforms.log_to_json:LogToJson",
    "python": "transforms.python:Python",
    "redact": "transforms.redact:Redact",
    "sql": "transforms.sql:Sql",
}
