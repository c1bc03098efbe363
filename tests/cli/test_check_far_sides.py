"""`firehose check` against far sides that real sockets make: one line each, which says what is wrong and what to do."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cli.running import firehose
from curt_server import certified, curt
from programs import free_port
from redshift_copy import Bucket
from redshift_proxy import RedshiftProxy
from s3_server import S3Server

pytestmark = pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning")  # of the Redshift driver's TLS context
Place = tuple[str, Mapping[str, Any]]  # a URL, and further keys of the destination there
Verdicts = Mapping[tuple[str, str], str]  # by destination and place: what is said
NEVER_PRINTED = "hush-hush"


def error(code: str) -> str:
    """As S3 says it."""
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code>\n<Message>said so</Message></Error>"


def places(folder: Path, stack: ExitStack) -> dict[str, Place]:
    right, ca_file = certified(folder, "127.0.0.1")
    wrong, wrong_ca_file = certified(folder, "elsewhere.example")

    def at(answer: str | None = None, body: str = "", scheme: str = "http", tls: ssl.SSLContext | None = None) -> str:
        return f"{scheme}://127.0.0.1:{stack.enter_context(curt(answer, body, tls))}"

    return {
        "unresolved": ("http://nowhere.invalid:9", {}),
        "refused": (f"http://127.0.0.1:{free_port()}", {}),
        "unknown CA": (at("200 OK", scheme="https", tls=right), {}),
        "wrong name": (at("200 OK", scheme="https", tls=wrong), {"ca_file": wrong_ca_file}),
        "no CA file": (at("200 OK", scheme="https", tls=right), {"ca_file": f"{ca_file}.none"}),
        "no TLS": (at("200 OK", scheme="https"), {}),
        "half open": (at(), {"timeout_seconds": 1}),
        "401": (at("401 Unauthorized", error("InvalidAccessKeyId")), {}),
        "403": (at("403 Forbidden", error("AccessDenied")), {}),
        "404": (at("404 Not Found", error("NoSuchBucket")), {}),
        "500": (at("500 Oops", "line\n" * 1000), {}),
        "redirect": (at("302 Found"), {}),
        "garbage": (at("200 OK", "<html>welcome</html>"), {}),
    }


def blocks(url: str, more: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    keys = {"access_key_id": "k", "secret_access_key": NEVER_PRINTED, "addressing_style": "path"}
    yield {"type": "s3", "bucket": "lake", "endpoint_url": url, **keys, **more}
    yield {"type": "http", "url": url, "access_key": NEVER_PRINTED, **more}
    yield {"type": "splunk", "hec_endpoint": url, "hec_token": NEVER_PRINTED, **more}
    auth = {"type": "basic", "username": "u", "password": NEVER_PRINTED}
    yield {"type": "opensearch", "endpoint": url, "index": "app", "auth": auth, **more}


def cluster(url: str, staging: Mapping[str, Any]) -> dict[str, Any]:
    """Redshift there, with a bucket that is well."""
    parts = urlsplit(url)
    tls = "verify-full" if parts.scheme == "https" else "disable"
    login = {"host": parts.hostname, "port": parts.port, "database": "dev", "user": "u", "password": NEVER_PRINTED}
    return {"type": "redshift", **login, "sslmode": tls, "table": "events", "staging": staging}


def clusters_at(folder: Path, stack: ExitStack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Places of Redshift, which speaks a protocol of its own, with TLS that begins within it."""
    server = stack.enter_context(S3Server())
    keys = {"access_key_id": "k", "secret_access_key": NEVER_PRINTED, "addressing_style": "path"}
    staging = {"bucket": server.new_bucket(), "endpoint_url": server.url, **keys}
    nobody, tls = free_port(), certified(folder, "localhost")[0]
    far = stack.enter_context(RedshiftProxy(stack.enter_context(curt()), Bucket(server.url), tls))
    urls = {
        "unresolved": "http://nowhere.invalid:9",
        "refused": f"http://127.0.0.1:{nobody}",
        "unknown CA": f"https://localhost:{far.port}",
        "no TLS": f"https://127.0.0.1:{stack.enter_context(curt('200 OK'))}",
        "half open": f"http://127.0.0.1:{stack.enter_context(curt())}",
        "garbage": f"http://127.0.0.1:{stack.enter_context(curt('200 OK', '<html>welcome</html>'))}",
    }
    hasty = {"half open": {"timeout_seconds": 1}}
    yield from ((name, {**cluster(url, staging), **hasty.get(name, {})}) for name, url in urls.items())
    yield "staging", cluster(urls["refused"], {**staging, "bucket": "nobody-made-this"})


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """What one run of the command says of all of them."""
    folder = tmp_path_factory.mktemp("check")
    with ExitStack() as stack:
        known = {
            (block["type"], name): block
            for name, (url, more) in places(folder, stack).items()
            for block in blocks(url, more)
        }
        known |= {("redshift", name): block for name, block in clusters_at(folder, stack)}
        streams = {f"s{index}": {"destination": block} for index, block in enumerate(known.values())}
        (folder / "firehose.yaml").write_text(yaml.safe_dump({"delivery_streams": streams}, sort_keys=False))
        result = firehose("check", "-c", str(folder / "firehose.yaml"), "--json", "--timeout-seconds", "200")
    said = json.loads(result.stdout)
    assert [one["ok"] for one in said] == [not one["reason"] for one in said]
    assert result.exit_code == 1
    assert NEVER_PRINTED not in result.output
    return dict(zip(known, (one["reason"] for one in said), strict=True))


