"""What an ASGI server starts, as factories: `uvicorn --factory api.asgi:app`. The vault opens with the server.

`app` answers HTTP only; `app_with_worker` also runs the background loops in the same process. If those end by an error,
the process goes on answering, and /readyz says so with 503. `confined` makes the application of a process that does a
part of the work, with the keys of that part.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import structlog
from litestar import Litestar

from api.app import build
from vault.bootstrap import EVERYTHING, ProcessRole, open_vault
from vault.cli.memory import settle
from vault.config import load
from vault.errors import VaultError
from vault.flows.vault import Vault
from vault.worker import run

_log = structlog.get_logger("asgi")


def app() -> Litestar:
    """The HTTP doors; a worker runs elsewhere."""
    return confined(None, worker=False)


def app_with_worker() -> Litestar:
    """The HTTP doors and the worker in one process."""
    return confined(None, worker=True)


def confined(role: ProcessRole | None, *, worker: bool) -> Litestar:
    """The doors of `role`, and with `worker` its duties. None: all, with every key."""
    role = role or EVERYTHING
    return build(lifespan=[partial(_doors_and_worker if worker and role.duties else _doors, role)], doors=role.doors)


@asynccontextmanager
async def _doors(role: ProcessRole, application: Litestar) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await _open(role, application, stack)
        application.state.worker = "elsewhere"
        yield


@asynccontextmanager
async def _doors_and_worker(role: ProcessRole, application: Litestar) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        vault = await _open(role, application, stack)
        application.state.worker = "in this process"
        task = asyncio.create_task(_work(application, vault))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _open(role: ProcessRole, application: Litestar, stack: AsyncExitStack) -> Vault:
    """The vault, for as long as `stack` lasts. What stops the start is told in one line of the log, with what to change."""
    try:
        vault = await stack.enter_async_context(open_vault(load(), role=role))
    except VaultError as error:
        _log.error("start.refused", code=error.reason, message=str(error))
        raise
    application.state.vault = vault
    settle()
    return vault


async def _work(application: Litestar, vault: Vault) -> None:
    try:
        await run(vault)
    except Exception as error:  # noqa: BLE001 (whatever it is, the doors must be told)
        _log.error("worker.fault", exception=type(error).__name__)
    finally:
        application.state.worker = "stopped"
