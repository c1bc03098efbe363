"""Object names: what they look like, what alone decides them, and what a prefix may hold."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.model import Segment
from firehose.naming import Expression, ObjectNames, expressions, parse, problems

SEGMENT = Segment("my-stream", "k3x9", 4000, 250, 5_000, datetime(2026, 1, 31, 23, 59, 7, 987_654, UTC), 1)
UUID_TEXT = "[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
SUFFIX = f"my-stream-1-2026-01-31-23-59-07-{UUID_TEXT}"
TYPED = "!{firehose:error-output-type}"
QUERY = "!{partitionKeyFromQuery:customer}"
LAMBDA = "!{partitionKeyFromLambda:region}"
KEYS = {"partitionKeyFromQuery": {"customer": "acme"}, "partitionKeyFromLambda": {"region": "eu"}}
BAD_VALUE = "Invalid conversion character used in the value of the expression in"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (None, "2026/01/31/23/"),
        ("", "2026/01/31/23/"),
        ("legacy", "legacy2026/01/31/23/"),
        ("logs/", "logs/2026/01/31/23/"),
        ("a!b{c}/", "a!b{c}/2026/01/31/23/"),
        ("dt=!{timestamp:yyyy-MM-dd}/", "dt=2026-01-31/"),
        ("!{timestamp:yyyy}x!{timestamp:'m='MM}", "2026xm=01"),
        (f"c={QUERY}/r={LAMBDA}/", "c=acme/r=eu/"),
        (f"{QUERY}/!{{timestamp:HH}}/", "acme/23/"),
    ],
)
def test_data_names(prefix: str | None, expected: str) -> None:
    """The evaluated prefix, dated where it says nothing of time or partition, then the suffix."""
    name = ObjectNames(prefix, extension=".gz").data(SEGMENT, KEYS)
    assert re.fullmatch(re.escape(expected) + SUFFIX + r"\.gz", name)


@pytest.mark.parametrize(
    ("prefix", "error_output_prefix", "expected"),
    [
        (None, None, "processing-failed/2026/01/31/23/"),
        ("myPrefix/", None, "myPrefix/processing-failed/2026/01/31/23/"),
        ("myPrefix/", "", "myPrefix/processing-failed/2026/01/31/23/"),
        ("myPrefix/", "errors/", "errors/processing-failed/2026/01/31/23/"),
        ("dt=!{timestamp:yyyy}/", None, "dt=2026/processing-failed/2026/01/31/23/"),
        (f"c={QUERY}/", None, "processing-failed/2026/01/31/23/"),
        ("x/", f"errors/{TYPED}/", "errors/processing-failed/"),
        ("x/", f"{TYPED}/!{{timestamp:dd}}/{TYPED}", "processing-failed/31/processing-failed"),
    ],
)
def test_error_names(prefix: str | None, error_output_prefix: str | None, expected: str) -> None:
    """Type and date are added unless expressions say all; there is no partition among errors."""
    name = ObjectNames(prefix, error_output_prefix).error(SEGMENT, "processing-failed")
    assert re.fullmatch(re.escape(expected) + SUFFIX, name)


def test_error_extension_replaces() -> None:
    """Error objects have the stream's extension unless the caller knows better."""
    names = ObjectNames(extension=".gz")
    assert names.error(SEGMENT, "splunk-failed").endswith(".gz")
    assert re.search(f"{UUID_TEXT}$", names.error(SEGMENT, "splunk-failed", extension=""))


def test_names_never_change() -> None:
    """These very names were given out: a repeat after any upgrade must give them again."""
    names = ObjectNames("!{firehose:random-string}/!{firehose:random-string}/!{timestamp:yyyy}/", time_zone="")
    assert str(names.identity(SEGMENT, "")) == "de3ecb56-21f8-5bd4-bca7-4ee64bec5373"
    assert (
        names.data(SEGMENT)
        == "a015a0bf-7f/a0a042a9-43/2026/my-stream-1-2026-01-31-23-59-07-de3ecb56-21f8-5bd4-bca7-4ee64bec5373"
    )
    assert (
        ObjectNames().error(SEGMENT, "splunk-failed", "splunk")
        == "splunk-failed/2026/01/31/23/my-stream-1-2026-01-31-23-59-07-e59fad1c-05c3-5fad-a26a-2d59100adc24"
    )


