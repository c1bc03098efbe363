"""The service as people run it: `firehose serve -c FILE` in processes of its own, killed and started at will."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from programs import Programs, free_port, wait_for

Block = Mapping[str, Any]


class WholeService:
    """One data folder and one port, which stay the same over every restart."""

    def __init__(self, programs: Programs, folder: Path, streams: Block, **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.programs = programs
        self.file = folder / "firehose.yaml"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = {
            "listen": f"127.0.0.1:{self.port}",
            "data_dir": str(folder / "data"),
            "reserve_mib": 1,
            "log_format": "json",
            **options,
        }
        self.write(streams)
        self.program = programs.new("firehose", [sys.executable, "-m", "firehose.cli", "serve", "-c", self.file])

    def write(self, streams: Block) -> None:
        """A new configuration file, which says these streams."""
        delivery = {"backoff_seconds": 0.1, "backoff_limit_seconds": 0.5}
        document = {"service": self._options, "delivery": delivery, "delivery_streams": dict(streams)}
        self.file.write_text(yaml.safe_dump(document))

    def start(self) -> None:
        """Returns once it takes records."""
        self.program.start()
        self.program.wait_until(self._ready)

    def kill(self) -> None:
        """Kill -9 of both halves at once."""
        self.program.kill()

    def kill_delivery(self) -> None:
        """Kill -9 of the delivery half alone."""
        before = self.metric("firehose_delivery_restarts_total")
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text().split()
        assert len(children) == 1, "one process delivers"
        os.kill(int(children[0]), signal.SIGKILL)
        wait_for(lambda: self.metric("firehose_delivery_restarts_total") > before, "the delivery half to come back")

    def reload(self, streams: Block) -> None:
        """Has it follow a new configuration."""
        self.write(streams)
        self.program.signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.program.signal(signal.SIGTERM)
        return self.program.wait(60)

    def _ready(self) -> bool:
        try:
            return self._get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=20)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, content=body, headers=headers, trust_env=False, timeout=20)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, summed over all its samples that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self._get("/metrics").text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))

    def stream(self, name: str) -> dict[str, Any]:
        """The stream as it stands."""
        found: list[dict[str, Any]] = [one for one in self._get("/v1/streams").json() if one["name"] == name]
        return found[0]

    def place(self, stream: str) -> dict[str, Any]:
        """The stream at its only destination; empty while the delivery half does not answer."""
        places: list[dict[str, Any]] = self.stream(stream)["destinations"]
        return places[0] if places else {}

    def last_error(self, stream: str) -> str:
        return str(self.place(stream).get("last_error", ""))

    def deliver_all(self, stream: str, seconds: int = 60) -> None:
        """Seals what is buffered, waits until all of it is delivered, and sees that the books balance."""
        url = f"{self.url}/v1/streams/{stream}/flush?wait_seconds={seconds}"
        answer = httpx.post(url, trust_env=False, timeout=seconds + 10).json()
        assert answer["delivered"] is True, f"not delivered: {self.stream(stream)}"
        standing = self.stream(stream)
        place = standing["destinations"][0]
        ended = place["delivered"] + place["dead"] + place["dropped"]
        assert (place["imbalance"], place["buffered"], ended) == (0, 0, standing["accepted"])


StartService = Callable[..., WholeService]
