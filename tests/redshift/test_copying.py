"""The COPY command, and what is refused of its keys before any batch meets it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from firehose.redshift.copying import CopyOptions, of_keys, of_role

URL = "s3://staging/app-logs/manifests/2026/03/01/12/app-1"
ROLE = "arn:aws:iam::123456789012:role/reads"


def options(**keys: Any) -> CopyOptions:
    return CopyOptions.model_validate({"table": "t", **keys})


def test_command() -> None:
    """It is as AWS renders it, with the user's options at its end."""
    one = options(table="public.app", columns=["a", '"B c"'], copy_options="JSON 'auto' GZIP ;")
    assert one.command(URL, of_role(ROLE)) == (
        f"COPY public.app (a, \"B c\") FROM '{URL}' CREDENTIALS 'aws_iam_role={ROLE}' MANIFEST JSON 'auto' GZIP"
    )


def test_command_without_columns_and_options() -> None:
    """Without columns there is no list of them."""
    assert options().command(URL, of_role("default")) == f"COPY t FROM '{URL}' IAM_ROLE default MANIFEST"


def test_keys() -> None:
    """Access keys go into one text, which no quote of theirs ends."""
    assert of_keys("AK", "s'k", None) == "CREDENTIALS 'aws_access_key_id=AK;aws_secret_access_key=s''k'"
    assert of_keys("AK", "sk", "tk").endswith(";token=tk'")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("table", "t; DROP TABLE t"),
        ("table", "a.b.c.d"),
        ("table", 'a"b'),
        ("columns", ["a, b"]),
        ("columns", ["1a"]),
        ("copy_options", "GZIP; DROP TABLE t"),
        ("copy_options", "JSON 'auto"),
        ("copy_options", "GZIP -- no more"),
        ("copy_options", "GZIP /* no more */"),
        ("copy_options", "MANIFEST GZIP"),
        ("copy_options", "iam_role 'arn'"),
        ("iam_role", "reads"),
    ],
)
def test_refused(key: str, value: object) -> None:
    """What would make another command of it, or says twice what the destination says, is refused."""
    with pytest.raises(ValidationError):
        options(**{key: value})


@pytest.mark.parametrize("value", ["'a;b'", "NULL AS 'it''s --'", "DELIMITER '|' GZIP"])
def test_quotes(value: str) -> None:
    """What stands in quotes may be anything."""
    assert options(copy_options=value).copy_options == value


@pytest.mark.parametrize("role", ["default", ROLE, f"{ROLE},{ROLE}2"])
def test_roles(role: str) -> None:
    """A role, a chain of roles, and the cluster's default are roles."""
    assert options(iam_role=role).iam_role == role


@pytest.mark.parametrize(
    ("said", "compression", "holds", "complaint"),
    [
        ("JSON 'auto'", "gzip", "json_lines", "must say GZIP"),
        ("JSON 'auto' gzip", "none", "json_lines", "say GZIP"),
        ("JSON 'auto' ZSTD", "none", "json_lines", "say ZSTD"),
        ("FORMAT AS PARQUET", "none", "json_lines", "say PARQUET"),
        ("JSON 'auto'", "none", "parquet", "must say FORMAT AS PARQUET"),
        ("format as orc", "none", "parquet", "say ORC"),
        ("JSON 'gzip'", "none", "raw", ""),
        ("GZIP", "gzip", "raw", ""),
        ("FORMAT PARQUET", "none", "parquet", ""),
    ],
)
def test_mismatches(said: str, compression: str, holds: str, complaint: str) -> None:
    """Options that speak of another compression or format than the staged objects' are told."""
    found = list(options(copy_options=said).mismatches(compression, holds))
    assert any(complaint in message for message in found) if complaint else found == []