def test_time_zone_moves_prefix_and_suffix() -> None:
    """Prefix and suffix tell the same instant in the stream's time zone, never each its own."""
    name = ObjectNames("!{timestamp:yyyy/MM/dd HH z XXX}/", time_zone="Asia/Tokyo").data(SEGMENT)
    assert name.startswith("2026/02/01 08 JST +09:00/my-stream-1-2026-02-01-08-59-07-")


def test_version_is_the_segments() -> None:
    """The version that the segment was sealed under stands in the name, and does not change its uuid."""
    first, second = (ObjectNames().data(replace(SEGMENT, version=version)) for version in (1, 12))
    assert first.replace("my-stream-1-", "my-stream-12-") == second


def test_random_strings() -> None:
    """Each occurrence has its own 11 characters that look like the start of a uuid."""
    names = ObjectNames("!{firehose:random-string}/!{firehose:random-string}/!{timestamp:yyyy}")
    first, second, _ = names.data(SEGMENT).split("/")
    assert first != second
    assert all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{2}", text) for text in (first, second))
    undated = ObjectNames("!{firehose:random-string}/").data(SEGMENT)
    assert undated[12:26] == "2026/01/31/23/"


def test_error_and_data_never_share_a_name() -> None:
    """Even where an error prefix leads to the data's folder, an error object overwrites no data."""
    names = ObjectNames("x/splunk-failed/!{timestamp:yyyy}/", f"x/{TYPED}/!{{timestamp:yyyy}}/")
    data, error = names.data(SEGMENT), names.error(SEGMENT, "splunk-failed")
    assert data.rpartition("/")[0] == error.rpartition("/")[0]
    assert data != error


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("..", "c=%2E%2E/"),
        ("a/../b", "c=a/%2E%2E/b/"),
        ("a\0b\n", "c=a%00b%0A/"),
        ("\ud800", "c=%ED%A0%80/"),
        ("...", "c=.../"),
        ("Zürich/x y", "c=Zürich/x y/"),
    ],
)
def test_partition_values_stay_in_their_folder(value: str, expected: str) -> None:
    """A record cannot steer its object out of the folder: what would do so is percent-encoded."""
    keys = {"partitionKeyFromQuery": {"customer": value}}
    assert ObjectNames(f"x/{QUERY}/").data(SEGMENT, keys).startswith(expected.replace("c=", "x/"))


def test_partition_value_cannot_start_at_the_root() -> None:
    """A leading '/' of a value does not make an absolute path, nor do dots that meet in the prefix."""
    keys = {"partitionKeyFromQuery": {"customer": "/etc"}, "partitionKeyFromLambda": {"region": "."}}
    assert ObjectNames(f"{QUERY}/.{LAMBDA}/").data(SEGMENT, keys).startswith("%2Fetc/%2E%2E/my-stream-")


def test_long_partition_values_are_refused() -> None:
    """Partitioning learns beforehand which rows would make a prefix too long, with AWS's reason."""
    names = ObjectNames(f"{QUERY}/")
    keys = {size: {"partitionKeyFromQuery": {"customer": "x" * size}} for size in (511, 512, 1024)}
    assert names.refusal(keys[511]) is None
    assert names.refusal(keys[512]) == "Length of evaluated prefix cannot be greater than 512"
    with pytest.raises(ValueError, match="S3 takes 1024"):
        names.data(SEGMENT, keys[1024])


