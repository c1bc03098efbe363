"""The control plane: a FastAPI app over what the service can be asked and ordered. Its OpenAPI page is `/docs`."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from firehose import __version__
from firehose.http.auth import Keys
from firehose.http.wire import Head

STREAM = Annotated[str, "a delivery stream's name"]


class Health(BaseModel):
    """`status` is `ok` or `failing`; `checks` say what was looked at, and what to mend."""

    status: str
    checks: dict[str, str] = {}


class Place(BaseModel):
    """A stream at one of its destinations. Counts are records; times are epoch milliseconds, 0: never."""

    destination: str
    delivered: int
    dead: int
    dropped: int
    filtered: int
    damaged: int
    split: int
    buffered: int
    held: int
    imbalance: int
    objects: int
    oldest_age_seconds: float = Field(description="DataFreshness: age of the oldest record not yet at its end")
    last_delivered_ms: int
    last_error: str
    last_error_ms: int
    paused: str


class StreamView(BaseModel):
    """A delivery stream as it stands. `destinations` is empty while the delivery half does not answer."""

    name: str
    state: str
    version: int
    accepted: int
    buffered_bytes: int
    limit_bytes: int
    destinations: list[Place]


class DataStreamView(BaseModel):
    """A data stream as it stands. `declared`: in the configuration file, which alone changes it."""

    name: str
    status: str
    mode: str
    declared: bool
    open_shards: int
    closed_shards: int
    retention_hours: int
    consumers: int
    incoming_records: int = Field(description="since the service started")
    stored_bytes: int
    limit_bytes: int


class Flushed(BaseModel):
    """`records` had not been sealed yet; `delivered` is null where nobody waited."""

    stream: str
    records: int
    delivered: bool | None


class Released(BaseModel):
    segment: str
    destinations: list[str]


class Refusal(BaseModel):
    """Why an order was not carried out."""

    detail: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a page tells of answers that refuse; FastAPI itself tells of 422."""
    return {status: {"model": Refusal} for status in statuses}


class Orders(Protocol):
    """What the service can be asked and ordered."""

    async def ready(self) -> dict[str, str]:
        """What keeps it from taking records durably, by name; empty when nothing does. Details start with `ok`."""
        ...

    async def metrics(self) -> bytes: ...

    async def streams(self) -> list[dict[str, Any]]: ...

    async def data_streams(self) -> list[dict[str, Any]]: ...

    async def flush(self, stream: str, wait_seconds: float) -> dict[str, Any]:
        """Seals what is buffered. Raises KeyError."""
        ...

    async def release(self, segment: str) -> list[str]:
        """Has a held segment tried again; the destinations it was held for. Raises ValueError."""
        ...


def api(orders: Orders, keys: Keys) -> FastAPI:
    def keyed(request: Request) -> None:
        head = Head(request.method, request.url.path, b"", dict(request.scope["headers"]))
        if not keys.admit(head):
            raise HTTPException(401, "send one of service.api_keys as Authorization: Bearer or X-Api-Key")

    app = FastAPI(
        title="firehose",
        version=__version__,
        description="Control plane of a self-hosted Amazon Data Firehose. Records go to POST /ingest/{stream}, "
        "dead letters come back by POST /v1/streams/{stream}/replay?object=NAME.",
        redirect_slashes=False,  # a redirected POST loses its body, or its sender
    )
    app.include_router(health(orders), tags=["health"])
    app.include_router(
        ordered(orders), prefix="/v1", tags=["streams"], dependencies=[Depends(keyed)], responses=refusals(401)
    )
    return app


def health(orders: Orders) -> APIRouter:
    """What machines ask, with GET or HEAD, and never need a key for."""
    router = APIRouter()

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez")
    @router.get("/ready", include_in_schema=False)
    @router.get("/health", include_in_schema=False)
    async def livez() -> Health:
        """The process runs."""
        return Health(status="ok")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={503: {"model": Health}})
    async def readyz(response: Response) -> Health:
        """Records can be taken durably. The checks also tell of trouble in delivery, which does not unready us."""
        checks = await orders.ready()
        failing = any(not said.startswith("ok") for said in checks.values())
        response.status_code = 503 if failing else 200
        return Health(status="failing" if failing else "ok", checks=checks)

    @router.head("/metrics", include_in_schema=False)
    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus' text format; see docs/metrics.md."""
        return Response(await orders.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def root() -> dict[str, str]:
        return {"service": "firehose", "version": __version__, "docs": "/docs"}

    return router


def ordered(orders: Orders) -> APIRouter:
    """What people ask and order."""
    router = APIRouter()

    @router.get("/streams")
    async def streams() -> list[StreamView]:
        """All delivery streams: what they took, what became of it, what went wrong last."""
        return [StreamView.model_validate(stream) for stream in await orders.streams()]

    @router.get("/data-streams")
    async def data_streams() -> list[DataStreamView]:
        """All data streams: their shards, and what they hold."""
        return [DataStreamView.model_validate(stream) for stream in await orders.data_streams()]

    @router.post("/streams/{name}/flush", responses=refusals(404))
    async def flush(name: STREAM, wait_seconds: Annotated[float, Query(ge=0, le=3600)] = 0) -> Flushed:
        """Seals what the stream has buffered, and waits for its delivery if asked to."""
        try:
            return Flushed.model_validate(await orders.flush(name, wait_seconds))
        except KeyError:
            raise HTTPException(404, f"there is no delivery stream '{name}'") from None

    @router.post("/segments/release", responses=refusals(400))
    async def release(segment: Annotated[str, Query(description="stream/lane/first")]) -> Released:
        """Has a held segment tried again."""
        try:
            return Released(segment=segment, destinations=await orders.release(segment))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None

    return router
