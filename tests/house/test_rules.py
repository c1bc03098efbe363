"""The source keeps the house rules, and each rule complains of a snippet that breaks it."""

from __future__ import annotations

import house_rules as rules
import pytest
from house_rules import PACKAGES, SOURCE_RULES, TEST_RULES, Module, Rule

SOURCES = rules.modules(*PACKAGES)
TESTS = [module for module in rules.modules("tests") if not module.path.startswith("tests/data/")]


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_source(rule: Rule) -> None:
    """No source file breaks the rule."""
    assert [f"{module.path}: {broken}" for module in SOURCES for broken in rule(module)] == []


@pytest.mark.parametrize("rule", TEST_RULES, ids=lambda rule: rule.__name__)
def test_tests(rule: Rule) -> None:
    """No test file breaks the rule."""
    assert [f"{module.path}: {broken}" for module in TESTS for broken in rule(module)] == []


CANARIES: list[tuple[Rule, str, str]] = [
    (rules.imports, "firehose.model", "from firehose.contracts import Disk"),
    (rules.imports, "firehose.runtime", "import firehose.config"),
    (rules.imports, "firehose.contracts", "from firehose import config"),
    (rules.imports, "firehose.ingest.decoding", "from firehose.buffer import frame"),
    (rules.imports, "firehose.ingest.decoding", "def late():\n    import firehose.delivery.loop"),
    (rules.imports, "firehose.delivery.loop", "from firehose.buffer.ledger import Ledger"),
    (rules.imports, "firehose.delivery.loop", "from firehose.ingest import intake"),
    (rules.imports, "firehose.datastream.reading", "from firehose.buffer import frame"),
    (rules.imports, "firehose.datastream.log", "from firehose.delivery.retry import Patience"),
    (rules.imports, "destinations.folder", "from destinations.s3 import S3"),
    (rules.imports, "destinations.folder", "import transforms.python"),
    (rules.imports, "transforms.python", "from destinations import s3"),
    (rules.libraries, "destinations.s3", "import boto3"),
    (rules.libraries, "destinations.s3", "from botocore.config import Config"),
    (rules.libraries, "firehose.buffer.lane", "from threading import Thread"),
    (rules.libraries, "firehose.naming", "import random"),
    (rules.libraries, "firehose.letters.retention", "from apscheduler.schedulers.asyncio import AsyncIOScheduler"),
    (rules.libraries, "firehose.naming", "from time import time"),
    (rules.files, "firehose.catalogue", "open('x')"),
    (rules.files, "firehose.catalogue", "import os\nos.rename('a', 'b')"),
    (rules.files, "firehose.catalogue", "from pathlib import Path\nPath('x').read_text()"),
    (rules.files, "firehose.catalogue", "import shutil"),
    (rules.clock, "firehose.naming", "import datetime\ndatetime.datetime.now()"),
    (rules.clock, "firehose.naming", "from datetime import date\ndate.today()"),
    (rules.clock, "firehose.naming", "import uuid\nuuid.uuid4()"),
    (rules.environment, "firehose.aws", "import os\nos.environ.get('HOME')"),
    (rules.environment, "firehose.aws", "import os\nos.getenv('HOME')"),
    (rules.size, "firehose.aws", "\n" * 451),
    (rules.size, "firehose.aws", "def long():\n" + "    pass\n" * 60),
    (rules.documented, "firehose.aws", "import os"),
    (rules.names, "firehose.aws", "class StreamManager: ..."),
    (rules.names, "firehose.aws", "class DestinationBase: ..."),
    (rules.leftovers, "firehose.aws", "x = 1  # " + "TO" + "DO: later"),
    (rules.promises, "tests.test_x", "def test_x(): ..."),
]


@pytest.mark.parametrize(("rule", "name", "text"), CANARIES, ids=[f"{r.__name__}: {t[:40]!r}" for r, _, t in CANARIES])
def test_canaries(rule: Rule, name: str, text: str) -> None:
    """A snippet that breaks a rule is complained of."""
    assert list(rule(Module(name, name.replace(".", "/") + ".py", text)))


def test_owners_are_left_alone() -> None:
    """The files that own the clock, the disk and the environment may use them."""
    owners = [
        (rules.clock, "firehose.runtime", "import uuid\nuuid.uuid4()"),
        (rules.files, "firehose.buffer.disk", "open('x')"),
        (rules.files, "firehose.http.shared", "import mmap"),
        (rules.environment, "firehose.config", "import os\nos.environ"),
        (rules.libraries, "firehose.aws", "import boto3"),
        (rules.imports, "destinations.redshift", "from destinations.s3 import S3"),
        (rules.imports, "firehose.datastream.log", "from firehose.buffer import frame"),
        (rules.imports, "firehose.delivery.loop", "from firehose.delivery.retry import Patience"),
    ]
    for rule, name, text in owners:
        assert list(rule(Module(name, name.replace(".", "/") + ".py", text))) == []


def test_every_rule_has_a_canary() -> None:
    """A rule without a snippet that breaks it proves nothing."""
    assert {rule for rule, _, _ in CANARIES} == {*SOURCE_RULES, *TEST_RULES}
