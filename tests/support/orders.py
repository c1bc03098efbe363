"""A service that the control plane can ask and order, without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PLACE: dict[str, Any] = {
    "destination": "lake", "delivered": 1, "dead": 0, "dropped": 0, "filtered": 0, "damaged": 0,
    "split": 0, "buffered": 2, "held": 0, "imbalance": 0,
    "objects": 1, "oldest_age_seconds": 1.5, "last_delivered_ms": 5, "last_error": "", "last_error_ms": 0, "paused": "",
}  # fmt: skip
STREAM: dict[str, Any] = {
    "name": "app", "state": "ACTIVE", "version": 1, "accepted": 3, "buffered_bytes": 10, "limit_bytes": 100,
    "destinations": [PLACE],
}  # fmt: skip
DATA_STREAM: dict[str, Any] = {
    "name": "clicks", "status": "ACTIVE", "mode": "PROVISIONED", "declared": True, "open_shards": 2, "closed_shards": 1,
    "retention_hours": 24, "consumers": 0, "incoming_records": 3, "stored_bytes": 10, "limit_bytes": 100,
}  # fmt: skip


@dataclass
class Told:
    """Answers as it is told to, and remembers what it was ordered."""

    checks: dict[str, str] = field(default_factory=lambda: {"disk": "ok"})
    orders: list[tuple[str, float]] = field(default_factory=list)

    async def ready(self) -> dict[str, str]:
        return self.checks

    async def metrics(self) -> bytes:
        return b"firehose_up 1\n"

    async def streams(self) -> list[dict[str, Any]]:
        return [STREAM]

    async def data_streams(self) -> list[dict[str, Any]]:
        return [DATA_STREAM]

    async def flush(self, stream: str, wait_seconds: float) -> dict[str, Any]:
        if stream != "app":
            raise KeyError(stream)
        self.orders.append((stream, wait_seconds))
        return {"stream": stream, "records": 3, "delivered": True if wait_seconds else None}

    async def release(self, segment: str) -> list[str]:
        if segment != "app/lane/1":
            raise ValueError("that segment is not held")
        return ["lake"]
