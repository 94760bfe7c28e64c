"""The one place that builds things, in the order in which each needs the last: key service, database, keys, journal, policies.

A key service that is elsewhere and does not answer is `Locked`: told before a database is started, to be tried again.

What is not fit stops the start with an error that says what to change; nothing is served meanwhile (promise 12). Tests
build their worlds with it, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

import vault as package
from vault.audit.log import check_head
from vault.catalogue.load import Catalogue, load, read_folder
from vault.changes.incarnation import incarnation
from vault.clock import Clock, SystemClock
from vault.config import Settings
from vault.crypto.keyservice import AWAY, REFUSED, KeyService
from vault.crypto.services.chosen import service_of
from vault.crypto.services.local import make_key_file
from vault.errors import ConfigError, Locked, NotFound, Unavailable, Unreadable, VaultError
from vault.flows.adopt import adopt, adopt_rows
from vault.flows.enact import enact, named
from vault.flows.failover import Known, begin_life, look_on
from vault.flows.losses import NOTHING, Accepted, begin_anew, put_back_policies, record_loss
from vault.flows.replay import holds_everything, replay
from vault.flows.returned import Gone, destroy_returned, noting
from vault.flows.vault import Vault
from vault.journal.journal import Journal
from vault.journal.narrowing import PolicyApplied
from vault.journal.opening import open_journal
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.keys.roles import DESK, EVERYTHING, REQUESTS, ProcessRole
from vault.policy import version
from vault.policy.gate import Gate
from vault.policy.staff import StaffGate
from vault.policy.version import Named, Version
from vault.storage.aside import whereabouts
from vault.storage.fitness import others
from vault.storage.grants import standing
from vault.storage.migrate import migrate, newest, revision
from vault.storage.session import Database

__all__ = ["EVERYTHING", "ProcessRole", "Vault", "open_vault"]

_log = structlog.get_logger("bootstrap")
FOLLOWING = 0.5  # seconds between looks at the key store, which cost some file marks
FIRST_START = "first start"


@asynccontextmanager
async def open_vault(
    settings: Settings,
    *,
    clock: Clock | None = None,
    role: ProcessRole | None = None,
    accepted: Accepted = NOTHING,
    known: Known | None = None,
) -> AsyncIterator[Vault]:
    """A vault that is ready to serve. The first start makes keys, migrates and applies the policies folder.

    Before it serves, the journal is replayed over a database that has lost something; `Vault.replayed` says what.

    A process whose key service opens some keys only makes nothing: who has the root key does that before it starts
    (`keys init`). `role`: what the process is for; it holds the keys of that and no others. None: all it can open.
    `accepted`: what an officer gives up for lost, else nothing starts. `known`: what this process knew of a database that
    was replaced while it ran.

    Raises `ConfigError`, `PolicyError`, `Unavailable` or `Conflict` (a database older than its audit head) and then serves
    nothing; `Locked` while its key service does not answer.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        try:
            sealed = settings.keyring.is_dir() and any(settings.keyring.iterdir())
            early = await asyncio.to_thread(_unlocked, settings, clock) if sealed else None
            database = await Database.connect(settings)
            stack.push_async_callback(database.close)
            service = early or _first(settings, clock)
            stack.callback(service.close)
            vault = await _opened(stack, settings, clock, service, database, role, accepted, known)
        except Unavailable as error:
            raise Locked(error.hint) if error.reason == AWAY else error from None
        for name, watch in (("keyring", _follow(vault.keystore, vault.keyring)), ("ground", look_on(vault))):
            stack.push_async_callback(_ended, asyncio.create_task(watch, name=name))
        yield vault


