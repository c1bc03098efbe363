"""Configuration files: everything that is wrong is told at once, with its path, line and way out, and no secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from firehose import config
from firehose.config import Config, shared_places
from firehose.yaml_file import ConfigError

GOOD = """
service: {listen: "127.0.0.1:0", api_keys: ["${KEY}"]}
delivery_streams:
  app:
    buffering: {size_mib: 1}
    retry: {deadline_seconds: 60}
    destination: {type: folder, path: out}
  web:
    retry: {deadline_seconds: 60}
    destinations:
      - {type: folder, name: one, path: "${WHERE:-out}"}
      - {type: folder, name: two, path: two, retry: {deadline_seconds: 5}}
"""


def parse(text: str, **variables: str) -> Config:
    return config.parse("firehose.yaml", text, variables.get)


def problems(text: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, **variables)
    return [str(problem) for problem in caught.value.problems]


def one_stream(definition: str) -> str:
    return f"delivery_streams:\n  app: {definition}\n"


def test_good() -> None:
    """What is left out has its default, a reference its value, and a destination its own retry or the stream's."""
    read = parse(GOOD, KEY="k")
    assert read.service.address == ("127.0.0.1", 0)
    assert read.service.reserve_mib == 256
    assert list(read.streams["web"].destinations) == ["one", "two"]
    assert [read.streams["web"].retry(name).deadline_seconds for name in ("one", "two")] == [60, 5]
    assert read.streams["app"].size_bytes == 1 << 20


def test_definitions_keep_references() -> None:
    """What the catalogue stores has references, never what they stand for."""
    definitions = parse(GOOD, KEY="k", WHERE="secret-place").definitions
    assert definitions["web"]["destinations"][0]["path"] == "${WHERE:-out}"


def test_deadline_of_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the destination nor its stream says how long a delivery is tried, its type does; null is said."""
    monkeypatch.setattr("destinations.folder.FolderOptions.RETRY_SECONDS", 300)

    def deadline(stream: str = "", destination: str = "") -> float | None:
        block = f"delivery_streams: {{app: {{{stream} destination: {{type: folder, path: out{destination}}}}}}}"
        return config.parse("f.yaml", block).streams["app"].retry("folder").deadline_seconds

    assert deadline() == 300
    assert deadline("retry: {deadline_seconds: 60},") == 60
    assert deadline("retry: {deadline_seconds: 60},", ", retry: {deadline_seconds: 5}") == 5
    assert deadline(destination=", retry: {deadline_seconds: null}") is None


def test_all_problems_at_once() -> None:
    """Whatever is wrong with one block hides nothing that is wrong with another; each has path, line and hint."""
    text = """\
service:
  listn: 127.0.0.1:1
  reserve_mib: -1
delivery:
  workers: none
delivery_streams:
  app:
    bufering: {size_mib: 1}
    limit_gib: 0
    destination: {type: foldr, path: out}
  web:
    destination: {type: folder, path: out, prefx: a}
    errors: {type: s3}
  "no good": {destination: {type: folder, path: "${UNSET}"}}
  empty: {}
  both: {destination: {type: folder, path: a}, destinations: [{type: folder, path: b}]}
  twins: {destinations: [{type: folder, path: a}, {type: folder, path: b}]}
  text: 5
