"""Metrics as Prometheus reads them, and logs as people and machines do."""

from __future__ import annotations

import errno
import json
import logging
import sys
from io import StringIO
from unittest.mock import Mock

import pytest
import structlog
from batches import segment
from prometheus_client.parser import text_string_to_metric_families

from firehose import observe
from firehose.exposition import render
from firehose.model import Totals
from firehose.observe import METRICS, Requests
from firehose.standing import PlaceStanding, StreamStanding, samples

PLACE = PlaceStanding("lake", 10, 2, Totals(delivered=4, dead=1), 5, 0, 1_000, 3, "why", 5_000, 4_000, "paused")
HOOK = {"stream": "app", "hook": "h:clean", "requests": 3, "seconds": 0.5, "refused": 1}
STREAM = StreamStanding("app", "ACTIVE", 1, 12, 100, 1000, (PLACE,), hooks=(HOOK,))


def page() -> str:
    requests = Requests()
    requests.add("ingest", 200, 5)
    requests.add("ingest", 503, 0)
    return render([*requests.samples(), *samples([STREAM], 3_000), ("firehose_connections", (), 1)]).decode()


def test_page_is_read_back() -> None:
    """Another reader of Prometheus' format finds every sample, with the kind and the labels that are documented."""
    families = {family.name: family for family in text_string_to_metric_families(page())}
    assert set(families) <= set(METRICS)
    for name, family in families.items():
        assert (family.type, family.documentation) == (METRICS[name].kind, METRICS[name].says)
        assert {frozenset(sample.labels) for sample in family.samples} == {frozenset(METRICS[name].labels)}
    answered = {sample.labels["status"]: sample.value for sample in families["firehose_requests"].samples}
    assert answered == {"200": 1, "503": 1}
    assert families["firehose_oldest_record_age_seconds"].samples[0].value == 2


def test_labels_are_escaped() -> None:
    """A label may hold anything without breaking the page."""
    text = render([("firehose_accepted_records", ('a"b\\c\nd',), 1)]).decode()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"stream": 'a"b\\c\nd'}


def test_unknown_metrics_are_mistakes() -> None:
    """A sample of a metric that is not documented does not pass."""
    with pytest.raises(KeyError):
        render([("firehose_invented", (), 1)])


def test_every_place_metric_is_told() -> None:
    """Each documented metric of a stream or a place has its sample."""
    told = {name for name, _, _ in samples([STREAM], 0)}
    of_sources = {name for name in METRICS if name.startswith("firehose_source_")}  # told by the sources themselves
    assert told == {name for name, one in METRICS.items() if "stream" in one.labels} - of_sources


def test_libraries_speak_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library logs is a JSON line too, with its traceback within."""
    monkeypatch.setattr(logging, "lastResort", None)
    library = logging.Logger("uvicorn.error")  # of its own: pytest listens to all the others
    try:
        observe.configure("json", "info")
        library.warning("Invalid HTTP request received.")
        try:
            raise ValueError("why")
        except ValueError:
            library.exception("it failed")
        library.info("too quiet")
    finally:
        structlog.reset_defaults()
    warning, error = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (warning["event"], warning["level"], warning["library"]) == ("library.said", "warning", "uvicorn.error")
    assert warning["message"] == "Invalid HTTP request received."
    assert (error["level"], "ValueError: why" in error["exception"]) == ("error", True)


def test_json_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs are JSON lines with time, level and event; what is below the level is left out."""
    try:
        observe.configure("json", "info")
        observe.segment_ended("app", "lake", segment([b"secret"]), Totals(delivered=1), 2_000_000_000_000)
        observe.segment_ended("app", "lake", segment([b"secret", b"2"]), Totals(dead=1), 2_000_000_000_000)
        observe.segment_sealed(segment([b"secret"]))
        observe.partition_cut(segment([b"secret"]))
        observe.delivery_failed("app", "lake", segment([b"secret"]), "because")
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("segment.delivered", "info"),
        ("segment.parted", "info"),
        ("delivery.failed", "warning"),
    ]
    assert all("timestamp" in line and "secret" not in json.dumps(line) for line in lines)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(), ValueError("closed file")])
def test_a_log_that_cannot_be_written(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told is lost, and nothing else; what follows is told again."""
    full, well = Mock(**{"write.side_effect": error, "flush.side_effect": error}), StringIO()
    try:
        observe.configure("json", "info")
        monkeypatch.setattr(sys, "stderr", full)
        observe.disk_failed("first")
        monkeypatch.setattr(sys, "stderr", well)
        observe.disk_failed("second")
    finally:
        structlog.reset_defaults()
    assert full.write.called
    assert full.flush.called
    assert [json.loads(line)["reason"] for line in well.getvalue().splitlines()] == ["second"]


def test_no_values_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is told to people with its traceback, and never with what was in the variables."""
    try:
        observe.configure("console", "info")
        try:
            record = b"sec" + b"ret"
            raise ValueError(f"why: {len(record)}")
        except ValueError:
            observe.log.exception("delivery.bug")
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert ("ValueError: why: 6" in said, "secret" in said) == (True, False)
