"""What is to be redacted does not get through in any disguise, and all the rest does, as it was written."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from typing import Any

import pytest
from batches import rows
from hypothesis import given
from hypothesis import strategies as st

from firehose.config import parse
from firehose.config_schema import schema
from firehose.model import Outcome
from firehose.yaml_file import ConfigError
from transforms.redact import Redact, RedactOptions

SALT = "seasoning"
CARD = "4111111111111111"
DIGITS = r"\b\d{16}\b"


def outcome(records: list[bytes], **options: Any) -> Outcome:
    return Redact(RedactOptions.model_validate(options))(rows(records))


def one(record: bytes, **options: Any) -> bytes:
    result = outcome([record], **options)
    assert result.refused.table.to_pylist() == []
    (made,) = result.rows.column("record").to_pylist()
    assert isinstance(made, bytes)
    return made


def dropped(record: bytes, *paths: str) -> bytes:
    return one(record, fields=dict.fromkeys(paths, "drop"))


def masked(record: bytes, **mask: Any) -> bytes:
    return one(record, fields={"a": "mask"}, mask=mask)


def hashed(text: str) -> str:
    return hmac.new(SALT.encode(), text.encode(), hashlib.sha256).hexdigest()


# Where a value is


@pytest.mark.parametrize(
    ("record", "path", "expected"),
    [
        (b'{"a":1,"b":2}', "a", b'{"b":2}'),
        (b'{"a":1}', "a", b"{}"),
        (b'{"a":{"b":1,"c":2}}', "a.b", b'{"a":{"c":2}}'),
        (b'{"a":[{"b":1},{"c":2},3]}', "a[].b", b'{"a":[{},{"c":2},3]}'),
        (b'{"a":[{"b":1}]}', "a.b", b'{"a":[{}]}'),
        (b'{"a":{"b":1}}', "a[].b", b'{"a":{}}'),
        (b'{"a":[[{"b":1}],[]]}', "a[][].b", b'{"a":[[{}],[]]}'),
        (b'{"a":[{"b":[{"c":1}]}]}', "a[].b[].c", b'{"a":[{"b":[{}]}]}'),
        (b'{"a":[1,2],"b":3}', "a[]", b'{"b":3}'),
        (b'{"a.b":1,"a":{"b":2}}', '"a.b"', b'{"a":{"b":2}}'),
        (b'{"a.b":1,"a":{"b":2}}', "a.b", b'{"a.b":1,"a":{}}'),
        (b'{"x":{"a[]":{"b":1}}}', 'x."a[]".b', b'{"x":{"a[]":{}}}'),
        (b'{"":1,"b":2}', '""', b'{"b":2}'),
        ('{"straße":1,"b":2}'.encode(), "straße", b'{"b":2}'),
        (b'{"a b":1,"b":2}', "a b", b'{"b":2}'),
        (b'{"A":1}', "a", b'{"A":1}'),
        (b'{"a":"text"}', "a.b", b'{"a":"text"}'),
        (b'{"a":null}', "a.b", b'{"a":null}'),
    ],
)
def test_paths(record: bytes, path: str, expected: bytes) -> None:
    """A path leads to its value through objects, and through lists wherever they are met."""
    assert dropped(record, path) == expected


@pytest.mark.parametrize(
    "record",
    [
        b'{"email":"leak","x":1}',
        b'{"\\u0065mail":"leak","x":1}',
        b'{"\\u0065\\u006d\\u0061\\u0069\\u006C":"leak","x":1}',
        b'{"email":"leak","email":"leak","x":1}',
        b'{"email":"leak","\\u0065mail":"leak","x":1}',
        b'{ "email"\t:\n"leak" , "x":1}',
        b'{"email":["leak",{"leak":"leak"}],"x":1}',
        b'{"x":1,"email":{"email":"leak"}}',
    ],
)
def test_disguises(record: bytes) -> None:
    """No way to write a name, once or twice, hides its value."""
    assert dropped(record, "email") == b'{"x":1}'


@pytest.mark.parametrize("inner", [b'{"b":"leak"}', b'{"\\u0062":"leak"}', b'[{"b":"leak"}]', b'[[[{"b":"leak"}]]]'])
@pytest.mark.parametrize("record", [b'{"a":%s}', b'{"a":%s,"a":%s}', b'{"a":1,"a":%s}', b'{"a":%s,"\\u0061":2}'])
def test_disguises_further_down(record: bytes, inner: bytes) -> None:
    """Nor does any way to write what the value is in."""
    assert b"leak" not in dropped(record.replace(b"%s", inner), "a.b")


def test_of_several_paths_each_is_followed() -> None:
    """Paths that share their beginning are all followed."""
    record = b'{"u":{"a":1,"b":2,"c":{"d":3,"e":4}},"f":5}'
    assert dropped(record, "u.a", "u.c.d", "f") == b'{"u":{"b":2,"c":{"e":4}}}'


# What becomes of it


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"x@example.org"', "x@example.org"),
        ('"\\u0078@example.org"', "x@example.org"),
        ('"ä\\n"', "ä\n"),
        ('""', ""),
        ("12", "12"),
        ('"12"', "12"),
        ("1.0", "1.0"),
        ("true", "true"),
        ('{"b": 1}', '{"b": 1}'),
    ],
)
def test_hash(written: str, text: str) -> None:
    """A hash is HMAC-SHA-256 in hex of what the value says, so that equal values stay equal."""
    made = one(f'{{"a":{written}}}'.encode(), fields={"a": "hash"}, salt=SALT)
    assert json.loads(made) == {"a": hashed(text)}


def test_hash_of_a_list() -> None:
    """Of a list each item is hashed by itself; null has nothing to hide."""
    made = one(b'{"a":["x",["y"],null]}', fields={"a": "hash"}, salt=SALT)
    assert json.loads(made) == {"a": [hashed("x"), [hashed("y")], None]}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f'"{CARD}"', '"************1111"'),
        (CARD, '"************1111"'),
        ('"123456789"', '"*****6789"'),
        ('"12345678"', '"********"'),
        ('"1"', '"*"'),
        ('""', '""'),
        ('"\\u0034111111111111111"', '"************1111"'),
        ('"äöüäöüäöü😀"', '"******äöü😀"'),
        ("true", '"****"'),
        ("null", "null"),
        ('{"card":"4111111111111111"}', '"****"'),
        (f'["{CARD}",{CARD}]', '["************1111","************1111"]'),
    ],
)
def test_mask(written: str, shown: str) -> None:
    """A mask leaves the last characters of a value that is more than twice as long, and of others none."""
    assert masked(f'{{"a":{written}}}'.encode()).decode() == f'{{"a":{shown}}}'


def test_mask_options() -> None:
    """How much is left, and the sign for the rest, are the user's to say."""
    assert masked(b'{"a":"12345"}', keep_last=0) == b'{"a":"*****"}'
    assert masked(b'{"a":"12345"}', keep_last=2, **{"with": "#"}) == b'{"a":"###45"}'
    assert masked(b'{"a":"12345"}', keep_last=2, **{"with": '"'}) == b'{"a":"\\"\\"\\"45"}'