streams: {}
"""
    said = "\n".join(problems(text))
    for part in (
        "line 2: service.listn: unknown key; did you mean 'listen'?",
        "line 3: service.reserve_mib: input should be greater than or equal to 0 (is -1)",
        "line 5: delivery.workers: ",
        "line 8: delivery_streams.app.bufering: unknown key; did you mean 'buffering'?",
        "line 9: delivery_streams.app.limit_gib: ",
        "line 10: delivery_streams.app.destination.type: unknown destination type; did you mean 'folder'?",
        "line 12: delivery_streams.web.destination.prefx: unknown key; did you mean 'prefix'?",
        "line 13: delivery_streams.web.errors.bucket: is missing",
        "line 14: delivery_streams.no good: a stream's name has 1 to 64",
        "line 14: delivery_streams.no good.destination.path: UNSET is not set",
        "line 15: delivery_streams.empty: has no destination",
        "line 16: delivery_streams.both.destinations: give destination or destinations, not both",
        "line 17: delivery_streams.twins.destinations[1].name: two destinations are called 'folder'",
        "line 18: delivery_streams.text: ",
        "line 19: streams: unknown key; did you mean 'data_streams'?",
    ):
        assert part in said, said


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty; where no stream is wanted, say delivery_streams: {}"),
        ("# nothing but a comment\n", "is empty"),
        ("- a", "must be a mapping"),
        ("delivery_streams: [a]", "must be a mapping of names"),
        ("delivery_streams:", "must be a mapping of names"),
        (one_stream("{destination: }"), "has no destination"),
        (one_stream("{destinations: []}"), "has no destination"),
        (one_stream("{destination: folder}"), "destination: must be a mapping of keys to values (is 'folder')"),
        (one_stream(""), "app: must be a mapping of keys to values"),
        ("service:", "service: must be a mapping of keys to values"),
        (one_stream("{destination: {path: out}}"), "type: is missing: destination type; choose from"),
        (one_stream("{destination: {type: 5}}"), "unknown destination type"),
        (one_stream("{destination: {type: [s3]}}"), "unknown destination type"),
        (one_stream("{destination: {type: folder, path: out}, transforms: [{type: nope}]}"), "unknown transform type"),
        (
            one_stream("{destination: {type: folder, path: out}, transforms: [{type: python, handler: no good}]}"),
            'handler: must be "module:function"',
        ),
        (one_stream("{destination: {type: folder, path: out}, source: {type: kafka}}"), "source.type: "),
        ("service: {listen: nowhere}", "listen"),
        ("service: {listen: 'localhost:70000'}", "the port must be between 0 and 65535"),
        ("service: {api_keys: ['']}", "api_keys"),
        (
            "delivery_streams: {a: {dynamic_partitioning: {columns: country}, destination: {type: folder, path: a}}}",
            "columns: must be a list; write '- ' before each of its entries, or [...] around them (is 'country')",
        ),
        ("service: {account_id: 123456789012}", "must be text; put it in quotes (is 123456789012)"),
        (one_stream("{destination: {type: folder, path: }}"), "path: has no value"),
        (
            one_stream("{destination: {type: folder, path: out, format: {type: orc, bloom_filter_columns: a}}}"),
            "bloom_filter_columns: must be a list; write '- ' before each",
        ),
        (
            one_stream(
                "{destination: {type: folder, path: x, format: {type: orc, schema: {columns: {a: decimal(9,2)}}}}}"
            ),
            "columns.2): has no value; within { } a text that holds a comma needs quotes",
        ),
        ("service: {in_flight_mib: .inf}", "finite"),
        ("service: {in_flight_mib: .nan}", "finite"),
        ("service: {body_limit_mib: 5000}", "less than or equal to 1024"),
    ],
)
def test_wrong(text: str, part: str) -> None:
    """Each mistake is told in words that lead to its mending."""
    assert any(part in said for said in problems(text)), problems(text)


def test_no_false_complaint() -> None:
    """A destination that is wrong is not called missing too."""
    assert len(problems(one_stream("{destination: 5}"))) == 1


def test_what_a_wrong_key_brings_about_is_not_told() -> None:
    """The prefix is right, and would be wrong only without the queries, which are there and cannot be read."""
    partitions = "dynamic_partitioning: {queries: {k: '.a |'}}"
    folder = "{type: folder, path: a, prefix: 'k=!{partitionKeyFromQuery:k}/'}"
    (only,) = problems(f"delivery_streams: {{a: {{{partitions}, destination: {folder}}}}}")
    assert "dynamic_partitioning.queries.k: invalid jq" in only


def test_a_lost_reference_is_told_once() -> None:
    """What has no value is no wrong value, too: neither too short, nor no number."""
    text = one_stream("{destination: {type: folder, path: '${WHERE}'}, buffering: {size_mib: '${SIZE}'}}")
    assert [said.partition(": ")[2].partition(";")[0] for said in problems(text)] == [
        "delivery_streams.app.buffering.size_mib: SIZE is not set",
        "delivery_streams.app.destination.path: WHERE is not set",
    ]


@pytest.mark.parametrize("name", [".", "..", "a/b", "a b", "", "ü", "a" * 65])
def test_stream_names(name: str) -> None:
    """A name that could lead out of its folder, or that AWS would refuse, is refused."""
    text = yaml.safe_dump({"delivery_streams": {name: {"destination": {"type": "folder", "path": "out"}}}})
    assert any("a stream's name has" in said for said in problems(text))


def test_tiny_size() -> None:
    """A size under a byte is a byte: a segment holds at least one record."""
    text = one_stream("{buffering: {size_mib: 1.0e-12}, destination: {type: folder, path: out}}")
    assert parse(text).streams["app"].size_bytes == 1


def test_secrets_stay_unseen() -> None:
    """No representation of a configuration, and no complaint about a secret, shows it."""
    lake = "{type: s3, bucket: lake, access_key_id: a, secret_access_key: '${SECRET}'%s}"
    read = parse(one_stream(f"{{destination: {lake % ''}}}") + "service: {api_keys: ['${SECRET}']}\n", SECRET="s3cr3t")
    assert "s3cr3t" not in repr(read)
    for wrong in (
        ", secret_access_key: 5",
        ", bukket: '${SECRET}'",
        ", acl: ['${SECRET}']",
        ", time_zone: '${SECRET}'",
    ):
        assert "s3cr3t" not in "\n".join(problems(one_stream(f"{{destination: {lake % wrong}}}"), SECRET="s3cr3t"))


def test_shared_places() -> None:
    """Two streams that write to one place are told of by both names, and two places are not."""
    text = "delivery_streams: {a: {destination: {type: folder, path: %s}}, b: {destination: {type: folder, path: out}}}"
    (said,) = shared_places(parse(text % "./out/"))
    assert said == "delivery streams 'a' and 'b' write to one place: folder out"
    assert list(shared_places(parse(text % "other"))) == []


@pytest.mark.parametrize(
    ("block", "refused"),
    [
        ("destination: {type: folder, path: data/buffer}", "app.destination: "),
        ("destinations: [{type: folder, path: ./out/../data/buffer/web}]", "app.destinations[0]: "),
        ("destination: {type: folder, path: data, prefix: 'buffer/x/!{timestamp:yyyy}/'}", "app.destination: "),
        ("destination: {type: folder, path: out}, errors: {type: folder, path: data/buffer}", "app.errors: "),
        ("destination: {type: folder, path: data}", ""),
        ("destination: {type: folder, path: data, prefix: buffer}", ""),
        ("destination: {type: folder, path: data/buffered}", ""),
    ],
)
def test_the_buffer_is_no_destination(block: str, refused: str) -> None:
    """A folder in the service's own buffer is refused: a restart would take its objects for dead lanes."""
    text = one_stream(f"{{{block}}}")
    if refused:
        (said,) = problems(text)
        assert f"delivery_streams.{refused}writes into the service's own buffer" in said
    else:
        assert parse(text).streams


