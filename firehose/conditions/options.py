"""The key `where` of a destination: which rows it wants, as a jq or an SQL condition.

A condition is put to the same rows again after a crash and must say the same of them. What looks at the clock, at dice
or at anything but the row is therefore refused, when the file is read.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from firehose import jq_query
from firehose.blocks import Block

TRUE = "select(.) | true"  # what a query's outputs go through: of those that are neither null nor false, one is enough
CHARACTERS = 65536
_STRING = re.compile(r'"(?:[^"\\]|\\[^(])*"')
_FICKLE = re.compile(
    r"(?<![\w.$@])(?:now|inputs?|input_filename|input_line_number|env|halt|localtime|strflocaltime)\b(?!\s*:)|\$ENV\b"
)
Text = Annotated[str, Field(min_length=1, max_length=CHARACTERS)]


class Where(Block):
    """`jq: TEXT` or `sql: TEXT`."""

    jq: Text | None = None
    sql: Text | None = None

    @model_validator(mode="after")
    def _one_that_holds(self) -> Where:
        if (self.jq is None) == (self.sql is None):
            raise ValueError("give a jq condition or an sql condition, one of them")
        if self.jq is not None:
            _check_jq(self.jq)
        if self.sql is not None:
            _check_sql(self.sql)
        return self


def _check_jq(query: str) -> None:
    jq_query.checked(query, TRUE)
    if fickle := _FICKLE.search(_STRING.sub('""', query)):
        raise ValueError(f"{fickle[0]} may say something else when the same record is judged again; leave it out")


def _check_sql(condition: str) -> None:
    from firehose.conditions import by_sql  # now: DuckDB takes a while that most services need not spend
    from firehose.sql.engine import complaint_of

    if said := complaint_of(lambda: by_sql.check(condition)):
        raise ValueError(said)


def _from_text(given: Any) -> Any:
    return {"jq": given} if isinstance(given, str) else given


Condition = Annotated[Where | None, BeforeValidator(_from_text, json_schema_input_type=Where | Text | None)]
