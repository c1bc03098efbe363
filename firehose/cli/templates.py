"""What `firehose new` writes. Each text is a file that works as it stands, and says what can be changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Made:
    """Texts by the name of their file, and the block that uses them."""

    files: Mapping[str, str]
    block: str


def transform(name: str, style: str, folder: str) -> Made:
    """A transform of that style, in a folder as seen from where the service runs."""
    code, function, cases = STYLES[style]
    block = BLOCK.format(name=name, function=function, folder=_quoted(folder))
    indented = "".join(f"      {line}\n" for line in block.splitlines())
    files = {
        f"{name}.py": code,
        f"{name}.yaml": CONFIG.format(name=name, file=f"{folder}/{name}.yaml", transforms=indented),
        f"{name}.tests.yaml": CASES.format(name=name) + cases,
    }
    return Made(files, block)


def _quoted(text: str) -> str:
    """Any text as YAML has it."""
    return "'" + text.replace("'", "''") + "'"


BLOCK = """\
- type: python
  handler: "{name}:{function}"
  path: {folder}  # seen from the folder that the service is started in
"""
CONFIG = """\
# A configuration to try {name} with, by itself:  firehose test -c {file}
delivery_streams:
  {name}:
    transforms:
{transforms}    destination: {{type: folder, path: out}}
"""
CASES = """\
# Sample records, and what is to become of each. A text is a record byte for byte; what stands under json or lines is as
# log agents post it, each with a newline. What a case does not say (output, dropped, refused) is expected to be none.
delivery_streams:
  {name}:
"""
RECORD = '''\
"""Records, one after the other, on their way through a delivery stream."""

import json
from typing import Any


def clean(record: bytes) -> bytes | None:
    """Called for each record. Return what to deliver, or None to drop the record.

    Whatever is raised here sends this one record to the error output, with the message,
    once it has failed several times. What is printed goes to the service's log.
    """
    event: dict[str, Any] = json.loads(record)
    if event.get("path") == "/health":
        return None
    event["level"] = str(event["level"]).upper()
    return json.dumps(event).encode() + b"\\n"
'''
RECORD_CASES = """\
    - name: levels are in capitals
      input:
        - json: {path: /orders, level: info}
      output:
        - json: {path: /orders, level: INFO}

    - name: health checks are dropped
      input:
        - json: {path: /health, level: info}
        - json: {path: /orders, level: warn}
      output:
        - json: {path: /orders, level: WARN}
      dropped: 1

    - name: what is no event goes to the error output
      input:
        - "not JSON"
        - json: {path: /orders}
      refused:
        - {record: 0, code: Lambda.FunctionError, message: JSONDecodeError}
        - {record: 1, code: Lambda.FunctionError, message: "KeyError: 'level'"}
"""
LAMBDA = '''\
"""A transformation Lambda of Amazon Data Firehose; it runs on AWS as it is."""

import base64
import json
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Called for many records at once. Answer each of them, under its own recordId.

    Whatever is raised here is tried again, and then with fewer records, so that only
    those at fault go to the error output. What is printed goes to the service's log.
    """
    return {"records": [answer(record) for record in event["records"]]}


def answer(record: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a record: Ok with its new data, Dropped, or ProcessingFailed."""
    record_id = record["recordId"]
    try:
        made = json.loads(base64.b64decode(record["data"]))
        level = made["level"].upper()
    except (ValueError, KeyError):
        return {"recordId": record_id, "result": "ProcessingFailed"}
    if made.get("path") == "/health":
        return {"recordId": record_id, "result": "Dropped"}
    data = json.dumps({**made, "level": level}).encode() + b"\\n"
    return {
        "recordId": record_id,
        "result": "Ok",
        "data": base64.b64encode(data).decode(),
        "metadata": {"partitionKeys": {"level": level}},
    }
'''
LAMBDA_CASES = """\
    - name: levels are in capitals, and partition keys
      input:
        - json: {path: /orders, level: info}
      output:
        - json: {path: /orders, level: INFO}
          partition_keys: {level: INFO}

    - name: health checks are dropped
      input:
        - json: {path: /health, level: info}
        - json: {path: /orders, level: warn}
      output:
        - json: {path: /orders, level: WARN}
      dropped: 1

    - name: what is no event goes to the error output
      input:
        - "not JSON"
        - json: {path: /orders}
      refused:
        - {record: 0, code: Lambda.ProcessingFailedStatus}
        - {record: 1, code: Lambda.ProcessingFailedStatus}
"""
BATCH = '''\
"""Many records at once, as an Arrow table: nothing here is done record by record."""

import pyarrow as pa
import pyarrow.compute as pc


def clean(table: pa.Table) -> pa.Table:
    """Called with the columns record (binary), row (int32) and arrival_ms (int64).

    Return the columns record and row: a row left out is dropped, one that stands there
    twice becomes two records. Whatever is raised here is tried again, and then
    with fewer records, so that only those at fault go to the error output.
    """
    text = table["record"].cast(pa.string())  # raises where a record is not UTF-8
    kept = pc.invert(pc.match_substring(text, "/health"))
    made = pc.replace_substring_regex(text.filter(kept), "token=[^ ]*", "token=-")
    rows = table["row"].filter(kept)
    return pa.table({"record": made.cast(pa.binary()), "row": rows})
'''
BATCH_CASES = """\
    - name: tokens are blotted out
      input:
        - lines: |
            GET /orders?token=abc 200
            GET /orders 200
      output:
        - lines: |
            GET /orders?token=- 200
            GET /orders 200

    - name: health checks are dropped
      input: ["GET /health 200", "GET /orders 200"]
      output: ["GET /orders 200"]
      dropped: [0]

    - name: what is no text goes to the error output
      input: [base64: /w==, "GET /orders 200"]
      output: ["GET /orders 200"]
      refused:
        - {record: 0, code: Lambda.FunctionError, message: UTF8}
"""
STYLES: Mapping[str, tuple[str, str, str]] = {
    "record": (RECORD, "clean", RECORD_CASES),
    "lambda": (LAMBDA, "handler", LAMBDA_CASES),
    "batch": (BATCH, "clean", BATCH_CASES),
}