def test_wrong_settings_make_no_names() -> None:
    """Whatever `problems` finds is found when the names are made, not at the first delivery."""
    with pytest.raises(ValueError, match=r"CustomTimeZone.*; FileExtension"):
        ObjectNames(time_zone="Mars/Olympus", extension="gz")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prefix": "", "error_output_prefix": ""},
        {"prefix": "plain/", "error_output_prefix": "errors/", "errors_share_bucket": True},
        {"prefix": "!{timestamp:yyyy}/"},
        {"prefix": "!{timestamp:yyyy}/", "error_output_prefix": TYPED, "errors_share_bucket": True},
        {"prefix": "x" * 512, "error_output_prefix": "y" * 512},
        {"prefix": "a/.../.b/c./d//e/", "error_output_prefix": "{}!"},
        {"prefix": QUERY, "partitioned": True},
        {"prefix": "stage/", "expressions_allowed": False},
        {"time_zone": ""},
        {"time_zone": "America/Argentina/Buenos_Aires", "file_extension": ".json.gz"},
        {"file_extension": "." + "a" * 127},
    ],
)
def test_fine_settings(settings: dict[str, Any]) -> None:
    """Settings that AWS takes are taken."""
    assert problems(**{"prefix": None, "error_output_prefix": None} | settings) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prefix": f"{TYPED}/"}, "Prefix must not contain !{firehose:error-output-type}"),
        (
            {"prefix": "!{timestamp:yyyy}/", "errors_share_bucket": True},
            "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions",
        ),
        (
            {"error_output_prefix": "!{timestamp:yyyy}/"},
            "ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}",
        ),
        (
            {"error_output_prefix": f"{TYPED}/{LAMBDA}"},
            "Dynamic Partitioning Namespaces can't be part of an error prefix expression",
        ),
        (
            {"prefix": QUERY},
            "Dynamic Partitioning Namespaces can only be part of a prefix expression "
            "when Dynamic Partitioning is enabled.",
        ),
        (
            {"prefix": "!{timestamp:yyyy}/", "partitioned": True},
            "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled",
        ),
        (
            {"prefix": "!{timestamp:yyyy}/", "expressions_allowed": False},
            "Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination",
        ),
        (
            {"error_output_prefix": "errors/", "expressions_allowed": False},
            "Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination",
        ),
        ({"prefix": "!{timestamp:yyyy/TT}"}, f"{BAD_VALUE} Prefix: !{{timestamp:yyyy/TT}}: 'T' is"),
        ({"error_output_prefix": f"{TYPED}!{{timestamp:'}}"}, f"{BAD_VALUE} ErrorOutputPrefix: "),
        ({"prefix": "!{firehose:random}"}, f"{BAD_VALUE} Prefix: !{{firehose:random}}: there are only"),
        ({"prefix": "!{timestamp:}"}, f"{BAD_VALUE} Prefix: !{{timestamp:}}: a value is missing"),
        ({"prefix": "!{partitionKeyFromQuery:a!{x}", "partitioned": True}, f"{BAD_VALUE} Prefix: "),
        ({"prefix": "!{timestamp:z}/", "time_zone": "America/Sao_Paulo"}, f"{BAD_VALUE} Prefix: 'z' has no"),
        ({"prefix": "x!{"}, "Prefix: '!{' may only start a valid expression"),
        ({"prefix": "!{timestamp:yyyy"}, "Prefix: '!{' may only start a valid expression"),
        ({"prefix": "!{time:yyyy}"}, "Prefix: '!{' may only start a valid expression"),
        ({"error_output_prefix": "!{x}"}, "ErrorOutputPrefix: '!{' may only start a valid expression"),
        ({"prefix": "x" * 513}, "Length of evaluated prefix cannot be greater than 512"),
        ({"prefix": "x" * 511 + "!{timestamp:K}"}, "Length of evaluated prefix cannot be greater than 512"),
        ({"prefix": "x" * 497 + "!{timestamp:B}"}, "Length of evaluated prefix cannot be greater than 512"),
        ({"prefix": "ü" * 257}, "Length of evaluated prefix cannot be greater than 512"),
        (
            {"error_output_prefix": TYPED * 18},
            "Length of evaluated ErrorOutputPrefix cannot be greater than 512",
        ),
        ({"prefix": "!{timestamp:" + "[" * 1020 + "yyyy}"}, "Prefix must have at most 1024 characters"),
        *(
            ({"prefix": trick}, "Prefix must not start with '/'")
            for trick in ("/x", "x/../y", "..", "./", "a\nb", "a\0", "a\x85", "\ud800", "!{timestamp:'..'}/")
        ),
        ({"error_output_prefix": "a/./"}, "ErrorOutputPrefix must not start with '/'"),
        *(
            ({"time_zone": zone}, "CustomTimeZone must be UTC or an area and city")
            for zone in ("CET", "Etc/GMT+1", "../../x", "/etc", "A/" + "b" * 49)
        ),
        (
            {"time_zone": "Europe/Berlim"},
            "CustomTimeZone 'Europe/Berlim' is not in the time zone database; did",
        ),
        ({"time_zone": "Europe"}, "CustomTimeZone must be UTC"),
        *(
            ({"file_extension": extension}, "FileExtension must be empty")
            for extension in ("gz", ".", ".GZ", ".a/b", ".a\n", "." + "a" * 128)
        ),
    ],
)
def test_problems(settings: dict[str, Any], expected: str) -> None:
    """Each mistake is named once, and no other is blamed."""
    found = problems(**{"prefix": None, "error_output_prefix": None} | settings)
    assert [problem[: len(expected)] for problem in found] == [expected]


