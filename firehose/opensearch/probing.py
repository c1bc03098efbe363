"""Whether documents could be written: asked of a server without writing any.

The right to write is tried with the deletion of a document that is not there. Each complaint is one line that says what
to mend; what a server does not let one ask is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from firehose.contracts import Retry
from firehose.opensearch.answers import Item, Items
from firehose.opensearch.cluster import Cluster
from firehose.posting import REDIRECTS, Answer

T = TypeVar("T")

PROBE = "firehose-check"  # an id that none of our documents has
RULES = "*.action.auto_create_index"
TEMPLATES = "index_templates.index_template"
MISSING, FORBIDDEN = 404, 403
WAYS_OUT = {
    **dict.fromkeys(REDIRECTS, "; check endpoint: redirects are not followed"),
    401: "; check auth",
    FORBIDDEN: "; check auth, and its rights on the index",
    MISSING: "; check endpoint",
}


class Rule(msgspec.Struct, frozen=True):
    auto_create_index: str | list[str] | None = None


class Settings(msgspec.Struct, frozen=True):
    action: Rule = Rule()


class AllSettings(msgspec.Struct, frozen=True):
    """In the order in which they count."""

    transient: Settings = Settings()
    persistent: Settings = Settings()
    defaults: Settings = Settings()

    @property
    def rule(self) -> str | list[str] | None:
        """Which indices are made by themselves, where that is told."""
        told = (one.action.auto_create_index for one in (self.transient, self.persistent, self.defaults))
        return next((one for one in told if one is not None), None)


class Template(msgspec.Struct, frozen=True):
    index_patterns: list[str] = []
    data_stream: dict[str, object] | None = None


class NamedTemplate(msgspec.Struct, frozen=True):
    index_template: Template


class Templates(msgspec.Struct, frozen=True):
    index_templates: list[NamedTemplate] = []


@dataclass(frozen=True, slots=True)
class Probing:
    """One look. It raises `Retry` where nobody answers, and where something is wrong."""

    cluster: Cluster
    index: str
    data_stream: bool
    serverless: bool
    type_name: str = ""

    async def look(self) -> None:
        """Who may write need not be allowed to ask everything: then the right to write is all that is tried."""
        silent = False
        if not self.serverless:  # which does not tell what it is
            told = await self.cluster.ask(lambda client: client.info())
            silent = told.status == FORBIDDEN and not self.data_stream
            self._welcome(told, FORBIDDEN if silent else 200)
        found = await self.cluster.ask(lambda client: client.indices.exists(index=self.index))
        if found.status == MISSING and not silent:
            await self._could_be_made()
            return
        self._welcome(found, MISSING, 200 if self.data_stream else FORBIDDEN)
        if not self.data_stream:  # which takes no deletions
            await self._may_write()

    def _welcome(self, answer: Answer, *passed_over: int) -> None:
        if answer.status not in (200, *passed_over):
            said = f": {answer.text()}" if answer.body else ""
            raise self._trouble(f"answers {answer.status}{WAYS_OUT.get(answer.status, '')}{said}")

    async def _may_write(self) -> None:
        type_name = {"_type": self.type_name} if self.type_name else {}
        action = {"delete": {"_index": self.index, "_id": PROBE, **type_name}}
        answer = await self.cluster.bulk(msgspec.json.encode(action) + b"\n", PROBE)
        self._welcome(answer)
        items = self._parsed(answer, Items).each()
        if len(items) != 1:
            raise self._trouble(f"speaks of {len(items)} documents, where 1 was sent; check endpoint")
        if items[0].error and items[0].status != MISSING:
            told = f"{items[0].status} {items[0].reason()}"
            raise self._trouble(f"cannot write to the index {self.index}: {told}; {self._way_out(items[0])}")

    def _way_out(self, refused: Item) -> str:
        if refused.status in (401, FORBIDDEN):
            return "check auth, and whether the cluster has blocked writing"
        if "index_closed_exception" in refused.reason():
            return f"open it: POST {self.cluster.name}/{self.index}/_open"
        return "check the index"

    async def _could_be_made(self) -> None:
        """The first document would make it, where the server lets it."""
        if self.data_stream:
            if not await self._has_template():
                way_out = f"create it: PUT {self.cluster.name}/_data_stream/{self.index}, which wants an index template"
                raise self._trouble(f"there is no data stream {self.index}; {way_out}")
            return
        answer = await self.cluster.ask(
            lambda client: client.cluster.get_settings(include_defaults=True, filter_path=RULES)
        )
        rule = self._parsed(answer, AllSettings).rule if answer.status == 200 else None
        if rule is not None and not _allows(rule, self.index):
            way_out = "create it, or let the server: action.auto_create_index"
            raise self._trouble(f"there is no index {self.index}, and none is made by itself; {way_out}")

    async def _has_template(self) -> bool:
        answer = await self.cluster.ask(lambda client: client.indices.get_index_template(filter_path=TEMPLATES))
        if answer.status != 200:
            return True  # not for us to know
        templates = [one.index_template for one in self._parsed(answer, Templates).index_templates]
        return any(
            one.data_stream is not None and any(fnmatchcase(self.index, pattern) for pattern in one.index_patterns)
            for one in templates
        )

    def _parsed(self, answer: Answer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (ValueError, RecursionError) as error:
            raise self._trouble(f"answers 200 with what no such server says: {error}; check endpoint") from error

    def _trouble(self, told: str) -> Retry:
        return Retry(self.cluster.hidden.out_of(f"{self.cluster.name}: {told}"))


def _allows(rule: str | list[str], index: str) -> bool:
    """`true`, `false`, or patterns, of which the first that fits decides: `+logs-*,-*`."""
    if rule in ("true", "false"):
        return rule == "true"
    for pattern in rule if isinstance(rule, list) else rule.split(","):
        if fnmatchcase(index, pattern.strip().lstrip("+-")):
            return not pattern.strip().startswith("-")
    return False
