"""The database, looked at through a connection of its own: fitness, schema, clock, live policy, audit head, worker, backlog.

An embedded server is looked at while it runs, without holding it; one at rest is left at rest unless it is asked to be
started, and is then held and stopped as by any command. Every statement reads.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import UUID

from vault.audit.log import check_head
from vault.cli.doctor.finding import Finding, failed, ok, skipped, warning
from vault.clock import DAY, HOUR, SECOND, Micros, isoformat
from vault.config import Settings
from vault.errors import ConfigError, NotFound, Unavailable, VaultError
from vault.flows.ready import BACKLOG_CAP
from vault.flows.wipe import LEASE as WIPES
from vault.journal.journal import Journal
from vault.keys import names
from vault.keys.keystore import SUFFIX
from vault.policy import version
from vault.sources import store as sources
from vault.storage import cluster, embedded
from vault.storage.aside import whereabouts
from vault.storage.fitness import is_superuser
from vault.storage.grants import parts_of_role, standing
from vault.storage.lease import SWEEP
from vault.storage.migrate import newest, revision
from vault.storage.session import Database

SKEW: Final = 2.0  # seconds between two clocks that leases and cursors do not notice
TOO_MUCH: Final = 10.0  # seconds: leases live 15, so two workers would soon both believe they hold one
LOOKS: Final = 5
BETWEEN: Final = 0.2  # seconds
_LATER: Final = (
    "database role", "schema", "clock", "live policy", "audit head", "state audit", "wiped", "request keys", "worker",
    "sources",
)  # fmt: skip

_FIGURES: Final = """
SELECT
  (SELECT count(*) FROM (SELECT 1 FROM change_in LIMIT $2) AS waiting) AS changes,
  (SELECT count(*) FROM (SELECT 1 FROM audit_in LIMIT $2) AS waiting) AS audit,
  EXISTS (SELECT 1 FROM lease WHERE expires_at > $1 AND name <> 'sweep') AS worker
