"""What stands in for the real libraries while a world runs: the store's wire, locks between strands, the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import structlog
from side_by_side import PACE, Eager
from simulation.store import Sessions, Store
from simulation.world import Mutex, World, running_in

import destinations
from firehose.buffer import ledger

BUGS = ("delivery.bug", "request.bug", "delivery.message_failed")


@contextmanager
def installed(world: World, store: Store, side_by_side: bool) -> Iterator[None]:
    """They are in place while this lasts. `side_by_side` has streams write several lanes whatever the disk is like."""
    before = structlog.get_config()
    every_level = structlog.make_filtering_bound_logger(logging.NOTSET)
    structlog.configure(processors=[partial(_heard, world)], wrapper_class=every_level)
    table = {"s3": "simulation.small_s3:SmallS3"}
    libraries = Libraries(world)
    with ExitStack() as stack:
        stack.callback(structlog.configure, **before)
        logging.getLogger().addHandler(libraries)
        stack.callback(logging.getLogger().removeHandler, libraries)
        stack.enter_context(mock.patch.dict(destinations.TABLE, table))
        sessions = Sessions(store)
        stack.enter_context(mock.patch("botocore.session.Session", sessions))
        stack.enter_context(mock.patch("boto3.Session", sessions))
        stack.enter_context(mock.patch.object(ledger, "threading", SimpleNamespace(Lock=Mutex)))
        if side_by_side:
            stack.enter_context(mock.patch(PACE, Eager))
        yield


def _heard(world: World, _: Any, __: str, event: dict[str, Any]) -> Any:
    """What the service logs belongs into the world's log; a bug that it has caught is one all the same."""
    process = running_in()
    if process is not None and process.alive:
        said = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "exc_info"))
        process.note(f"log {event['event']} {said}")
        if event["event"] in BUGS:
            world.violated("no bug", f"{event} {traceback.format_exc()}")
    raise structlog.DropEvent


class Libraries(logging.Handler):
    """What a library complains of in a living process is a bug."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = running_in()
        if process is not None and process.alive:
            self._world.violated(
                "no bug", f"{process.name}: {record.getMessage()} {record.exc_text or record.exc_info}"
            )