# Patterns


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"m":"card 4111111111111111!"}', b'{"m":"card ****!"}'),
        (b'{"m":"4111111111111111 4111111111111111"}', b'{"m":"**** ****"}'),
        (b'{"m":4111111111111111}', b'{"m":"****"}'),
        (b'{"m":[{"n":["4111111111111111"]}]}', b'{"m":[{"n":["****"]}]}'),
        (b'{"4111111111111111":1}', b'{"****":1}'),
        (b'{"m":"\\u0034111111111111111"}', b'{"m":"****"}'),
        (b'{"m":"a\\"4111111111111111\\\\"}', b'{"m":"a\\"****\\\\"}'),
        (b'{"m":"\\n4111111111111111"}', b'{"m":"\\n****"}'),
        (b'{ "m" : "41111111111111112" }\n', b'{ "m" : "41111111111111112" }\n'),
        (b'{ "m" : "4111111111111111", "z" : 1e400 }\n', b'{ "m" : "****", "z" : 1e400 }\n'),
        (b'{"m":-4111111111111111}', b'{"m":"-****"}'),
    ],
)
def test_patterns(record: bytes, expected: bytes) -> None:
    """What a pattern matches is masked in strings, names and numbers, however it is written; nothing else changes."""
    assert one(record, patterns=[DIGITS]) == expected


@pytest.mark.parametrize(
    "pattern", [r"^secret$", r"\Asecret\z", r"secret$", r"(?i)SECRET", r"s.c...", r"\Becret|secret"]
)
def test_patterns_look_at_each_string_by_itself(pattern: str) -> None:
    """The edges of a string are its own, not the record's."""
    assert b"secret" not in one(b'{"x":1,"m":"secret","y":2}', patterns=[pattern])


