"""The control plane against its own OpenAPI page: whatever is asked, the answer is one that the page tells of."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from orders import Told
from schemathesis.specs.openapi.checks import positive_data_acceptance

from firehose.http.app import api
from firehose.http.auth import Keys

open_to_all = schemathesis.openapi.from_asgi("/openapi.json", api(Told(), Keys([])))
guarded = schemathesis.openapi.from_asgi("/openapi.json", api(Told(), Keys([b"key"])))


@open_to_all.parametrize()
@settings(max_examples=25)
def test_every_answer_is_told_of(case: schemathesis.Case[Any]) -> None:
    """No 500, no status, content type or body beside those of the page, and nothing accepted that it rules out."""
    case.call_and_validate(excluded_checks=[positive_data_acceptance])  # not every name is one of ours


@guarded.parametrize()
@settings(max_examples=5)
def test_every_refusal_is_told_of(case: schemathesis.Case[Any]) -> None:
    """The same where a key is asked for and none is sent."""
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


@pytest.mark.parametrize("status", ["200", "401", "404", "422"])
def test_the_page_tells_of(status: str) -> None:
    """The page names each status of a flush, so that the tests above have something to hold it to."""
    assert status in api(Told(), Keys([])).openapi()["paths"]["/v1/streams/{name}/flush"]["post"]["responses"]
