"""Talks to a running service over HTTP: imports httpx, and only when it talks, since a service
that starts need not spend the time and the memory.

It never sends anything twice by itself, and tells whether a request that failed can have reached the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from firehose.cli.show import Failure

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0


class Unreachable(Failure):
    """No connection came about: the service has seen nothing of the request."""


class Broken(Failure):
    """The connection broke with a request under way: the service may have acted on it."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service answers, and the key it asks for."""

    url: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status. `said` is the JSON body; what is no JSON object is under `error`."""

    status: int
    said: Mapping[str, Any]
    after_seconds: float | None = None  # Retry-After

    @property
    def reason(self) -> str:
        return str(self.said.get("error") or self.said.get("detail") or self.said.get("message") or self.said)


class Client:
    """Keeps connections to one service. Proxies of the environment are not for it."""

    def __init__(self, service: Service) -> None:
        import httpx

        self.url = service.url.rstrip("/")
        headers = {"Authorization": f"Bearer {service.api_key}"} if service.api_key else {}
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, params: Mapping[str, str | float]) -> Any:
        """One call of the control plane; its JSON. Raises `Failure`."""
        patience = ANSWER_SECONDS + float(params.get("wait_seconds", 0))  # which the service itself may take
        answer = await self._request(method, path, params=params, timeout=patience)
        if answer.status_code != 200:
            raise Failure(f"{self.url} answers {answer.status_code}: {_read(answer).reason}")
        try:
            return answer.json()
        except ValueError:
            raise Failure(f"{self.url} answers, but it is no firehose service") from None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One body of records. Raises `Unreachable` or `Broken`."""
        return _read(await self._request("POST", path, content=body, headers=dict(headers)))

    async def _request(self, method: str, path: str, **given: Any) -> httpx.Response:
        import httpx

        try:
            return await self._http.request(method, self.url + path, **given)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"no service answers at {self.url}: {error or 'it took too long'}") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Unreachable(f"{self.url} is no address of a service: {error}") from error
        except httpx.TransportError as error:
            raise Broken(f"the connection to {self.url} broke: {str(error) or type(error).__name__}") from error


def ingest(stream: str) -> str:
    """Path that takes the stream's records."""
    return f"/ingest/{quote(stream, safe='')}"


def _read(answer: httpx.Response) -> Answer:
    try:
        said = answer.json()
    except ValueError:
        said = answer.text[:300]
    after = answer.headers.get("retry-after", "")
    return Answer(
        answer.status_code,
        said if isinstance(said, dict) else {"error": said},
        float(after) if after.isdigit() else None,
    )
