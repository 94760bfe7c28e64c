"""What an ASGI server starts, as factories: `uvicorn --factory api.asgi:app`. The vault opens with the server.

`app` answers HTTP only; `app_with_worker` also runs the background loops in the same process. If those end by an error,
the process goes on answering, and /readyz says so with 503.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from litestar import Litestar

from api.app import build
from vault.bootstrap import open_vault
from vault.config import load
from vault.flows.vault import Vault
from vault.worker import run

# Measured: with defaults the collector's pauses are the p99 of a batch (26 ms; 1.2 ms so). Reference counts free the rest.
GC_THRESHOLDS: Final = (100_000, 50, 1_000)
_log = structlog.get_logger("asgi")


def app() -> Litestar:
    """The HTTP doors; a worker runs elsewhere."""
    return build(lifespan=[_doors])


def app_with_worker() -> Litestar:
    """The HTTP doors and the worker in one process."""
    return build(lifespan=[_doors_and_worker])


@asynccontextmanager
async def _doors(application: Litestar) -> AsyncIterator[None]:
    async with open_vault(load()) as vault:
        application.state.vault = vault
        application.state.worker = "elsewhere"
        _settle_memory()
        yield


@asynccontextmanager
async def _doors_and_worker(application: Litestar) -> AsyncIterator[None]:
    async with open_vault(load()) as vault:
        application.state.vault = vault
        application.state.worker = "in this process"
        _settle_memory()
        task = asyncio.create_task(_work(application, vault))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _work(application: Litestar, vault: Vault) -> None:
    try:
        await run(vault)
    except Exception as error:  # noqa: BLE001 (whatever it is, the doors must be told)
        _log.error("worker.fault", exception=type(error).__name__)
    finally:
        application.state.worker = "stopped"


def _settle_memory() -> None:
    """What stands after start-up stays: take it out of every later collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
