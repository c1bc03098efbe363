"""Who logs in, and where: what the keys allow, and how AWS is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from firehose import aws
from firehose.redshift.connection import Login
from firehose.redshift.login import Cluster, ClusterOptions

KEYS = {"access_key_id": "test", "secret_access_key": "hush-hush", "region": "us-east-1"}
PLACE = {"host": "far.example", "database": "dev"}
PERSON = {"user": "firehose", "password": "hush-hush"}


def options(**keys: Any) -> ClusterOptions:
    return ClusterOptions.model_validate(keys)


def login(**keys: Any) -> Login:
    cluster = Cluster(options(**keys), aws.Clients(), "us-east-1")
    try:
        return cluster.login()
    finally:
        cluster.close()


def test_password() -> None:
    """A user with a password needs nobody else."""
    assert login(**PLACE, **PERSON) == Login("far.example", 5439, "dev", "firehose", "hush-hush", "verify-full")


def test_jdbc_url() -> None:
    """AWS's ClusterJDBCURL says where it is."""
    url = "jdbc:redshift://far.example:1234/dev"
    assert login(cluster_jdbcurl=url, **PERSON).place == "far.example:1234/dev"


@pytest.mark.parametrize(
    "keys",
    [
        {**PLACE},
        {**PLACE, "user": "u"},
        {**PLACE, "password": "p"},
        {"host": "far.example", **PERSON},
        {"database": "dev", **PERSON},
        {**PLACE, **PERSON, "iam": {"workgroup": "w"}},
        {**PLACE, "iam": {}},
        {**PLACE, "iam": {"workgroup": "w", "cluster_identifier": "c"}},
        {**PLACE, "user": "u", "iam": {"workgroup": "w"}},
        {**PLACE, **PERSON, "cluster_jdbcurl": "jdbc:redshift://far.example/dev"},
        {**PERSON, "cluster_jdbcurl": "http://far.example/dev"},
    ],
    ids=str,
)
def test_refused(keys: dict[str, Any]) -> None:
    """What does not say where, or who, or says it twice, is refused."""
    with pytest.raises(ValidationError):
        options(**keys)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_cluster_credentials(moto: str) -> None:
    """AWS gives a password for a user of a cluster, and says where that is."""
    client = boto3.Session("test", "test", region_name="us-east-1").client("redshift", endpoint_url=moto)
    client.create_cluster(
        ClusterIdentifier="analytics", NodeType="ra3.large", MasterUsername="admin", MasterUserPassword="Pass-word-1"
    )
    client.close()
    given = login(
        database="dev", user="firehose", iam={"cluster_identifier": "analytics", "endpoint_url": moto, **KEYS}
    )
    assert given.user == "IAM:firehose"
    assert given.password
    assert "analytics" in given.host


def test_no_such_cluster(moto: str) -> None:
    """Where AWS says no, that is told."""
    with pytest.raises(aws.Failed, match="ClusterNotFound"):
        login(database="dev", user="firehose", iam={"cluster_identifier": "nowhere", "endpoint_url": moto, **KEYS})


@pytest.fixture
def serverless(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Redshift Serverless's API, as AWS documents it: its address, and what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []
    answers = {
        "GetCredentials": (200, {"dbUser": "IAMR:firehose", "dbPassword": "for-a-while", "expiration": 1772366407}),
        "GetWorkgroup": (200, {"workgroup": {"endpoint": {"address": "far.example", "port": 5440}}}),
        **getattr(request, "param", {}),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            asked.append((operation, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            status, answer = answers[operation]
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_serverless(serverless: tuple[str, list[tuple[str, dict[str, Any]]]]) -> None:
    """A workgroup logs in whom AWS says, where AWS says."""
    url, asked = serverless
    given = login(database="dev", iam={"workgroup": "analytics", "endpoint_url": url, **KEYS})
    assert given == Login("far.example", 5440, "dev", "IAMR:firehose", "for-a-while", "verify-full")
    assert asked[0] == ("GetCredentials", {"workgroupName": "analytics", "dbName": "dev", "durationSeconds": 900})


EXPIRED = {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}


@pytest.mark.parametrize(
    ("serverless", "said"),
    [
        ({"GetCredentials": (400, EXPIRED)}, "ExpiredTokenException"),
        ({"GetCredentials": (403, {"__type": "AccessDeniedException", "message": "no"})}, "AccessDeniedException"),
        ({"GetCredentials": (200, {})}, "StrangeAnswer"),
        ({"GetWorkgroup": (200, {"workgroup": {}})}, "StrangeAnswer"),
    ],
    indirect=["serverless"],
)
def test_no_login(serverless: tuple[str, list[tuple[str, dict[str, Any]]]], said: str) -> None:
    """Credentials that have expired or may not, and an answer without what was asked for, are told."""
    with pytest.raises(aws.Failed, match=said):
        login(database="dev", iam={"workgroup": "analytics", "endpoint_url": serverless[0], **KEYS})


def test_serverless_with_a_host(serverless: tuple[str, list[tuple[str, dict[str, Any]]]]) -> None:
    """Who says where it is need not be told."""
    url, asked = serverless
    assert login(**PLACE, iam={"workgroup": "analytics", "endpoint_url": url, **KEYS}).place == "far.example:5439/dev"
    assert [operation for operation, _ in asked] == ["GetCredentials"]