EXPECTED: Mapping[str, Mapping[str, str]] = {
    "unresolved": {
        "s3": "cannot connect to http://nowhere.invalid:9: ; check that the store runs, and the key endpoint_url",
        "http": "http://nowhere.invalid:9: ; check the key url, and that the endpoint runs",
        "splunk": "http://nowhere.invalid:9: ; check hec_endpoint, and that Splunk runs",
        "opensearch": "http://nowhere.invalid:9: ; check the key endpoint, and that the server runs",
        "redshift": "nowhere.invalid:9/dev: ; cannot be resolved; check host and port",
    },
    "refused": {
        "s3": "Connection refused; check that the store runs, and the key endpoint_url",
        "http": "Connect call failed; check the key url, and that the endpoint runs",
        "splunk": "Connect call failed; check hec_endpoint, and that Splunk runs",
        "opensearch": "Connection refused; check the key endpoint, and that the server runs",
        "redshift": "Connection refused; check host and port, and that the cluster runs and lets us in",
    },
    "unknown CA": {
        "s3": "unable to get local issuer certificate; check ca_file",
        "http": "unable to get local issuer certificate; check ca_file",
        "splunk": "unable to get local issuer certificate; check ca_file",
        "opensearch": "unable to get local issuer certificate; check ca_file",
        "redshift": "unable to get local issuer certificate; check sslmode",
    },
    "wrong name": {
        "s3": "'127.0.0.1' doesn't match 'elsewhere.example'; check ca_file",
        "http": "certificate is not valid for '127.0.0.1'; that the certificate is for the host in url",
        "splunk": "certificate is not valid for '127.0.0.1'; that the certificate is for the host in hec_endpoint",
        "opensearch": "certificate is not valid for '127.0.0.1'; that the certificate is for the host in endpoint",
    },
    "no CA file": {
        "s3": "No such file or directory; check ca_file",
        "http": "ca_file ; 127.0.0.1.pem.none: No such file or directory",
        "splunk": "ca_file ; 127.0.0.1.pem.none: No such file or directory",
        "opensearch": "ca_file ; 127.0.0.1.pem.none: ; No such file or directory",
    },
    "no TLS": {
        "s3": "WRONG_VERSION_NUMBER; whether endpoint_url should begin with http://",
        "http": "WRONG_VERSION_NUMBER; whether url should begin with http://",
        "splunk": "WRONG_VERSION_NUMBER; whether hec_endpoint should begin with http://",
        "opensearch": "WRONG_VERSION_NUMBER; whether endpoint should begin with http://",
        "redshift": "the server takes no TLS; check sslmode",
    },
    "half open": {
        "s3": "no answer of http://127.0.0.1:; in time; check that the store is well",
        "http": "no answer within 1 seconds; check that the endpoint is well",
        "splunk": "no answer within 1 seconds; check that Splunk is well",
        "opensearch": "no answer within 1 seconds; check that the server is well",
        "redshift": "does not answer in time; check host and port",
    },
    "401": {
        "s3": "InvalidAccessKeyId: said so; check access_key_id, secret_access_key and session_token",
        "http": "answers 401; check access_key, or auth",
        "splunk": "answers 401; check hec_token",
        "opensearch": "answers 401; check auth",
    },
    "403": {
        "s3": "AccessDenied: said so; grant s3:PutObject and s3:AbortMultipartUpload on arn:aws:s3:::lake/*",
        "http": "answers 403; check access_key, or auth",
        "splunk": "answers 403; check hec_token",
        "opensearch": "answers 403; check auth, and its rights on the index",
    },
    "404": {
        "s3": "NoSuchBucket: said so; create it with: aws s3 mb s3://lake --endpoint-url http://127.0.0.1:",
        "http": "answers 404; check the path in url",
        "splunk": "answers 404; check hec_endpoint",
        "opensearch": "answers 404; check endpoint",
    },
    "500": {
        "s3": "500: Internal Server Error",
        "http": "answers 500 to OPTIONS",
        "splunk": "answers 500",
        "opensearch": "answers 500",
    },
    "redirect": {
        "s3": "check that endpoint_url is a store that speaks S3",
        "http": "answers 302; check the key url: redirects are not followed",
        "splunk": "answers 302; check hec_endpoint: redirects are not followed",
        "opensearch": "answers 302; check endpoint: redirects are not followed",
    },
    "garbage": {
        "s3": "tells no UploadId; check that endpoint_url is a store that speaks S3",
        "http": "",  # a web server that knows the path: no more can be told without a record
        "splunk": "answers 200; check that hec_endpoint is an HTTP Event Collector",
        "opensearch": "answers 200 with what no such server says; check endpoint",
        "redshift": "answer cannot be read; check host and port",
    },
    "staging": {"redshift": "s3://nobody-made-this: ; NoSuchBucket; create it with: aws s3 mb s3://nobody-made-this"},
}