"""
_OF_REQUESTS: Final = """
SELECT request_id, true AS of_case FROM casefile WHERE expires_at > $1
UNION ALL SELECT request_id, false FROM archive WHERE expires_at > $1
ORDER BY 1
"""
_UNWIPED: Final = "SELECT min(at) FROM erased WHERE at > coalesce((SELECT position FROM lease WHERE name = $1), 0)"
OVERDUE: Final = DAY + HOUR
MAX_NAMED: Final = 3
UNSEEN: Final = "the role of this process may not look there; ask the owner of the database"


async def look(
    settings: Settings, journal: Journal | None, digest: bytes | None, *, start: bool, serving: bool
) -> list[Finding]:
    """Everything that only the database can tell. `digest` is that of the policies folder; `serving`: a vault answers here."""
    if settings.embedded:
        finding = await asyncio.to_thread(_at_rest, settings)
        if finding is not None and not (start and finding.state == "skipped"):
            return [finding, *(skipped(one, "the database was not looked at") for one in _LATER)]
    try:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(_reached(settings, start=start))
            found = [ok("database", await _server(database)), await _role(database, settings)]
            schema = await _schema(database)
            found.append(schema)
            if schema.state != "ok":
                return [*found, *(skipped(one, "it waits for the schema") for one in _LATER[2:])]
            return [*found, *await _inside(settings, database, journal, digest, serving=serving)]
    except ConfigError as error:
        finding = failed("database", error.hint, "change the server so, or name another")
    except VaultError as error:
        found_text = f"{error.sentence} {error.hint}".strip()
        finding = failed("database", found_text, "check that it runs, its address, and the password")
    return [finding, *(skipped(one, "the database could not be looked at") for one in _LATER)]


def _at_rest(settings: Settings) -> Finding | None:
    """Why an embedded server is not looked at; None for one that runs."""
    if embedded.running(settings.data_dir) is not None:
        return None
    if not cluster.made(settings.data_dir):
        remedy = "make one: profile-vault sources add NAME --class server, or profile-vault serve"
        return warning("database", f"there is no vault in {settings.data_dir} yet", remedy)
    return skipped(
        "database", "the embedded server is at rest", "look while the vault runs, or: profile-vault doctor --start"
    )


@asynccontextmanager
async def _reached(settings: Settings, *, start: bool) -> AsyncIterator[Database]:
    """The database, closed afterwards. The embedded server is held only if it was asked to be started."""
    url = settings.database_url or embedded.running(settings.data_dir)
    if url is None and not start:
        raise Unavailable("it stopped a moment ago")
    database = await (Database.connect(settings) if url is None else Database.open(url))
    try:
        yield database
    finally:
        await database.close()


async def _server(database: Database) -> str:
    async with database.hot() as connection:
        version_text = await connection.fetchval("SHOW server_version")
        standbys = await connection.fetchval("SHOW synchronous_standby_names")
    durable = "synchronous standbys" if standbys else "no synchronous standby"
    return f"PostgreSQL {version_text} answers and is fit; {durable}"


async def _role(database: Database, settings: Settings) -> Finding:
    """An embedded server has no other role, and no other user reaches it. With a key folder a login is wanted."""
    check = "database role"
    async with database.hot() as connection:
        parts = await parts_of_role(connection)
        database.standing = await standing(connection, parts)
        superuser = await is_superuser(connection)
    if settings.embedded:
        return ok(check, "the server's own user")
    if superuser:
        remedy = "make a role that owns its database only: CREATE ROLE vault LOGIN; see docs/how-to/run-on-a-server.md"
        return warning(check, "a superuser: who takes it reads the server's files and runs its programs", remedy)
    if database.standing.owner:
        if not settings.key_file.is_dir():
            return ok(check, "the owner of its database, no superuser")
        remedy = "give each process a login of its own: profile-vault database login NAME --doors …"
        return warning(check, "the owner of the database, for a process with a key folder", remedy)
    named = f"that of {', '.join(sorted(parts)) or 'no door or duty'}"
    if beyond := database.standing.excess:
        return warning(
            check, f"{named}, and {'; '.join(beyond)}", "profile-vault keys init takes back what is granted beyond"
        )
    return ok(check, f"{named}, and no more")


async def _schema(database: Database) -> Finding:
    stands, wanted = await revision(database), newest()
    if stands == wanted:
        return ok("schema", f"revision {stands}, that of this release")
    if stands is None:
        return failed("schema", "the database is empty", "profile-vault migrate; `serve` does it, too")
    if stands > wanted:
        return failed("schema", f"revision {stands}, of a newer release", "install that release of the vault")
    return failed(
        "schema", f"revision {stands}; this release needs {wanted}", "profile-vault migrate, or start `serve`"
    )


async def _inside(
    settings: Settings, database: Database, journal: Journal | None, digest: bytes | None, *, serving: bool
) -> list[Finding]:
    return [
        await _clock(database),
        await _policy(database, digest),
        await _audit(database, journal),
        *([] if settings.journal_url is None else [await _journal(database, journal)]),
        await _swept(database),
        await _wiped(database) if await _sees(database, "requests") else skipped("wiped", UNSEEN),
        await _requests(settings, database) if await _sees(database, "desk") else skipped("request keys", UNSEEN),
        await _worker(database, serving=serving),
        await _sources(database) if await _sees(database, "ingest") else skipped("sources", UNSEEN),
    ]


async def _sees(database: Database, part: str) -> bool:
    """Whether the role of this connection may look at what that part looks at."""
    if database.standing.owner:
        return True
    async with database.hot() as connection:
        return part in await parts_of_role(connection)


async def _clock(database: Database) -> Finding:
    """The clock of this machine against that of the server, and against what was written last."""
    async with database.hot() as connection:
        before = time.time()
        there = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
        after = time.time()
        newest_at = await connection.fetchval("SELECT max(applied_at) FROM policy_version")
    off = max(before - there, there - after, 0.0)
    remedy = "set the clocks by NTP: leases, deadlines and choices go by them"
    if newest_at is not None and newest_at > (after + TOO_MUCH) * SECOND:
        found = f"this machine's clock is behind what the vault wrote at {isoformat(Micros(newest_at))}"
        return failed("clock", found, remedy)
    found = f"{off:.1f} s off the database's"
    if off > TOO_MUCH:
        return failed("clock", found, remedy)
    return warning("clock", found, remedy) if off > SKEW else ok("clock", found)


async def _policy(database: Database, digest: bytes | None) -> Finding:
    check = "live policy"
    async with database.begin() as connection:
        live = await version.live(connection)
    if live is None:
        return skipped(check, "no version was applied yet", "the first start applies the folder")
    named = f"version {live[0].number}"
    if digest is None:
        return skipped(check, f"{named}; the folder cannot be compared with it")
    if digest == live[0].digest:
        return ok(check, f"{named}, the same as the folder")
    return warning(
        check, f"{named} is not what the folder says", "if that folder is meant: policy apply, then restart what runs"
    )


async def _journal(database: Database, journal: Journal | None) -> Finding:
    """Whether the journal's database is another than this one, on another server."""
    check = "journal server"
    if journal is None:
        return skipped(check, "the journal could not be opened")
    async with database.hot() as connection:
        where = await whereabouts(connection)
    if journal.within(where):
        return failed(check, "the journal lies in the database itself", "name a database on another server")
    if journal.beside(where):
        remedy = "put the journal on another server, with backups of its own"
        return warning(check, "that of the database: whoever puts back an old copy of it is not noticed", remedy)
    return ok(check, "another than the database's")


