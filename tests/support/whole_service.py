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
from programs import PATIENCE_SECONDS, Programs, free_port, wait_for

from firehose.buffer import inspect
from firehose.buffer.disk import LocalDisk

Block = Mapping[str, Any]
# Without certificates: reading those for every question would take more of the machine than the service's start.
ASK: Mapping[str, Any] = {"trust_env": False, "verify": False, "timeout": PATIENCE_SECONDS}


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
            "drain_seconds": PATIENCE_SECONDS,
            "log_format": "json",
            **options,
        }
        self.write(streams)
        self.program = programs.new("firehose", [sys.executable, "-m", "firehose.cli", "serve", "-c", self.file])

    def write(self, streams: Block) -> None:
        """A new configuration file, which says these streams: whole at once, for a reload may be reading."""
        delivery = {"backoff_seconds": 0.1, "backoff_limit_seconds": 0.5}
        document = {"service": self._options, "delivery": delivery, "delivery_streams": dict(streams)}
        beside = self.file.with_suffix(".new")
        beside.write_text(yaml.safe_dump(document))
        beside.rename(self.file)

    def start(self) -> None:
        """Returns once it takes records."""
        self.program.start()
        self.program.wait_until(lambda: self.ready)

    def kill(self) -> None:
        """Kill -9 of both halves at once."""
        self.program.kill()

    def kill_delivery(self) -> None:
        """Kill -9 of the delivery half alone: of the next one, where the last has gone and that is yet to come."""
        wait_for(lambda: bool(self._children()), "a delivery half to kill")
        before = self.metric("firehose_delivery_restarts_total")
        (delivers,) = self._children()
        os.kill(delivers, signal.SIGKILL)
        wait_for(lambda: self.metric("firehose_delivery_restarts_total") > before, "the delivery half to come back")

    def _children(self) -> list[int]:
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def reload(self, streams: Block) -> None:
        """Has it follow a new configuration."""
        self.write(streams)
        self.program.signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.program.signal(signal.SIGTERM)
        return self.program.wait()

    @property
    def ready(self) -> bool:
        try:
            return self._get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, **ASK)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, content=body, headers=headers, **ASK)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, summed over all its samples that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self._get("/metrics").text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))

    def check(self, name: str) -> str:
        """What /readyz says of it; empty where it says nothing."""
        return str(self._get("/readyz").json()["checks"].get(name, ""))

    def streams(self) -> dict[str, dict[str, Any]]:
        """Every stream as it stands, by name."""
        return {one["name"]: one for one in self._get("/v1/streams").json()}

    def stream(self, name: str) -> dict[str, Any]:
        """The stream as it stands; nothing is told of its destinations while the delivery half does not answer."""
        return self.streams()[name]

    def standing(self, name: str) -> dict[str, Any]:
        """The stream as it stands at its destinations, however long the delivery half takes to tell."""
        said: dict[str, Any] = {}

        def told() -> bool:
            said.update(self.stream(name))
            return bool(said["destinations"])

        wait_for(told, f"the delivery half to tell of {name}", tail=self.program.tail)
        return said

    def destination(self, stream: str, name: str) -> dict[str, Any]:
        """The stream at that one of its destinations."""
        places = {one["destination"]: one for one in self.standing(stream)["destinations"]}
        found: dict[str, Any] = places[name]
        return found

    def place(self, stream: str) -> dict[str, Any]:
        """The stream at its only destination, or its first."""
        first: dict[str, Any] = self.standing(stream)["destinations"][0]
        return first

    def last_error(self, stream: str) -> str:
        return str(self.place(stream)["last_error"])

    def release_until_delivered(self, stream: str) -> None:
        """As a person would who knows why the delivery half died so often: whatever is held, segment or cut, is tried
        again. It may be held only now, and the half that could try it may be starting yet.
        """
        wait_for(lambda: self._release(stream), "what was held to be delivered", tail=lambda: str(self.stream(stream)))
        self.deliver_all(stream)

    def _release(self, stream: str) -> bool:
        for file in list(inspect.files(LocalDisk(), self._options["data_dir"])):
            if file.stream == stream and file.held:
                self.post(f"/v1/segments/release?segment={file.name}", b"")
        return bool(self.post(f"/v1/streams/{stream}/flush?wait_seconds=2", b"").json()["delivered"])

    def deliver_all(self, stream: str, seconds: int = PATIENCE_SECONDS) -> None:
        """Seals what is buffered, waits until all of it is delivered, and sees that the books balance."""
        url = f"{self.url}/v1/streams/{stream}/flush?wait_seconds={seconds}"
        answer = httpx.post(url, **{**ASK, "timeout": seconds + 30}).json()
        assert answer["delivered"] is True, f"not delivered: {self.stream(stream)}"
        standing = self.standing(stream)
        first, *_ = places = standing["destinations"]
        assert all((place["imbalance"], place["buffered"]) == (0, 0) for place in places), places
        # The others may have been added, or taken out, while records came.
        ended = first["delivered"] + first["dead"] + first["dropped"] + first["filtered"]
        assert ended == standing["accepted"]


StartService = Callable[..., WholeService]
