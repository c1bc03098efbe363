"""Clients of AWS services are shared: a thousand streams to one store cost one client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from programs import PATIENCE_SECONDS
from pydantic import SecretStr

from destinations.s3 import S3Options
from firehose.aws import AwsOptions, Client, Clients, Events

KEYS: dict[str, Any] = {"access_key_id": "a", "secret_access_key": SecretStr("b"), "endpoint_url": "http://127.0.0.1:1"}


def test_equal_options_are_one_client() -> None:
    """Blocks that differ in what is no matter of the connection have one client; it is closed with the last of them."""
    clients = Clients()
    one, other = S3Options(bucket="one", **KEYS), S3Options(bucket="other", prefix="x/", **KEYS)
    key, made = clients.take("s3", one, "us-east-1", {})
    again, same = clients.take("s3", other, "us-east-1", {})
    assert made is same
    clients.give_back(key)
    assert clients.take("s3", one, "us-east-1", {})[1] is made
    clients.give_back(key)
    clients.give_back(again)
    assert clients.take("s3", one, "us-east-1", {})[1] is not made


@pytest.mark.parametrize(
    "changed",
    [{"secret_access_key": SecretStr("c")}, {"endpoint_url": "http://127.0.0.1:2"}, {"timeout_seconds": 1}],
    ids=str,
)
def test_other_connections_are_other_clients(changed: dict[str, Any]) -> None:
    """What makes a connection another one is never shared, the secret above all; the services' models are."""
    clients = Clients()
    _, made = clients.take("s3", AwsOptions(**KEYS), "us-east-1", {})
    _, other = clients.take("s3", AwsOptions(**{**KEYS, **changed}), "us-east-1", {})
    assert made is not other


def test_another_region_or_style_is_another_client() -> None:
    """Region and botocore's own settings tell clients apart too."""
    clients, options = Clients(), AwsOptions(**KEYS)
    style = {"s3": {"addressing_style": "path"}}
    found = [
        clients.take("s3", options, region, config)[1]
        for region, config in (("us-east-1", {}), ("eu-west-1", {}), ("us-east-1", style))
    ]
    assert len(set(map(id, found))) == 3


def test_the_models_of_a_service_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's first client reads its description, and no later one reads it again."""
    from botocore.loaders import JSONFileLoader

    read: list[str] = []
    load_file = JSONFileLoader.load_file

    def counted(self: JSONFileLoader, path: str) -> Any:
        read.append(path)
        return load_file(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    clients = Clients()
    clients.take("s3", AwsOptions(**KEYS), "us-east-1", {})
    assert read
    read.clear()
    clients.take("s3", AwsOptions(**{**KEYS, "timeout_seconds": 5}), "eu-west-1", {})
    assert read == []


def test_closing_gives_back_once() -> None:
    """A destination that is closed twice takes nothing from the others; a closed client may be used again."""
    clients, options = Clients(), AwsOptions(**KEYS)
    one, other = (Client(clients, "s3", options, "us-east-1") for _ in range(2))
    for client in (one, other):
        with pytest.raises(Exception, match="EndpointConnection"):
            client.call("list_buckets")
    one.close()
    one.close()
    key, _ = clients.take("s3", options, "us-east-1", {})
    clients.give_back(key)
    with pytest.raises(Exception, match="EndpointConnection"):
        other.call("list_buckets")
    other.close()


class Silent:
    """An event stream that says nothing until it is told to. Closing it while it is read would wait, as a socket's
    file does.
    """

    def __init__(self) -> None:
        self.asked, self.says = threading.Event(), threading.Event()
        self.closed_by: list[threading.Thread] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            self.asked.set()
            self.says.wait(PATIENCE_SECONDS)
            yield {"said": {}}

    def close(self) -> None:
        self.closed_by.append(threading.current_thread())


def test_events_are_closed_by_whoever_reads_them() -> None:
    """Closing a subscription that is being read waits for nothing: it is closed behind the event to come."""
    stream = Silent()
    events = Events(stream)
    reader = threading.Thread(target=events.next)
    reader.start()
    assert stream.asked.wait(PATIENCE_SECONDS)
    events.close()
    assert stream.closed_by == []
    stream.says.set()
    reader.join()
    assert stream.closed_by == [reader]


def test_events_that_nobody_reads_are_closed_at_once() -> None:
    """A subscription between two events is closed by the call itself."""
    stream = Silent()
    stream.says.set()
    events = Events(stream)
    assert events.next() == {"said": {}}
    events.close()
    assert stream.closed_by == [threading.current_thread()]
