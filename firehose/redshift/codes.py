"""AWS's names for what a cluster complains of: firehose.md section 15.1.

Redshift tells most failures of a COPY under one SQLSTATE, so its words are looked at first. It must never take what it
does not know for something else: that is `PSQLException`, AWS's own name for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

UNKNOWN = "PSQLException"
CONNECTION = "ConnectionFailed"
# The first that is found in the message counts.
WORDS: tuple[tuple[str, str], ...] = (
    (r"stl_load_errors|sys_load_error|Load into table .* failed", "DataLoadFailed"),
    (r"S3ServiceException.*(SlowDown|reduce your request rate)", "S3SlowDown"),
    (
        r"in a different region|PermanentRedirect|must be addressed using the specified endpoint",
        "IncorrectBucketRegion",
    ),
    (r"AuthorizationHeaderMalformed|region .* is wrong|(missing|invalid) region", "IncorrectOrMissingRegion"),
    (r"S3ServiceException.*(NoSuchKey|Not Found|404)", "MissingS3File"),
    (r"S3 prefix .* does not exist|Mandatory url is not present", "MissingS3File"),
    (r"S3ServiceException.*(Access ?Denied|403|Forbidden|InvalidAccessKeyId|Token)", "S3BucketAccessDenied"),
    (r"Problem reading manifest|S3ServiceException", "S3BucketAccessDenied"),
    (r"(not authorized to|cannot) assume.*role|IAM role .* is not valid|not associated to cluster", "AccessDenied"),
    (r"number of jsonpaths", "ColumnMismatch"),
    (r"JSONPath.*(not found|not exist)|json ?paths? file", "IncorrectJsonPathsFile"),
    (r"JSON ?Path.*(invalid|not supported|format)|invalid json ?path", "InvalidJsonPathFormat"),
    (r"(invalid|bad) (aws )?credentials?|CREDENTIALS argument", "EncryptionCredentials"),
    (r"(incompatible|conflicting|redundant).*option|option.*(not compatible|only compatible)", "IncorrectCopyOptions"),
    (r"not-null column without default|no default .* not included", "ColumnNotNullWithoutDefault"),
    (r"column .* specified more than once", "ColumnSpecifiedMoreThanOnce"),
    (r"improper (qualified|relation) name", "ImproperQualifiedName"),
    (r"(is not|isn't) compressed|unknown zlib|(wrong|mismatch\w*) compression", "CompressionMismatch"),
    (r"[Dd]isk [Ff]ull", "DiskFull"),
    (r"quota .*exceed|exceed.* quota", "DiskSpaceQuotaExceeded"),
    (r"resize|elastic", "Resize"),
    (r"read[- ]only", "ReadOnlyCluster"),
    (r"could not open relation", "RelationCouldNotBeOpened"),
    (r"could not fork", "CannotForkProcess"),
    (r"transaction ?id limit|wraparound", "TransactionIdLimitReached"),
)
STATES: Mapping[str, str] = {
    "25006": "ReadOnlyCluster",
    "28000": "AuthenticationFailed",
    "28P01": "AuthenticationFailed",
    "3D000": "DatabaseNotFound",
    "3F000": "SchemaNotFound",
    "42501": "InsufficientPrivilege",
    "42601": "SyntaxError",
    "42602": "ImproperQualifiedName",
    "42701": "ColumnSpecifiedMoreThanOnce",
    "42703": "ColumnNotFound",
    "42704": "ArgumentNotSupported",
    "42P01": "TableNotFound",
    "53100": "DiskFull",
    "53200": "OutOfMemory",
    "53300": "TooManyClients",
    "57014": "QueryCancelled",
}
# Of what no line above names: the first two characters of the SQLSTATE. What a row's values break is a load's failure.
CLASSES: Mapping[str, str] = {
    "08": CONNECTION,
    "0A": "ArgumentNotSupported",
    "22": "DataLoadFailed",
    "23": "DataLoadFailed",
    "28": "AuthenticationFailed",
    "57": CONNECTION,  # it shuts down, or starts
}


def name(state: str, message: str) -> str:
    """What AWS calls an error of this SQLSTATE and message, without the `Redshift.` before it."""
    if state in STATES:
        return STATES[state]
    for words, called in WORDS:
        if re.search(words, message, re.IGNORECASE | re.DOTALL):
            return called
    return CLASSES.get(state[:2], UNKNOWN)
