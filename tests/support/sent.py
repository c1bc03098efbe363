"""What a test sent to a stream, by what it was answered, and what must be found of it at the far side."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import httpx
from programs import PATIENCE_SECONDS


class Posts(Protocol):
    async def post(self, stream: str, body: bytes) -> httpx.Response: ...


@dataclass(slots=True)
class Sent:
    """Lines that are never sent twice. What is in doubt may have been stored; what was refused must not be."""

    stream: str
    acknowledged: list[str] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def post(self, service: Posts, lines: int = 5) -> int:
        count = len(self.acknowledged) + len(self.in_doubt) + len(self.refused)
        chosen = [f"{self.stream}-{count + n:05d}-{'x' * 40}" for n in range(lines)]
        answer = await service.post(self.stream, "\n".join(chosen).encode())
        if answer.status_code == 200:
            assert answer.json() == {"accepted": lines, "rejected": 0}
            self.acknowledged += chosen
        else:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            unsure = answer.json().get("stored") == "unknown"
            (self.in_doubt if unsure else self.refused).extend(chosen)
        return answer.status_code

    async def post_until(self, status: int, service: Posts) -> None:
        """Posts anew with every answer: nobody but the service knows when its disk fails or is mended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.post(service) != status:
                pass

    def check(self, found: list[str]) -> None:
        """Everything acknowledged once, what is in doubt once at most, and nothing else."""
        counted = Counter(found)
        assert set(self.acknowledged) - set(counted) == set(), "acknowledged, and not there"
        assert {line for line, times in counted.items() if times > 1} == set(), "there more than once"
        assert set(counted) - set(self.acknowledged) - set(self.in_doubt) == set(), "there, and never taken"