def test_one_definition() -> None:
    """A definition alone, as the catalogue keeps it, is read like one of a file."""
    definition: Mapping[str, Any] = {"destination": {"type": "folder", "path": "${WHERE}"}}
    assert config.stream("app", definition, {"WHERE": "out"}.get).destinations["folder"].place() is not None
    with pytest.raises(ConfigError, match="WHERE is not set"):
        config.stream("app", definition, dict[str, str]().get)
    with pytest.raises(ConfigError, match="must be a mapping"):
        config.stream("app", {"destination": 5}, dict[str, str]().get)


# Files and references of the machine.


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read with the environment's variables and secret files; a secret's last newline is not part of it."""
    (tmp_path / "secret").write_text("from-file\n")
    monkeypatch.setenv("WHERE", "from-environment")
    file = tmp_path / "firehose.yaml"
    file.write_text(f"service: {{data_dir: '${{WHERE}}', api_keys: ['${{file:{tmp_path}/secret}}']}}")
    read = config.load(str(file)).service
    assert (read.data_dir, read.api_keys[0].get_secret_value()) == ("from-environment", "from-file")


def test_load_unreadable(tmp_path: Path) -> None:
    """A file that is not there, is a folder or is no text is a problem of the configuration like any other."""
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    for name in ("none.yaml", ".", "latin.yaml"):
        with pytest.raises(ConfigError, match=r"cannot be read|is not UTF-8"):
            config.load(str(tmp_path / name))


@pytest.mark.parametrize("name", ["file:/nowhere", "file:\0", "file:", "\0", "=", "", "\ud800", "NOT_SET_ANYWHERE"])
def test_reference_to_nothing(name: str) -> None:
    """A reference that leads nowhere is None, whatever it looks like."""
    assert config.reference(name) is None


KEYS = st.sampled_from(
    [
        "service",
        "delivery",
        "delivery_streams",
        "app",
        "listen",
        "api_keys",
        "buffering",
        "size_mib",
        "destination",
        "destinations",
        "type",
        "path",
        "errors",
        "transforms",
        "source",
        "retry",
        "deadline_seconds",
        "name",
        "prefix",
        "format",
        "compression",
        "bucket",
        "limit_gib",
        "delimiter",
    ]
)
WORDS = ["folder", "s3", "${A}", "${B:-x}", "${file:/c}", "$${d}", "!{timestamp:yyyy}", "gzip"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
VALUES = st.recursive(
    SCALARS | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_no_crash_on_any_mapping(document: dict[str, Any]) -> None:
    """Whatever mapping a file holds, reading it succeeds or tells what is wrong."""
    try:
        read = parse(yaml.safe_dump(document), A="5")
    except ConfigError:
        pass  # it says so in the one way there is
    else:
        assert set(read.streams) == set(document.get("delivery_streams") or {})


@given(st.dictionaries(st.sampled_from(["app", "b"]), st.dictionaries(KEYS, VALUES, max_size=5), max_size=2))
def test_no_crash_on_any_stream(streams: dict[str, Any]) -> None:
    """The same for what stands below a stream's name."""
    try:
        parse(yaml.safe_dump({"delivery_streams": streams}), A="5")
    except ConfigError:
        pass  # anything else would be a crash