async def _opened(
    stack: AsyncExitStack,
    settings: Settings,
    clock: Clock,
    service: KeyService,
    database: Database,
    role: ProcessRole | None,
    accepted: Accepted,
    known: Known | None,
) -> Vault:
    whole = await asyncio.to_thread(lambda: service.whole)
    await _schema(database, whole=whole)
    await _standing(database, role)
    async with database.hot() as connection:
        used = await connection.fetchval("SELECT EXISTS (SELECT 1 FROM policy_version)")  # the end of a first start
    keystore = KeyStore(settings.keyring, service)
    if used and keystore.empty:
        raise ConfigError(
            f"the database is in use, and {settings.keyring} holds no key: find the key store, or restore it"
        )
    if whole and used:
        await adopt_rows(database, keystore, clock)
    keyring = Keyring(keystore, beside_database=settings.beside, clock=clock)
    await asyncio.to_thread(keyring.open, (names.JOURNAL,))
    made = await asyncio.to_thread(keyring.ensure, (), ()) if whole else []
    if accepted.journal:
        await begin_anew(database, settings.journal_place, keyring.key(names.JOURNAL), clock.now())
    # Only a database that nobody used may begin a journal: a lost one must stop the start (promise 12).
    journal = await _journal(settings, database, keyring, begin=whole and not used)
    stack.push_async_callback(asyncio.to_thread, journal.close)
    gone: Gone = {}
    remembered = await asyncio.to_thread(lambda: named(noting((entry.narrowing for entry in journal.read()), gone)))
    async with database.hot() as connection:
        await check_head(connection, journal, accepted.entries)
    if accepted.entries is not None:
        await put_back_policies(database, journal, remembered, settings.policies, clock.now())
    live, files = await _policies(settings, database, journal, clock, remembered, first=whole)
    catalogue = load(files)
    await asyncio.to_thread(_hold, keyring, service, keystore, catalogue, role, whole=whole)
    async with database.begin() as connection:
        renewing = database.standing.owner or not (role or EVERYTHING).parts.isdisjoint((DESK, REQUESTS))
        origin = await incarnation(connection, owner=renewing)
        if names.REQUEST in made:  # a database from before that key: its rows have no codes yet
            await adopt(connection, keystore, catalogue)
    vault = Vault(
        settings=settings,
        clock=clock,
        database=database,
        keystore=keystore,
        keyring=keyring,
        journal=journal,
        catalogue=catalogue,
        gate=Gate.compile(catalogue, policy=live.number),
        staff_gate=StaffGate.compile(catalogue),
        policy=live,
        incarnation=origin,
        role=role or EVERYTHING,
    )
    vault.gone_epochs = gone
    vault.replayed = await replay(vault)
    await destroy_returned(vault, able=renewing and holds_everything(vault))
    if known is not None:
        await begin_life(vault, known)
    if accepted != NOTHING:
        await record_loss(vault, accepted)
    return vault


async def _follow(keystore: KeyStore, keyring: Keyring) -> None:
    """Fetches what other processes made, and what had to be waited for, while the vault is open.

    A service that was away is asked until it is back, so that /readyz tells what is so.
    """
    told = None
    while True:
        await asyncio.sleep(FOLLOWING)
        if (keystore.fault is None) != (told is None):
            told = keystore.fault
            _log.warning("key_service.away", reason=told) if told else _log.info("key_service.back")
        with suppress(VaultError):  # it is away: again in a moment
            if keystore.fault is not None:
                await asyncio.to_thread(keystore.held, names.JOURNAL)
            if keyring.stale and not keystore.instant:
                await asyncio.to_thread(keyring.fetch_wanted)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _journal(settings: Settings, database: Database, keyring: Keyring, *, begin: bool) -> Journal:
    """The journal, apart from the database. Raises `ConfigError` if both are one and the same."""
    async with database.hot() as connection:
        where = await whereabouts(connection)
    opened = partial(open_journal, settings.journal_place, keyring.key(names.JOURNAL), begin=begin, apart_from=where)
    journal = await asyncio.to_thread(opened)
    if journal.beside(where):
        keyring.lies_beside()
    return journal


@asynccontextmanager
async def journals(settings: Settings, target: Path | str) -> AsyncIterator[tuple[Journal, Journal]]:
    """The journal of a vault that nobody runs, and the one at another place, begun there if there is none; to move it.

    Raises `ConfigError` for a vault that runs, or places that are the same, and what opening raises.
    """
    database = await Database.connect(settings)
    opened: list[Journal] = []
    try:
        async with database.hot() as connection:
            where, running = await whereabouts(connection), await others(connection)
        if running:
            raise ConfigError(f"{running} connections of the vault are open: stop all of its processes first")
        service = await asyncio.to_thread(_unlocked, settings, SystemClock())
        keyring = Keyring(KeyStore(settings.keyring, service))
        await asyncio.to_thread(keyring.open, (names.JOURNAL,))
        key = keyring.key(names.JOURNAL)
        for place, begin in ((settings.journal_place, False), (target, True)):
            making = partial(open_journal, place, key, begin=begin, shut=True, apart_from=where)
            opened.append(await asyncio.to_thread(making))
        source, there = opened
        if source.place == there.place:
            raise ConfigError("the journal lies there already")
        yield source, there
    finally:
        for journal in opened:
            await asyncio.to_thread(journal.close)
        await database.close()


def policies_folder(settings: Settings) -> Path:
    """The folder of policies. Only where none is set and none lies here is it the example shop's. Raises `ConfigError`."""
    if settings.policies is None:
        return shipped_policies()
    if not settings.policies.is_dir():
        raise ConfigError(
            f"`policies` names {settings.policies}, and there is no such folder; correct the setting (PROFILE_VAULT_POLICIES),"
            " or make the folder: profile-vault policy init FOLDER"
        )
    return settings.policies