@pytest.mark.parametrize(("place", "kind"), [(place, kind) for place, said in EXPECTED.items() for kind in said])
def test_what_is_wrong(place: str, kind: str, verdicts: Verdicts) -> None:
    """The line names the place, says what is wrong there, and which key to look at."""
    said = verdicts[kind, place]
    assert [part for part in EXPECTED[place][kind].split("; ") if part not in said] == [], said
    assert bool(said) == bool(EXPECTED[place][kind])


def test_one_line_each(verdicts: Verdicts) -> None:
    """However much a far side answers, a person gets a line of it."""
    assert all(said.isprintable() and len(said) < 700 for said in verdicts.values())


def test_every_destination_of_a_stream(tmp_path: Path) -> None:
    """Of a stream with several each is looked at, with its own error output, the backup and the stream's errors."""
    (tmp_path / "file").touch()

    def to(name: str) -> dict[str, Any]:
        return {"type": "folder", "path": str(tmp_path / name)}

    several = [{**to("a"), "name": "a", "errors": to("file/x")}, {**to("file/b"), "name": "b"}]
    stream = {"destinations": several, "backup": to("file/c"), "errors": to("errors")}
    path = tmp_path / "firehose.yaml"
    path.write_text(yaml.safe_dump({"delivery_streams": {"app": stream}}))
    said = json.loads(firehose("check", "-c", str(path), "--json").stdout)
    assert [(one["destination"], one["purpose"], one["ok"]) for one in said] == [
        ("a", "data", True),
        ("b", "data", False),
        ("backup", "data", False),
        ("folder", "errors", True),
        ("a", "errors", False),
    ]
