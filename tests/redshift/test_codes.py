"""AWS's names of what a cluster complains of: what Redshift's documentation and forums show of its messages."""

from __future__ import annotations

import pytest

from firehose.redshift import codes

S3 = "S3ServiceException:{},Status {},Error {},Rid 9A2B,ExtRid x,CanRetry 1"
SAID = [
    ("42P01", 'relation "nowhere" does not exist', "TableNotFound"),
    ("42703", 'column "nothing" of relation "t" does not exist', "ColumnNotFound"),
    ("3D000", 'database "nowhere" does not exist', "DatabaseNotFound"),
    ("3F000", 'schema "nowhere" does not exist', "SchemaNotFound"),
    ("28000", 'password authentication failed for user "firehose"', "AuthenticationFailed"),
    ("28P01", 'password authentication failed for user "firehose"', "AuthenticationFailed"),
    ("42501", "permission denied for relation t", "InsufficientPrivilege"),
    ("42601", 'syntax error at or near "GZIIP"', "SyntaxError"),
    ("42701", 'column "a" specified more than once', "ColumnSpecifiedMoreThanOnce"),
    ("53300", "too many connections", "TooManyClients"),
    ("57014", "Query (1234) cancelled on user's request", "QueryCancelled"),
    ("57P01", "terminating connection due to administrator command", "ConnectionFailed"),
    ("22001", "value too long for type character varying(10)", "DataLoadFailed"),
    ("23502", 'null value in column "id" violates not-null constraint', "DataLoadFailed"),
    ("XX000", "Load into table 't' failed.  Check 'stl_load_errors' system table for details.", "DataLoadFailed"),
    ("XX000", "Load into table 't' failed. Check 'sys_load_error_detail' system table.", "DataLoadFailed"),
    ("XX000", S3.format("Access Denied", 403, "AccessDenied"), "S3BucketAccessDenied"),
    ("XX000", S3.format("The specified key does not exist.", 404, "NoSuchKey"), "MissingS3File"),
    ("XX000", S3.format("The provided token has expired.", 400, "ExpiredToken"), "S3BucketAccessDenied"),
    ("XX000", S3.format("Please reduce your request rate.", 503, "SlowDown"), "S3SlowDown"),
    (
        "XX000",
        "The S3 bucket addressed by the query is in a different region.",
        "IncorrectBucketRegion",
    ),
    ("XX000", "The specified S3 prefix 's3://a/b' does not exist", "MissingS3File"),
    ("XX000", "User arn:aws:redshift:x:dbuser:y is not authorized to assume IAM Role arn:z", "AccessDenied"),
    ("XX000", "Number of jsonpaths and the number of columns should match.", "ColumnMismatch"),
    ("XX000", "Disk Full", "DiskFull"),
    ("XX000", "cluster is in resize mode", "Resize"),
    ("XX000", "could not open relation with OID 12", "RelationCouldNotBeOpened"),
    ("XX000", "something that nobody has ever seen", "PSQLException"),
    ("", "", "PSQLException"),
]


@pytest.mark.parametrize(("state", "message", "name"), SAID, ids=[f"{n} {s}" for s, _, n in SAID])
def test_name(state: str, message: str, name: str) -> None:
    """Each message has AWS's name."""
    assert codes.name(state, message) == name