def test_patterns_do_not_reach_beyond_a_string() -> None:
    """A greedy pattern cannot eat the record's own punctuation: what is delivered is JSON."""
    assert one(b'{"m":"x","n":1}', patterns=[".+"]) == b'{"****":"****","****":"****"}'


def test_a_mask_with_a_backslash() -> None:
    """The sign of the mask is never taken for part of an expression."""
    made = one(b'{"m":"4111111111111111"}', patterns=[DIGITS], mask={"with": "\\"})
    assert json.loads(made) == {"m": "\\\\\\\\"}


def test_fields_before_patterns() -> None:
    """A field that is hashed is hashed as it came, not as a pattern left it."""
    made = one(b'{"a":"4111111111111111","m":"4111111111111111"}', fields={"a": "hash"}, salt=SALT, patterns=[DIGITS])
    assert json.loads(made) == {"a": hashed(CARD), "m": "****"}


# What is not redacted


@pytest.mark.parametrize(
    "record",
    [
        b'{ "x" : 1.0 , "y" : [ 1e400, 1E5, -0, 0.10000000000000000001 ] }',
        b'{"x":"\\u0041\\/ \xc3\xa4"}\r\n',
        b'{"x":1,"x":2}',
        b"{}",
        b' {"x":123456789012345678901234567890} ',
    ],
)
def test_what_holds_nothing_to_redact_stays_as_it_is(record: bytes) -> None:
    """A record in which no path begins, and no pattern matches, is delivered byte for byte."""
    assert one(record, fields={"a": "drop", "q.x": "drop"}, patterns=[DIGITS]) == record


def test_neighbours_keep_their_digits() -> None:
    """Beside what is redacted, numbers, escapes and nested values are what they were, down to the last digit."""
    rest = b'"x":1e400,"y":[1.0, 123456789012345678901234567890],"z":{ "a" : "\\u0041", "a" : 2 }'
    assert dropped(b'{"a":1,' + rest + b"}\n", "a") == b"{" + rest + b"}\n"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b" \n\n"])
def test_endings_stay(ending: bytes) -> None:
    """What follows the object still does."""
    assert dropped(b'{"a":1,"b":2}' + ending, "a") == b'{"b":2}' + ending


# What cannot be read


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\n",
        b"leak",
        b'"leak"',
        b'["leak"]',
        b"null",
        b'{"a":"leak"',
        b'{"x":{"a":"leak"}',
        b'{"a":"leak"}{"a":"leak"}',
        b'{"a":"leak"}\n{"a":"leak"}\n',
        b'{a:"leak"}',
        b"{'a':'leak'}",
        b'{"a":"leak",}',
        b'{"a":"leak","x":01}',
        b'{"a":"leak","x":NaN}',
        b'{"a":"leak"} // why',
        b'{"x":"leak\xff"}',
        b'{"x":"\xed\xa0\x80"}',
        b'{"x":"\\ud800 leak"}',
        b'{"x":"\\q leak"}',
        b'{"x":"leak\x00"}',
        b'\xef\xbb\xbf{"a":"leak"}',
        '{"a":"leak"}'.encode("utf-16"),
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    ],
)
def test_fails_closed(record: bytes) -> None:
    """What cannot be read as one JSON object is refused, whole, and says why; its neighbours go on."""
    result = outcome([b'{"x":1}', record, b'{"x":2}'], fields={"a": "mask"}, patterns=["leak"])
    assert result.rows.column("record").to_pylist() == [b'{"x":1}', b'{"x":2}']
    (said,) = result.refused.table.to_pylist()
    assert (said["row"], said["record"], said["code"]) == (1, record, "Redact.NotRead")
    assert said["message"].startswith("The record cannot be read as one JSON object: ")
    assert "leak" not in said["message"]


def test_a_long_record() -> None:
    """A record of 10 MB is redacted as any other."""
    record = b'{"a":"' + b"x" * 5_000_000 + b'","b":[' + b"1," * 2_500_000 + b"4111111111111111]}"
    made = one(record, fields={"a": "mask"}, patterns=[DIGITS])
    assert made == b'{"a":"' + b"*" * 4_999_996 + b'xxxx","b":[' + b"1," * 2_500_000 + b'"****"]}'


# Properties

