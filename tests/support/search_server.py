"""A real OpenSearch node as a program, and a look into its indices that owes nothing to the service under test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan
from programs import Programs, free_port

LIBRARIES = Path(".tools/opensearch").absolute()
NODE = Path(__file__).parents[1] / "live/opensearch/OpenSearchNode.java"
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # half the CPU until it answers; slower ever after


def search_server_is_there() -> bool:
    return LIBRARIES.is_dir() and shutil.which("java") is not None


class SearchServer:
    """One node with a folder of its own. It may be killed and started again on the same port."""

    def __init__(self, programs: Programs, folder: Path, *java_options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        java = ["java", "-Xms512m", "-Xmx512m", *java_options, "-cp", f"{LIBRARIES}/*"]
        self.program = programs.new("opensearch", [*java, NODE, folder, str(port), str(free_port())])
        self.client = OpenSearch(self.url)

    def start(self) -> None:
        self.program.start()
        self.program.wait_until(self._answers)

    def close(self) -> None:
        self.client.close()
        self.program.kill()

    def _answers(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/_cluster/health?wait_for_status=yellow", trust_env=False, timeout=20)
        except httpx.TransportError:
            return False
        return health.status_code == 200

    def destination(self, index: str, **more: Any) -> dict[str, Any]:
        """The block of a configuration that delivers to the index."""
        return {"type": "opensearch", "endpoint": self.url, "index": index, "index_rotation": "none", **more}

    def count(self, index: str) -> int:
        """How many documents the indices that match hold."""
        self.client.indices.refresh(index=index)
        return int(self.client.count(index=index)["count"])

    def documents(self, index: str) -> list[dict[str, Any]]:
        """All documents of the indices that match."""
        self.client.indices.refresh(index=index)
        return [hit["_source"] for hit in scan(self.client, index=index, size=5000)]

    def indices(self, pattern: str) -> list[str]:
        return sorted(self.client.indices.get(index=pattern))