def shipped_policies() -> Path:
    """The folder of the example shop: within an installed package, beside it in a checkout. Raises `ConfigError`."""
    home = Path(package.__file__).parent
    for candidate in (home / "policies", home.parent / "policies"):
        if candidate.is_dir():
            return candidate
    raise ConfigError("the policies of the example shop are not in this installation; install the package anew")


def _unlocked(settings: Settings, clock: Clock) -> KeyService:
    """The key service that opens the keys which are there. Asked before anything else is begun."""
    if settings.service.kind == "local" and not settings.key_file.exists():
        raise ConfigError(f"the key file {settings.key_file} is missing, and there are keys that need it")
    service = service_of(settings, clock)
    try:
        KeyStore(settings.keyring, service).held(names.JOURNAL)
    except NotFound:
        return service  # a first start that went no further
    except Unreadable:
        service.close()
        raise ConfigError(
            f"the key service does not open the keys in {settings.keyring}: they were sealed by another one, or under"
            " another root key; put back the settings and the key file that belong to this key store"
        ) from None
    except VaultError as error:
        service.close()
        if error.reason == REFUSED:
            raise ConfigError(
                "the key service does not open the journal's key to this process: give it an identity that may, as"
                " docs/how-to/choose-a-key-service.md says; or this is another key service than the one that sealed"
            ) from None
        raise
    return service


def _first(settings: Settings, clock: Clock) -> KeyService:
    """The key service of a first start. Only then is the local one's key file made: never beside keys that it cannot open."""
    if settings.service.kind == "local" and not settings.key_file.exists():
        make_key_file(settings.key_file)
    return service_of(settings, clock)


async def _schema(database: Database, *, whole: bool) -> None:
    """The schema of this release: made by who has the root key, found by all others. Raises `ConfigError`."""
    if whole:
        await migrate(database)
    elif await revision(database) != newest():
        raise ConfigError("the database has the schema of another release; run `profile-vault keys init` once, first")


async def _standing(database: Database, role: ProcessRole | None) -> None:
    """Keeps what the database lets this process do. Raises `ConfigError` where that is less than its parts need."""
    async with database.hot() as connection:
        found = database.standing = await standing(connection, (role or EVERYTHING).parts)
    if found.missing and role is not None:
        raise ConfigError(
            f"its role in the database lacks {found.missing[0]}, which this process needs: give it the roles of its doors and"
            " duties (`profile-vault database login`), and run `profile-vault keys init` once more"
        )


def _hold(
    keyring: Keyring,
    service: KeyService,
    keystore: KeyStore,
    catalogue: Catalogue,
    role: ProcessRole | None,
    *,
    whole: bool,
) -> None:
    """Opens the keyring for the role, once every key that the policies need is there. Raises `ConfigError`."""
    kinds = [kind.name for kind in catalogue.identifiers.values()]
    if whole:
        keyring.ensure(catalogue.purpose_by_number, kinds)
    elif missing := keystore.missing(names.needed(catalogue.purpose_by_number, kinds)):
        raise ConfigError(f"the key store lacks {', '.join(missing)}; run `profile-vault keys init` once, first")
    if role is None:
        keyring.open()
        return
    numbers = role.numbers({one.name: one.number for one in catalogue.purposes.values()})
    opened, sealed = role.locks(numbers)
    keyring.open(role.names(numbers))  # first, since some services tell by refusing
    if closed := sorted(
        [lock for lock in opened if not service.opens(lock)] + [o for o in sealed if not service.seals(o)]
    ):
        raise ConfigError(
            f"the key service does not open to this process what it needs: {', '.join(closed)}; see `keys hand-out`"
        )


async def _policies(
    settings: Settings, database: Database, journal: Journal, clock: Clock, named: Named, *, first: bool
) -> tuple[Version, dict[str, str]]:
    """The live policy version and its files; a `first` start applies the folder.

    Raises `Unreadable` for a database whose versions are not those of the journal.
    """
    async with database.begin() as connection:
        found = await version.live(connection, named)
    if found is not None:
        live = found[0]
        if first and live.number > named.newest:  # a crash came between its commit and the journal's second word
            await journal.append([PolicyApplied(clock.now(), live.number, live.digest)])
        return found
    if not first:
        raise ConfigError("no policies were ever applied here; run `profile-vault keys init` once, first")
    files = read_folder(policies_folder(settings))
    return await enact(database, journal, files, FIRST_START, clock.now()), files
