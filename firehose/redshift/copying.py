"""The COPY command that loads a manifest, and the keys that it is made of.

As AWS renders it: firehose.md section 11. What AWS checks of them is checked as the file is read; a COPY whose options
do not fit the staged objects would fail for every batch anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from firehose.blocks import Block

IDENTIFIER = r'(?:[A-Za-z_][A-Za-z0-9_$]{0,126}|"[^"\x00-\x1f]{1,127}")'
QUOTED = re.compile(r"'(?:[^']|'')*'")
Identifier = Annotated[str, Field(pattern=f"^{IDENTIFIER}$")]
Table = Annotated[str, Field(pattern=rf"^{IDENTIFIER}(?:\.{IDENTIFIER}){{0,2}}$")]
Role = Annotated[
    str, Field(pattern=r"^(default|arn:\S+:iam::\d{12}:role/[^\s',]+(,arn:\S+:iam::\d{12}:role/[^\s',]+)*)$")
]
OURS = {"MANIFEST", "CREDENTIALS", "IAM_ROLE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"}
COMPRESSIONS = {"GZIP", "BZIP2", "LZOP", "ZSTD"}
COLUMNAR = {"PARQUET", "ORC"}


class CopyOptions(Block):
    """Keys of AWS's CopyCommand, and as whom the cluster reads the bucket."""

    table: Table
    columns: tuple[Identifier, ...] = ()
    copy_options: Annotated[str, Field(max_length=204800)] = ""
    iam_role: Role | None = None

    @field_validator("copy_options")
    @classmethod
    def _one_statement(cls, given: str) -> str:
        bare = _bare(given)
        if "'" in bare or ";" in bare.rstrip("; \n") or "--" in bare or "/*" in bare:
            raise ValueError("must be the end of one COPY command: quotes that match, no comment, no second statement")
        taken = OURS & set(_words(given))
        if taken:
            raise ValueError(f"{sorted(taken)[0]} is said by the destination; leave it out")
        return given.strip("; \n\t")

    def mismatches(self, compression: str, holds: str) -> Iterator[str]:
        """What `copy_options` say otherwise than staged objects of this compression, of the format `holds`."""
        words = set(_words(self.copy_options))
        for word in sorted(words & COMPRESSIONS - {compression.upper()}):
            yield f"say {word}, and the staged objects are not; change it, or staging.compression"
        if compression == "gzip" and "GZIP" not in words:
            yield "must say GZIP: staging.compression is gzip"
        for word in sorted(words & COLUMNAR - {holds.upper()}):
            yield f"say {word}, and the staged objects are not; change it, or staging.format"
        if holds.upper() in COLUMNAR - words:
            yield f"must say FORMAT AS {holds.upper()}: staging.format is {holds}"

    def command(self, manifest_url: str, credentials: str) -> str:
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        options = f" {self.copy_options}" if self.copy_options else ""
        return f"COPY {self.table}{columns} FROM {quoted(manifest_url)} {credentials} MANIFEST{options}"


def of_role(role: str) -> str:
    return "IAM_ROLE default" if role == "default" else f"CREDENTIALS {quoted(f'aws_iam_role={role}')}"


def of_keys(access_key_id: str, secret_access_key: str, session_token: str | None) -> str:
    said = f"aws_access_key_id={access_key_id};aws_secret_access_key={secret_access_key}"
    return f"CREDENTIALS {quoted(said + (f';token={session_token}' if session_token else ''))}"


def quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _bare(options: str) -> str:
    """Without what stands in quotes."""
    return QUOTED.sub(" ", options)


def _words(options: str) -> Iterator[str]:
    """What stands in quotes is never an option's name."""
    yield from re.findall(r"[A-Z_0-9]+", _bare(options).upper())