NAMES = st.sampled_from(["a", "b", "c", "x.y", "ä"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


@given(OBJECTS, st.booleans())
def test_any_object(value: dict[str, Any], ascii_only: bool) -> None:
    """Of any object that is left which an independent redactor leaves."""
    record = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    made = one(record, fields={"a.b": "drop", '"x.y"[].c': "drop", "ä": "hash"}, salt=SALT)

    def hash_all(found: Any) -> Any:
        if found is None:
            return None
        if isinstance(found, list):
            return [hash_all(item) for item in found]
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=ascii_only)
        return hashed(text)

    expected = without(without(value, "a", "b"), "x.y", "c")
    assert json.loads(made) == {key: hash_all(found) if key == "ä" else found for key, found in expected.items()}


def without(value: dict[str, Any], outer: str, inner: str) -> dict[str, Any]:
    def pruned(found: Any) -> Any:
        if isinstance(found, list):
            return [pruned(item) for item in found]
        return {key: it for key, it in found.items() if key != inner} if isinstance(found, dict) else found

    return {key: pruned(found) if key == outer else found for key, found in value.items()}


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(sign):04x}" for sign in text)


@given(
    st.recursive(st.just("needle"), lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner)),
    st.randoms(),
)
def test_no_escape_hides_a_needle(value: Any, random: Any) -> None:
    """A pattern finds what it is looking for however deep it is and whichever of its letters are escaped."""

    def disguise(match: re.Match[str]) -> str:
        return "".join(escaped(sign) if random.random() < 0.5 else sign for sign in match[0])

    record = re.sub("needle", disguise, json.dumps({"v": value}))
    assert "needle" not in json.dumps(json.loads(one(record.encode(), patterns=["needle"])))


# Options


def test_the_salt_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither representations, dumps, complaints, logs nor the schema hold the salt."""
    caplog.set_level(logging.DEBUG)
    options = RedactOptions.model_validate({"fields": {"a": "hash"}, "salt": SALT})
    block = f"{{type: redact, fields: {{a: hash}}, salt: {SALT}, colour: red}}"
    with pytest.raises(ConfigError) as caught:
        parse("f.yaml", f"delivery_streams: {{s: {{destination: {{type: folder, path: o}}, transforms: [{block}]}}}}")
    shown = [repr(options), str(options), str(options.model_dump()), options.model_dump_json(), str(caught.value)]
    shown += [repr(Redact(options)), caplog.text, json.dumps(schema())]
    assert [text for text in shown if SALT in text] == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("type: redact", r"redacts nothing; give it fields, such as fields: \{user.email: hash\}"),
        ("fields: {a: hash}", r"hash needs a salt, .* such as \$\{REDACT_SALT\}"),
        ("fields: {a: hash}, salt: ''", r"salt: .*at least 1"),
        ("fields: {a: encrypt}", r"fields.a: input should be 'drop', 'hash' or 'mask'"),
        ("fields: {a..b: drop}", r"'a..b' is no path: character 3 begins no name; .* such as items\[\].card"),
        ("fields: {'a[0]': drop}", r"'a\[0\]' is no path: character 1"),
        ("fields: {a.: drop}", r"'a.' is no path"),
        ("fields: {'': drop}", r"'' is no path"),
        ("fields: {'\"a\\q\"': drop}", r'the name "a\\q" is no JSON string'),
        ("fields: {a: drop, a.b: mask}", r"'a.b' lies within 'a'; keep one of them"),
        ("fields: {a: drop, 'a[]': mask}", r"two paths lead to the same value"),
        ("patterns: ['x*']", r"'x\*' matches no text at all, and so everywhere"),
        ("patterns: ['a(b']", r"missing \) at character 1: 'a\(b'"),
        ("patterns: ['']", r"patterns\[0\]: .*at least 1"),
        ("fields: {a: mask}, mask: {with: ab}", r"mask.with: .*at most 1"),
        ("fields: {a: mask}, mask: {keep_last: -1}", r"mask.keep_last: .*greater than or equal to 0"),
        ("fields: {a: mask}, mask: {keep: 1}", r"mask.keep: unknown key; .*keep_last"),
    ],
)
def test_mistakes(options: str, problem: str) -> None:
    """What is wrong with a block is told with its place and the way out."""
    block = f"{{{options}}}" if "type:" in options else f"{{type: redact, {options}}}"
    with pytest.raises(ConfigError) as caught:
        parse("f.yaml", f"delivery_streams: {{s: {{destination: {{type: folder, path: o}}, transforms: [{block}]}}}}")
    assert re.search(problem, str(caught.value)), str(caught.value)
