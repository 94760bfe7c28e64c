"""The twins behind the vault's own stack: Litestar, uvicorn, a key or token checked; then the twin's function, nothing else."""

import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get, post

from bench import twin_obvious, twin_tuned
from bench.feed import destination_of, wanted_of
from bench.twin import Shape
from bench.twin_lookup import TunedLookup
from vault.catalogue.load import load, read_folder
from vault.cli.memory import settle

URL: Final = "BENCH_TWIN_URL"
NAME: Final = "BENCH_TWIN"
KEY: Final = "BENCH_TWIN_KEY"
POLICIES: Final = "BENCH_TWIN_POLICIES"
CONNECTIONS: Final = 8


def app() -> Litestar:
    """The twin that the environment names."""
    expected = hashlib.sha256(os.environ[KEY].encode()).digest()

    def knows(request: Request[Any, Any, Any]) -> bool:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        key = base64.b64decode(secret).partition(b":")[0] if scheme == "Basic" else secret.encode()
        return hashlib.sha256(key).digest() == expected

    @post("/v1/batch", status_code=200)
    async def batch(request: Request[Any, Any, Any]) -> Response[bytes]:
        if not knows(request):
            return Response(b"", status_code=401)
        outcome = await request.app.state.twin.receive(await request.body())
        answer = {"success": True, "stored": outcome.stored, "dropped": outcome.dropped}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @get("/v1/lookup/{user_id:str}")
    async def lookup(request: Request[Any, Any, Any], user_id: str) -> Response[bytes]:
        if not knows(request):
            return Response(b"", status_code=401)
        return _answer(await request.app.state.lookup.read(user_id))

    @get("/v1/key/{user_id:str}")
    async def by_key(request: Request[Any, Any, Any], user_id: str) -> Response[bytes]:
        if not knows(request):
            return Response(b"", status_code=401)
        return _answer(await request.app.state.lookup.by_key(user_id))

    @get("/livez")
    async def livez() -> Response[bytes]:
        return Response(b"{}")

    return Litestar([batch, lookup, by_key, livez], lifespan=[_opened], logging_config=None, openapi_config=None)


def _answer(traits: bytes | None) -> Response[bytes]:
    return Response(traits or b"{}", status_code=200 if traits else 404, media_type="application/json")


@asynccontextmanager
async def _opened(application: Litestar) -> AsyncIterator[None]:
    catalogue = load(read_folder(Path(os.environ[POLICIES])))
    place = os.environ[URL], Shape.of(catalogue), CONNECTIONS
    if os.environ[NAME] == "twin_obvious":
        application.state.twin = await twin_obvious.Twin.reach(*place)
    else:
        application.state.twin = twin = await twin_tuned.Twin.reach(*place)
        destination = destination_of("bench" if "bench-feed" in catalogue.contracts else "shop")
        application.state.lookup = TunedLookup(twin, wanted_of(catalogue, destination))
    settle()
    yield
    application.state.twin.pool.terminate()
