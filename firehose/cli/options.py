"""Options that several commands share, and what they come to."""

from __future__ import annotations

from typing import Annotated

import typer

from firehose import config as configuration
from firehose.cli.client import Service
from firehose.config import Config

DEFAULT_URL = "http://127.0.0.1:4573"
ConfigFile = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="The configuration file, such as firehose.yaml.")
]
ServiceConfig = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="Take address and API key from the service's configuration."),
]
Url = Annotated[str | None, typer.Option(metavar="URL", help=f"Where the service answers.  [default: {DEFAULT_URL}]")]
ApiKey = Annotated[str | None, typer.Option(metavar="KEY", help="One of the service's api_keys.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StreamName = Annotated[str, typer.Argument(metavar="STREAM", help="A delivery stream's name.")]


def loaded(path: str | None) -> Config:
    """The configuration of a command that cannot do without one. Raises `ConfigError`."""
    return configuration.load(needed(path))


def needed(path: str | None) -> str:
    if path is None:
        raise typer.BadParameter("name the configuration: -c FILE (config/firehose.yaml is the smallest there is)")
    return path


def service(config: str | None, url: str | None, api_key: str | None) -> Service:
    """The service that a command talks to: `url` and `api_key` where given, else as configured."""
    if config is None:
        return Service(url or DEFAULT_URL, api_key or "")
    options = configuration.load(config).service
    keys = [key.get_secret_value() for key in options.api_keys]
    return Service(url or reachable(*options.address), api_key or next(iter(keys), ""))


def reachable(host: str, port: int) -> str:
    """The URL of a service on this machine that listens there; every address includes the loopback."""
    if port == 0:
        raise typer.BadParameter("service.listen leaves the port open: give --url")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
