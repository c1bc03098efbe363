"""Log records that look real, for demos, tests and benchmarks: the same seed makes the same bytes, for ever.

Times are made up and only go forward; nothing here reads a clock. The caller brings the dice, so that one seed means
one run of records. Made one by one: this is a producer, not the service's hot path.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from firehose.runtime import utc

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
STEP_MS = 40  # between two records, at most

# service, path, and its usual latency in milliseconds
CALLS = (
    ("checkout", "/api/v1/orders", 180),
    ("checkout", "/api/v1/orders/{id}/payment", 420),
    ("catalog", "/api/v1/products?page={id}", 45),
    ("catalog", "/api/v1/products/{id}", 30),
    ("search", "/api/v1/search?q=item-{id}", 95),
    ("accounts", "/api/v1/users/{id}/session", 60),
    ("gateway", "/static/app.{id}.js", 6),
)
METHODS = ("GET", "GET", "GET", "GET", "POST", "PUT", "DELETE")
# status, level and message; repeated as often as they are likely
ANSWERS = (
    *((200, "INFO", "request completed"),) * 30,
    *((201, "INFO", "resource created"),) * 4,
    *((304, "INFO", "not modified since the last visit"),) * 4,
    (400, "WARN", "request rejected: a field is missing"),
    *((404, "WARN", "no such resource"),) * 3,
    (429, "WARN", "client is over its quota"),
    (500, "ERROR", "unhandled exception in handler, see trace"),
    (503, "ERROR", "upstream did not answer in time"),
)
COUNTRIES = ("DE", "FR", "US", "US", "GB", "JP", "BR", "IN", "NL", "ZA")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "python-requests/2.32.3",
    "curl/8.11.0",
)


def events(dice: Random, start_ms: int = START_MS) -> Iterator[bytes]:
    """JSON log events of about 512 bytes, without end. A record has no newline."""
    for at_ms, (service, path, usual_ms), method, (status, level, message), bits in _calls(dice, start_ms):
        latency = usual_ms * dice.lognormvariate(0.0, 0.5) * (4 if status >= 500 else 1)
        yield (
            f'{{"timestamp":"{_iso(at_ms)}","level":"{level}","service":"{service}","host":"{service}-{bits % 8}",'
            f'"region":"eu-central-1","session":"{dice.getrandbits(64):016x}","trace_id":"{dice.getrandbits(128):032x}","span_id":"{dice.getrandbits(64):016x}",'
            f'"method":"{method}","path":"{path.format(id=bits % 10_000)}","status":{status},'
            f'"latency_ms":{latency:.1f},"bytes":{bits % 65_536},"client_ip":"{_address(bits)}",'
            f'"country":"{COUNTRIES[bits % len(COUNTRIES)]}","user_id":"u-{bits % 100_000:05d}",'
            f'"user_agent":"{AGENTS[bits % len(AGENTS)]}","message":"{message}"}}'
        ).encode()


def access_lines(dice: Random, start_ms: int = START_MS) -> Iterator[bytes]:
    """Lines of a web server's access log in the combined format, without end. A record has no newline."""
    for at_ms, (_, path, _), method, (status, _, _), bits in _calls(dice, start_ms):
        yield (
            f"{_address(bits)} - u{bits % 100_000:05d} [{utc(at_ms):%d/%b/%Y:%H:%M:%S} +0000] "
            f'"{method} {path.format(id=bits % 10_000)} HTTP/1.1" {status} {bits % 65_536} '
            f'"https://shop.example/" "{AGENTS[bits % len(AGENTS)]}"'
        ).encode()


Call = tuple[int, tuple[str, str, int], str, tuple[int, str, str], int]


def _calls(dice: Random, at_ms: int) -> Iterator[Call]:
    """Time, what was called, method, answer, and 32 random bits for whatever needs some."""
    while True:
        at_ms += dice.randrange(STEP_MS)
        yield at_ms, dice.choice(CALLS), dice.choice(METHODS), dice.choice(ANSWERS), dice.getrandbits(32)


def _iso(milliseconds: int) -> str:
    return utc(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(bits: int) -> str:
    return f"10.{bits >> 24 & 255}.{bits >> 16 & 255}.{bits >> 8 & 255}"
