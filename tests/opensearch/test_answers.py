"""What a server says to a bulk request: whose fault it is that a document was not taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firehose.opensearch.answers import Mismatch, failures

SAYS = {
    "mapping": (400, {"type": "mapper_parsing_exception", "reason": "failed to parse field [n]"}, False),
    "fields": (400, {"type": "illegal_argument_exception", "reason": "Limit of total fields [4] has been"}, False),
    "strict": (400, {"type": "strict_dynamic_mapping_exception", "reason": "mapping set to strict"}, False),
    "too large": (413, {"type": "x", "reason": "y"}, False),
    "text": (400, "MapperParsingException[failed]", False),
    "nothing": (400, None, False),
    "closed": (400, {"type": "index_closed_exception", "reason": "closed"}, True),
    "shards": (400, {"type": "validation_exception", "reason": "this action would add [2] total shards"}, True),
    "alias": (400, {"type": "illegal_argument_exception", "reason": "no write index is defined for alias [a]"}, True),
    "pipeline": (400, {"type": "illegal_argument_exception", "reason": "pipeline with id [p] does not exist"}, True),
    "block": (403, {"type": "cluster_block_exception", "reason": "read-only"}, True),
    "missing": (404, {"type": "index_not_found_exception", "reason": "no such index [a]"}, True),
    "busy": (429, {"type": "rejected_execution_exception", "reason": "rejected"}, True),
    "down": (503, {"type": "unavailable_shards_exception", "reason": None}, True),
    "odd": (0, None, True),
}


def answer(*items: dict[str, Any]) -> bytes:
    return json.dumps({"errors": True, "items": [{"index": item} for item in items]}).encode()


@pytest.mark.parametrize(("status", "error", "passes"), SAYS.values(), ids=SAYS)
def test_whose_fault_it_is(status: int, error: Any, passes: bool) -> None:
    """What the cluster lacks may pass; what is wrong with the document will not."""
    item = {"status": status, **({"error": error} if error is not None else {})}
    ((at, said),) = failures(answer({"status": 201}, item), 2, exists_is_taken=False)
    assert (at, said.passes()) == (1, passes)
    assert said.reason()


def test_words_are_bounded() -> None:
    """A reason is told with what lies beneath it, and not without end."""
    error = {"type": "t", "reason": "r", "caused_by": {"reason": "c" * 5000}}
    ((_, said),) = failures(answer({"status": 400, "error": error}), 1, exists_is_taken=False)
    assert said.reason().startswith("t: r: ccc")
    assert len(said.reason()) == 1000


def test_an_answer_to_something_else() -> None:
    """An answer that speaks of more documents, or fewer, says nothing of any; also where it claims that all is well."""
    for body in (answer({"status": 201}), b'{"errors":false,"items":[{"index":{"status":201}}]}'):
        for count in (0, 2):
            with pytest.raises(Mismatch):
                failures(body, count, exists_is_taken=False)
        assert failures(body, 1, exists_is_taken=False) in ((), [])
