"""How much of the outside world may be in memory at once: bodies, their bytes in flight, and the time they may take."""

from __future__ import annotations

from dataclasses import dataclass

OVERLOAD_SECONDS = 1.0  # Retry-After when too many bytes are in flight


@dataclass(slots=True)
class Admission:
    """Counts the bytes of request bodies in memory, against one bound for the process."""

    limit_bytes: int
    in_flight_bytes: int = 0

    def admit(self, size_bytes: int) -> bool:
        """Takes room for that many bytes; False, and nothing is taken, where there is none."""
        if self.in_flight_bytes + size_bytes > self.limit_bytes:
            return False
        self.in_flight_bytes += size_bytes
        return True

    def release(self, size_bytes: int) -> None:
        self.in_flight_bytes -= size_bytes
        assert self.in_flight_bytes >= 0, "room was given back twice"
