"""What can be done to records on their way: one file per transform, and its line in this table."""

from collections.abc import Mapping

TABLE: Mapping[str, str] = {
    "lambda": "transforms.lambda_:Lambda",
    "python": "transforms.python:Python",
}