def test_errors_prefix_must_tell_the_types_apart() -> None:
    """An error output's prefix with expressions must hold the error type; that is found before anything is built."""
    with pytest.raises(ConfigError, match=r"streams\.app\.errors\.prefix: .*at least one occurrence"):
        config.parse(
            "x.yaml",
            """
delivery_streams:
  app:
    destination: {type: folder, path: out}
    errors: {type: folder, path: bad, prefix: "bad/!{timestamp:yyyy}/"}
""",
        )


def test_two_destinations_must_not_give_one_name() -> None:
    """Two destinations of one stream whose objects would have equal names in one place are refused."""
    with pytest.raises(ConfigError, match=r"destinations\[1\]\.prefix: gives its objects the names that 'a' gives"):
        config.parse(
            "x.yaml",
            """
delivery_streams:
  app:
    destinations:
      - {type: folder, name: a, path: out}
      - {type: folder, name: b, path: ./out}
""",
        )


def test_errors_in_the_data_s_bucket_need_a_prefix() -> None:
    """Where errors go to the data's bucket and its prefix has expressions, they need one of their own, as in AWS."""
    text = """
delivery_streams:
  app:
    destination: {type: s3, bucket: lake, prefix: "d/!{timestamp:yyyy}/"}
    errors: {type: s3, bucket: %s}
"""
    with pytest.raises(ConfigError, match=r"errors\.prefix: ErrorOutputPrefix cannot be null or empty when Prefix"):
        config.parse("x.yaml", text % "lake")
    assert config.parse("x.yaml", text % "other").streams


def test_problems_of_a_key_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block finds wrong with a key of a block within it is told with that key's place and line."""
    found = [("format.type", "is not to our taste")]
    monkeypatch.setattr("destinations.folder.FolderOptions.problems", lambda self, stream: iter(found))
    text = """
delivery_streams:
  app:
    destination:
      type: folder
      path: out
      format:
        type: raw
"""
    assert problems(text) == ["line 8: delivery_streams.app.destination.format.type: is not to our taste"]


def test_what_shapes_names_is_pinned() -> None:
    """References in what shapes names and bytes are resolved in the definition that is kept; secrets are not."""
    text = """
delivery_streams:
  app:
    destinations:
      - {type: s3, bucket: "${BUCKET}", prefix: "${STAGE}/", access_key_id: k, secret_access_key: "${SECRET}"}
"""
    values = {"BUCKET": "lake", "STAGE": "test", "SECRET": "hush"}
    (block,) = config.parse("x.yaml", text, values.get).definitions["app"]["destinations"]
    assert block["prefix"] == "test/"
    assert (block["bucket"], block["secret_access_key"]) == ("${BUCKET}", "${SECRET}")


