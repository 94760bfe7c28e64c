"""The boundaries of a run, counted and named, and what happens at one of them. Nothing in the product knows of it.

A boundary is a place where a process can die and leave a difference: before a statement goes to the database and after
its answer came, before and after each write, flush, replacement and removal of a file, before and after an HTTP answer.
`install` wraps the two things that all of the vault goes through, asyncpg's protocol and the functions of `os`, in a
process of the harness's own: no setting of a deployment could ever turn it on.

What happens at boundary `at` is told by `how`:
- `count`       nothing: a first run learns how many there are, and their names
- `kill`        this process dies (SIGKILL); between the halves of a write, half of it is on disk
- `postmaster`  the database server and all its children die (SIGKILL); what it answered just then never arrives
- `backend`     the server's process of this connection dies, and PostgreSQL drops all connections and recovers
- `cancel`      the task that came here is cancelled, as when a client hangs up (threat H10)
"""

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.connection import Connection

KINDS: Final = ("kill", "postmaster", "backend", "cancel")
SHOWN: Final = 70  # characters of a statement in a name
# Pings of the pool and what asyncpg asks for itself: they change nothing, and each would be a boundary beside another.
OWN: Final = (
    ";",
    "SELECT current_setting('jit')",
    "WITH RECURSIVE typeinfo_tree",
    "show ",
    "select current_schema",
    "select pg_catalog.version",
)
_SPACE: Final = re.compile(r"\s+")
_ANY: Final = re.compile(r"[0-9a-f]{8,}|\d+")


class Watch:
    """Counts boundaries while it is armed, and acts at one of them."""

    def __init__(
        self, folder: Path, *, at: int | None = None, how: str = "count", server: Callable[[], int | None] | None = None
    ) -> None:
        """`folder`: whose files count. `server` tells the database server's process."""
        self.names: list[str] = []
        self.armed = False
        self.struck: str | None = None
        self._folder = str(folder)
        self._at, self._how, self._server = at, how, server

    def reach(self, name: str, backend: Callable[[], int] | None = None) -> bool:
        """One boundary; True if the answer that was on its way is lost."""
        if not self.armed:
            return False
        self.names.append(name)
        if len(self.names) - 1 != self._at or self._how == "count":
            return False
        self.struck = name
        if self._how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "postmaster" and self._server is not None:
            kill_server(self._server())
            return True
        if self._how == "backend" and backend is not None:
            with suppress(ProcessLookupError):
                os.kill(backend(), signal.SIGKILL)
            return True
        if self._how == "cancel" and (task := _task()) is not None:
            task.cancel()
        return False

    def torn(self, name: str) -> bool:
        """A boundary inside a write; True if half of it is to be written now. Only a process that dies leaves halves."""
        if not self.armed:
            return False
        self.names.append(name)
        if len(self.names) - 1 == self._at and self._how == "kill":
            self.struck = name
            return True
        return False

    # --- the database -------------------------------------------------------------------------------------------------

    async def around(self, what: str, send: Callable[[], Awaitable[Any]], backend: Callable[[], int]) -> Any:
        """A statement, between its two boundaries. One whose answer is lost may have been committed (threat H9)."""
        if what.startswith(OWN):
            return await send()
        self.reach(f"sql before {what}", backend)
        answer = await send()
        if self.reach(f"sql after {what}", backend):
            raise asyncpg.ConnectionDoesNotExistError("the answer was lost")
        return answer

    # --- files --------------------------------------------------------------------------------------------------------

    def named(self, target: Any) -> str | None:
        """A path or descriptor by its place in the vault's folder; None for what is not the vault's."""
        try:
            path = str(Path(f"/proc/self/fd/{target}").readlink()) if isinstance(target, int) else os.fspath(target)
        except OSError:
            return None
        if isinstance(path, bytes) or not path.startswith(self._folder):
            return None
        return _ANY.sub("*", path[len(self._folder) :].strip("/"))


def _task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread: nobody can cancel it
        return None


def kill_server(postmaster: int | None) -> None:
    """The database server and all its children at once, as a power cut would."""
    if postmaster is None:
        return
    with suppress(ProcessLookupError):
        os.kill(postmaster, signal.SIGSTOP)  # it must not start a recovery when it sees its children die
    for pid in (*_children(postmaster), postmaster):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


class _Protocol:
    """asyncpg's protocol with a boundary around whatever goes to the server and may change something there."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _around(self, query: str, send: Callable[[], Awaitable[Any]]) -> Any:
        return self._watch.around(_SPACE.sub(" ", query).strip()[:SHOWN], send, self._inner.get_server_pid)

    async def query(self, query: str, *rest: Any, **more: Any) -> Any:
        return await self._around(query, lambda: self._inner.query(query, *rest, **more))

    async def bind_execute(self, state: Any, *rest: Any, **more: Any) -> Any:
        return await self._around(state.query, lambda: self._inner.bind_execute(state, *rest, **more))

    async def bind_execute_many(self, state: Any, *rest: Any, **more: Any) -> Any:
        return await self._around(state.query, lambda: self._inner.bind_execute_many(state, *rest, **more))

    async def bind(self, state: Any, *rest: Any, **more: Any) -> Any:
        return await self._around(state.query, lambda: self._inner.bind(state, *rest, **more))

    async def execute(self, state: Any, *rest: Any, **more: Any) -> Any:
        return await self._around(state.query, lambda: self._inner.execute(state, *rest, **more))


@contextmanager
def install(watch: Watch) -> Iterator[None]:
    """Put the boundaries in place in this process, for as long as the block lasts."""
    made = Connection.__init__

    def connected(self: Any, protocol: Any, *rest: Any, **more: Any) -> None:
        made(self, protocol, *rest, **more)
        self._protocol = _Protocol(protocol, watch)

    plain = {name: getattr(os, name) for name in ("fsync", "pwrite", "replace", "unlink", "ftruncate")}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **more: Any) -> Any:
            file = watch.named(target)
            if file is None:
                return plain[name](target, *rest, **more)
            watch.reach(f"file before {name} {file}")
            if name == "pwrite" and watch.torn(f"file half {name} {file}"):
                plain[name](target, rest[0][: len(rest[0]) // 2], *rest[1:])
                os.kill(os.getpid(), signal.SIGKILL)
            answer = plain[name](target, *rest, **more)
            watch.reach(f"file after {name} {file}")
            return answer

        return call

    Connection.__init__ = connected
    for name in plain:
        setattr(os, name, wrapped(name))
    try:
        yield
    finally:
        Connection.__init__ = made
        for name, function in plain.items():
            setattr(os, name, function)


def watched(app: Any, watch: Watch) -> Any:
    """An ASGI application with a boundary around every part of its answers."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def answering(message: Any) -> None:
            watch.reach(f"http before {message['type']}")
            await send(message)
            watch.reach(f"http after {message['type']}")

        await app(scope, receive, answering)

    return wrapped