async def _audit(database: Database, journal: Journal | None) -> Finding:
    check = "audit head"
    if journal is None:
        return skipped(check, "it cannot be compared without keys and journal")
    try:
        async with database.hot() as connection:
            await check_head(connection, journal)
    except NotFound:
        return skipped(check, "there is no entry yet")
    except VaultError as error:
        found = f"{error.sentence} {error.hint}".strip()
        return failed(check, found, "find the newer database; profile-vault audit verify says more")
    return ok(check, "the log begins with the head kept beside the journal")


async def _swept(database: Database) -> Finding:
    """What the state audit finds now, and whether its sweep gets through."""
    check = "state audit"
    async with database.hot() as connection:
        findings = await connection.fetchval(
            "SELECT count(*) FROM (SELECT FROM integrity_finding LIMIT $1) n", BACKLOG_CAP
        )
        swept_at = await connection.fetchval("SELECT position FROM lease WHERE name = $1", SWEEP)
    if findings:
        return failed(check, f"{findings} things do not agree", "profile-vault audit verify --state says which")
    if not swept_at:
        return ok(check, "nothing was found; the sweep was never through yet")
    return ok(check, f"nothing was found; the sweep was last through at {isoformat(Micros(swept_at))}")


async def _wiped(database: Database) -> Finding:
    """Whether what erasures deleted was vacuumed. Not every process may: before PostgreSQL 17 only who owns the tables."""
    check = "wiped"
    async with database.hot() as connection:
        left = await connection.fetchval(_UNWIPED, WIPES)
    if left is None or left > time.time_ns() // 1000 - OVERDUE:
        return ok(check, "what erasures deleted is off the disk" if left is None else "what erasures deleted is due")
    found = f"rows that erasures deleted since {isoformat(Micros(left))} were not vacuumed yet"
    return warning(check, found, "as the owner of the database, and then once a day: profile-vault erasures wipe")


async def _requests(settings: Settings, database: Database) -> Finding:
    """Whether the key of every case file and archive that lives is there: the inventory of keys does not list them."""
    check = "request keys"
    async with database.hot() as connection:
        rows = await connection.fetch(_OF_REQUESTS, time.time_ns() // 1000)
    if not rows:
        return ok(check, "no request needs one")
    if not settings.keyring.is_dir():
        return skipped(check, "there is no key store to look in")
    wanted = [(names.case if row["of_case"] else names.archive)(UUID(bytes=row["request_id"].bytes)) for row in rows]
    missing = [name for name in wanted if not (settings.keyring / f"{name}{SUFFIX}").is_file()]
    if not missing:
        return ok(check, f"all {len(wanted)} are there")
    told = ", ".join(missing[:MAX_NAMED]) + (
        f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
    )
    return failed(
        check, f"missing: {told}", "restore them from the key store's own backup: without it no such request ends"
    )


async def _worker(database: Database, *, serving: bool) -> Finding:
    """Whether somebody takes up what waits. A worker that has nothing to do holds no lease, so idleness proves nothing."""
    check = "worker"
    row = await _figures(database)
    for _ in range(LOOKS):  # what came this moment is taken up in a tenth of a second
        if row["worker"] or not (row["changes"] or row["audit"]):
            break
        await asyncio.sleep(BETWEEN)
        row = await _figures(database)
    found = f"{row['changes']} changes and {row['audit']} audit entries wait"
    if not row["changes"] and not row["audit"]:
        seen = "one was at work within the last seconds" if row["worker"] else "so none needs to be at work"
        return ok(check, f"nothing waits, {seen}")
    if not row["worker"]:
        # While nothing serves, what waits waits for the next start, which is as it should be.
        say = failed if serving or max(row["changes"], row["audit"]) >= BACKLOG_CAP else warning
        return say(check, f"{found}, and nobody takes them up", "profile-vault worker, or `serve` without --no-worker")
    if max(row["changes"], row["audit"]) >= BACKLOG_CAP:
        return warning(check, f"{found} or more", "feeds and proofs come late: look at the load of the database")
    return ok(check, f"at work; {found}")


async def _figures(database: Database) -> Any:
    async with database.hot() as connection:
        return await connection.fetchrow(_FIGURES, time.time_ns() // 1000, BACKLOG_CAP)


async def _sources(database: Database) -> Finding:
    async with database.begin() as connection:
        known = [row for row in await sources.everyone(connection) if row.disabled_at is None]
    if not known:
        return warning("sources", "no app may write yet", "profile-vault sources add NAME --class server")
    return ok("sources", f"{len(known)} may write")