@pytest.mark.parametrize(
    ("format", "told"),
    [
        ("schema: {columns: {a.b: int}}, deserializer: hive", "deserializer: column 'a.b': the hive deserializer"),
        (
            "schema: {columns: {a: int}}, deserializer: {type: openx, column_to_json_key_mappings: {z: k}}",
            "deserializer: column_to_json_key_mappings: the schema has no column 'z'",
        ),
        ("schema: infer, deserializer: openx", "deserializer: schema: infer reads names as they are written"),
        ("schema: {file: nowhere.sql}, deserializer: hive", "schema.file: nowhere.sql cannot be read"),
        ("dictionary: automatic", "dictionary: must be auto, true, false or a list of columns (is 'automatic')"),
        ("statistics: maybe", "statistics: must be true, false or a list of columns (is 'maybe')"),
    ],
)
def test_a_format_that_could_never_convert(format: str, told: str) -> None:
    """What is wrong between the keys of a format is told at once, by its key, and not when the first batch comes."""
    block = f"{{type: folder, path: out, format: {{type: parquet, {format}}}}}"
    (problem,) = problems(f"delivery_streams:\n  app:\n    destination: {block}")
    assert problem.startswith(f"line 3: delivery_streams.app.destination.format.{told}")


@pytest.mark.parametrize("key", ["destinations", "backup", "errors", "dynamic_partitioning"])
def test_a_key_that_is_null_is_one_left_out(key: str) -> None:
    """What a stream says is nothing, it does not say."""
    (found,) = config.parse(
        "x.yaml", f"delivery_streams: {{app: {{{key}: null, destination: {{type: folder, path: out}}}}}}"
    ).streams.values()
    assert list(found.destinations) == ["folder"]


def test_errors_share_the_destination_s_connection() -> None:
    """An errors block of the destination's type that says nothing of the connection uses the destination's."""
    text = """
delivery_streams:
  app:
    destination: {type: s3, bucket: lake, endpoint_url: "http://127.0.0.1:9000", access_key_id: k, secret_access_key: s}
    errors: {type: s3, bucket: dead%s}
"""
    errors = config.parse("x.yaml", text % "").streams["app"].errors
    assert errors is not None
    assert errors.model_dump(include={"bucket", "endpoint_url", "access_key_id"}) == {
        "bucket": "dead",
        "endpoint_url": "http://127.0.0.1:9000",
        "access_key_id": "k",
    }
    own = config.parse("x.yaml", text % ", region: eu-west-1").streams["app"].errors
    assert own is not None
    assert own.model_dump(include={"endpoint_url", "access_key_id"}) == {"endpoint_url": None, "access_key_id": None}


def test_errors_of_a_destination() -> None:
    """They are read as any error output: with the connection and prefix of their own destination, and every problem."""
    text = """
delivery_streams:
  app:
    destinations:
      - {name: a, type: s3, bucket: lake, endpoint_url: "http://a:9000"}
      - {name: b, type: s3, bucket: lake, endpoint_url: "http://b:9000", prefix: b/, errors: {type: s3, bucket: lake%s}}
"""
    stream = config.parse("x.yaml", text % "").streams["app"]
    errors = stream.own_errors["b"]
    assert errors.model_dump(include={"endpoint_url", "prefix"}) == {"endpoint_url": "http://b:9000", "prefix": "b/"}
    assert list(stream.error_outputs()) == [errors]
    with pytest.raises(ConfigError) as told:
        config.parse("x.yaml", text % ", where: .x, format: {type: parquet}, buckets: x")
    place = "delivery_streams.app.destinations[1].errors"
    assert [problem.path for problem in told.value.problems] == [f"{place}.buckets", f"{place}.where"]


def test_where_is_pinned() -> None:
    """What a condition's references say stays with the version: an older segment is judged as it was meant."""
    text = "delivery_streams: {app: {destination: {type: folder, path: out, where: '.level == \"${LEVEL}\"'}}}"
    read = config.parse("x.yaml", text, {"LEVEL": "error"}.get)
    assert read.definitions["app"]["destination"]["where"] == '.level == "error"'


def test_who_has_said_it_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half's environment is our own: what we would have in it gives way to what somebody has set."""
    monkeypatch.delenv("SAID", raising=False)
    assert config.own_environment({"SAID": "by us"}) == {**os.environ, "SAID": "by us"}
    monkeypatch.setenv("SAID", "by them")
    assert config.own_environment({"SAID": "by us"}) == dict(os.environ)
