"""Dead letters of a stream with several destinations: whose each one is, and where it lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cli.running import good
from running import NEVER, running, to_folder


def test_letters_tell_whose_they_are(tmp_path: Path) -> None:
    """The commands read the error outputs of all destinations; those of one are picked by its name."""
    never = 'error("never")'
    to = {name: to_folder(tmp_path, name, name=name, where=never) for name in ("a", "b")}
    to["a"]["errors"] = to_folder(tmp_path, "letters-of-a")
    stream = {"buffering": NEVER, "destinations": [to["a"], to["b"], to_folder(tmp_path, "c")]}

    async def deliver() -> None:
        async with running(tmp_path, {"app": stream}) as one:
            await one.post("app", b'{"n":1}\n' + b"no json\n")
            await one.flush("app")

    asyncio.run(deliver())
    config = ("-c", str(tmp_path / "firehose.yaml"))
    query = "SELECT reason, details->>'destination' AS whose FROM letters ORDER BY ALL"
    letters = json.loads(good("dead-letters", "sql", query, *config, "--json"))
    assert [(one["reason"], one["whose"]) for one in letters] == [
        ("Ingest.MalformedBody", None),
        ("Where.Error", "a"),
        ("Where.Error", "b"),
    ]
    picked = good("dead-letters", "show", *config, "--where", "details->>'destination' = 'a'", "--raw")
    assert picked.strip() == '{"n":1}'
