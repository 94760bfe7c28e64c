"""What an ASGI server starts, as factories: `uvicorn --factory api.asgi:app`. The vault opens with the server.

`app` answers HTTP only; `app_with_worker` also runs the background loops in the same process. If those end by an error,
the process goes on answering, and /readyz says so with 503. `confined` makes the application of a process that does a
part of the work, with the keys of that part. Without its key service the vault is locked: the process answers, every path
with values 503 `locked`, and opens the vault as soon as the service is there. One whose database was replaced is shut
(503 `database_replaced`) and opened anew, as at a start.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
from litestar import Litestar

from api.app import build
from vault.bootstrap import EVERYTHING, ProcessRole, open_vault
from vault.cli.memory import settle
from vault.cli.opening import AGAIN
from vault.config import load
from vault.errors import Locked, VaultError
from vault.flows.failover import REPLACED, Known, known_of, replaced, while_whole
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
    return build(lifespan=[partial(_served, role, worker=worker and bool(role.duties))], doors=role.doors)


@asynccontextmanager
async def _served(role: ProcessRole, application: Litestar, *, worker: bool) -> AsyncIterator[None]:
    """From the first look at the vault on. One that is locked is served as locked, and opens by itself."""
    looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(_open(role, application, looked, worker=worker), name="vault")
    try:
        await looked
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _open(role: ProcessRole, application: Litestar, looked: "asyncio.Future[None]", *, worker: bool) -> None:
    """Holds the vault open until cancelled. What stops a start is told in one line of the log, with what to change.

    Behind a locked start the same is told by /readyz, and tried again: the process answers already.
    """
    told = ""
    known: Known | None = None
    application.state.worker = "in this process" if worker else "elsewhere"
    while True:
        try:
            async with open_vault(load(), role=role, known=known) as vault:
                settle()
                application.state.worker = "in this process" if worker else "elsewhere"
                application.state.vault = vault
                if told:
                    _log.info("start.unlocked")
                    told = ""
                if not looked.done():
                    looked.set_result(None)
                try:
                    await while_whole(vault, _serve(application, vault, worker=worker))
                finally:
                    known = known_of(vault)
                    _shut(application)
        except VaultError as error:
            application.state.locked = error
            if str(error) != told:
                told = str(error)
                what = "start.locked" if isinstance(error, Locked) else "start.refused"
                _log.error("database.replaced" if error.reason == REPLACED else what, code=error.reason, message=told)
            if not looked.done():
                if not isinstance(error, Locked):
                    looked.set_exception(error)
                    return
                looked.set_result(None)
        except BaseException as error:
            if not looked.done() and isinstance(error, Exception):
                looked.set_exception(error)
            raise
        await asyncio.sleep(AGAIN)


def _shut(application: Litestar) -> None:
    """Before the vault is closed: who asks from now on is told why, and nothing of it is used any more."""
    application.state.replaced = True
    application.state.locked = replaced()
    application.state.vault = None


async def _serve(application: Litestar, vault: Vault, *, worker: bool) -> None:
    if worker:
        await _work(application, vault)
    await asyncio.Event().wait()  # also behind a worker that ended; the doors go on


async def _work(application: Litestar, vault: Vault) -> None:
    try:
        await run(vault)
    except Exception as error:  # noqa: BLE001 (whatever it is, the doors must be told)
        _log.error("worker.fault", exception=type(error).__name__)
    finally:
        application.state.worker = "stopped"