def test_all_problems_are_told_together() -> None:
    """One look at the list is enough to mend a configuration."""
    found = problems("!{timestamp:T}!{timestamp:P}!{", "!{timestamp:yyyy}/", time_zone="CET", file_extension="x")
    assert len(found) == 6


def test_partition_expressions_of_a_prefix() -> None:
    """Partitioning reads from the prefix which keys it needs."""
    template = parse(f"a/{QUERY}/{LAMBDA}/!{{timestamp:yyyy}}/")
    assert expressions(template, "partitionKeyFromQuery") == [Expression("partitionKeyFromQuery", "customer")]
    assert len(expressions(template)) == 3


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=12)
SEGMENTS = st.builds(
    Segment,
    stream=st.from_regex(r"[a-zA-Z0-9_.-]{1,64}", fullmatch=True),
    lane=TEXT,
    first=st.integers(0, 2**63),
    count=st.integers(1, 2**31),
    size_bytes=st.integers(0, 2**31),
    opened_at=st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    version=st.integers(1, 10**9),
)
TIMES = [f"!{{timestamp:{pattern}}}" for pattern in ("yyyy/MM/dd", "EEEE", "MMMM'm'", "K", "B", "XXX", "z")]
LITERALS = ["a", "x/", "/", ".", "..", "ü", "!", "dt=", "{", "y" * 99]
PIECES = st.sampled_from([*LITERALS, *TIMES, "!{firehose:random-string}", TYPED])
PREFIXES = st.lists(PIECES, max_size=20).map("".join)
ZONES = st.sampled_from(("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"))
EXTENSIONS = st.sampled_from(("", ".gz", "." + "e" * 127))


@given(PREFIXES, PREFIXES, ZONES, EXTENSIONS, SEGMENTS)
def test_fine_settings_never_fail_later(
    prefix: str, error_output_prefix: str, time_zone: str, extension: str, segment: Segment
) -> None:
    """What `problems` lets pass has names that repeat exactly, fit S3 and lead nowhere else."""
    if problems(prefix, error_output_prefix, time_zone=time_zone, file_extension=extension):
        with pytest.raises(ValueError):
            ObjectNames(prefix, error_output_prefix, time_zone, extension)
        return
    first, again = (ObjectNames(prefix, error_output_prefix, time_zone, extension) for _ in range(2))
    names = (first.data(segment), first.error(segment, "splunk-failed"))
    assert names == (again.data(segment), again.error(segment, "splunk-failed"))
    for name in names:
        assert len(name.encode()) <= 1024
        assert not name.startswith("/")
        assert not {".", ".."} & set(name.split("/"))
        assert "//" not in name or "//" in prefix + error_output_prefix


@given(SEGMENTS, SEGMENTS, TEXT, TEXT)
def test_names_are_as_distinct_as_segments(one: Segment, other: Segment, a: str, b: str) -> None:
    """Two names are equal just where stream, lane, first record, count and discriminator are."""
    other = replace(other, opened_at=one.opened_at, version=one.version)
    same = (one.stream, one.lane, one.first, one.count, a) == (
        other.stream,
        other.lane,
        other.first,
        other.count,
        b,
    )
    names = ObjectNames()
    assert (names.identity(one, a) == names.identity(other, b)) == same
    assert (names.data(one, discriminator=a) == names.data(other, discriminator=b)) == same
    assert (names.error(one, "t", a) == names.error(other, "t", b)) == same


@pytest.mark.parametrize(
    "other",
    [
        replace(SEGMENT, lane="k3x8"),
        replace(SEGMENT, first=4001),
        replace(SEGMENT, count=251),
        replace(SEGMENT, stream="my", lane="-streamk3x9"),
    ],
)
def test_near_segments_differ(other: Segment) -> None:
    """A neighbour in any part of the identity has another name, even where the texts run together."""
    names = ObjectNames("!{firehose:random-string}/x!{timestamp:yyyy}/")
    assert names.identity(SEGMENT, "") != names.identity(other, "")
    assert names.data(SEGMENT)[:11] != names.data(other)[:11]


@given(SEGMENTS, st.integers(0, 2**40), st.floats(0, 0.999))
def test_size_and_fraction_do_not_matter(segment: Segment, size_bytes: int, seconds: float) -> None:
    """A name does not depend on the size of a segment or on less than a second."""
    at = segment.opened_at.replace(microsecond=int(seconds * 1e6))
    assert ObjectNames().data(replace(segment, size_bytes=size_bytes, opened_at=at)) == ObjectNames().data(segment)


@pytest.mark.parametrize("prefix", [None, "bad/", "bad/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd'T'HH}/",
    "!{firehose:random-string}/!{firehose:error-output-type}-!{firehose:error-output-type}-",
    "x!{timestamp:SSS}/!{firehose:error-output-type}/!{timestamp:yyyy}/"])  # fmt: skip
def test_an_error_object_is_known_by_its_name(prefix: str | None) -> None:
    """A name tells the error type of the stream's own error object, whatever its extension, and of no other."""
    names = ObjectNames(error_output_prefix=prefix, time_zone="Europe/Berlin")
    segment = replace(SEGMENT, opened_at=datetime(2026, 10, 25, 0, 30, 1, 250_000, UTC))  # 02:30, for the first time
    for hour in (0, 1):
        opened_at = segment.opened_at.replace(hour=hour)
        name = names.error(replace(segment, opened_at=opened_at), "splunk-failed", "far", extension=".gz")
        assert names.error_type(name, segment.stream) == "splunk-failed"
        assert names.error_type(name.removesuffix(".gz"), segment.stream) == "splunk-failed"
        strangers = [
            names.data(segment),
            names.error(replace(segment, stream=segment.stream + "2"), "splunk-failed", "far"),
            names.error(replace(segment, stream="2" + segment.stream), "splunk-failed", "far"),
            f"else/{name}",
            f"{name}/else",
            name.replace("2026-10-25-02-", "2026-13-25-02-"),
            re.sub("02/", "03/", name),
            re.sub("^[0-9a-f-]{11}/", "00000000000/", name),
            name.replace("-5", "-4"),
        ]
        assert [one for one in strangers if one != name and names.error_type(one, segment.stream)] == []
