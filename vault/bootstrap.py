"""The one place that builds things, in the order in which each needs the last: database, keys, journal, policies.

What is not fit stops the start with an error that says what to change; nothing is served meanwhile (promise 12). Tests
build their worlds with it, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import vault as package
from vault.audit.log import check_head
from vault.catalogue.load import Catalogue, load, read_folder
from vault.changes.incarnation import incarnation
from vault.clock import Clock, SystemClock
from vault.config import Settings
from vault.crypto.services.local import LocalKeyService, make_key_file
from vault.errors import ConfigError
from vault.flows.adopt import adopt, adopt_rows
from vault.flows.enact import enact, named
from vault.flows.losses import NOTHING, Accepted, begin_anew, put_back_policies, record_loss
from vault.flows.replay import replay
from vault.flows.vault import Vault
from vault.journal.journal import Journal
from vault.journal.narrowing import PolicyApplied
from vault.journal.opening import open_journal
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.keys.roles import EVERYTHING, ProcessRole
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

FIRST_START = "first start"


@asynccontextmanager
async def open_vault(
    settings: Settings,
    *,
    clock: Clock | None = None,
    role: ProcessRole | None = None,
    accepted: Accepted = NOTHING,
) -> AsyncIterator[Vault]:
    """A vault that is ready to serve. The first start makes keys, migrates and applies the policies folder.

    Before it serves, the journal is replayed over a database that has lost something; `Vault.replayed` says what.

    A process whose key service opens some keys only makes nothing: who has the root key does that before it starts
    (`keys init`). `role`: what the process is for; it holds the keys of that and no others. None: all it can open.
    `accepted`: what an officer gives up for lost, else nothing starts.

    Raises `ConfigError`, `PolicyError`, `Unavailable` or `Conflict` (a database older than its audit head) and then serves
    nothing.
    """
    clock = clock or SystemClock()
    database = await Database.connect(settings)
    journal: Journal | None = None
    try:
        service = _service(settings)
        await _schema(database, service)
        await _standing(database, role)
        async with database.hot() as connection:
            used = await connection.fetchval("SELECT EXISTS (SELECT 1 FROM policy_version)")  # the end of a first start
        keystore = KeyStore(settings.keyring, service)
        if used and keystore.empty:
            raise ConfigError(
                f"the database is in use, and {settings.keyring} holds no key: find the key store, or restore it"
            )
        if service.whole and used:
            await adopt_rows(database, keystore, clock)
        keyring = Keyring(keystore, beside_database=settings.beside, clock=clock)
        keyring.open((names.JOURNAL,))
        made = keyring.ensure((), ()) if service.whole else []
        if accepted.journal:
            await begin_anew(database, settings.journal_place, keyring.key(names.JOURNAL), clock.now())
        # Only a database that nobody used may begin a journal: a lost one must stop the start (promise 12).
        journal = await _journal(settings, database, keyring, begin=service.whole and not used)
        remembered = await asyncio.to_thread(lambda: named(entry.narrowing for entry in journal.read()))
        async with database.hot() as connection:
            await check_head(connection, journal, accepted.entries)
        if accepted.entries is not None:
            await put_back_policies(database, journal, remembered, settings.policies, clock.now())
        live, files = await _policies(settings, database, journal, clock, remembered, first=service.whole)
        catalogue = load(files)
        _hold(keyring, service, keystore, catalogue, role)
        async with database.begin() as connection:
            origin = await incarnation(connection, owner=database.standing.owner)
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
        vault.replayed = await replay(vault)
        if accepted != NOTHING:
            await record_loss(vault, accepted)
        yield vault
    finally:
        if journal is not None:
            await asyncio.to_thread(journal.close)
        await database.close()


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
        keyring = Keyring(KeyStore(settings.keyring, _service(settings)))
        keyring.open((names.JOURNAL,))
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


def _service(settings: Settings) -> LocalKeyService:
    """The local key service. Its key file is made at the very first start only: never beside keys that it cannot open."""
    if settings.key_file.is_dir():
        return LocalKeyService.from_folder(settings.key_file)
    if not settings.key_file.exists():
        if settings.keyring.is_dir() and any(settings.keyring.iterdir()):
            raise ConfigError(f"the key file {settings.key_file} is missing, and there are keys that need it")
        make_key_file(settings.key_file)
    return LocalKeyService.from_key_file(settings.key_file)


async def _schema(database: Database, service: LocalKeyService) -> None:
    """The schema of this release: made by who has the root key, found by all others. Raises `ConfigError`."""
    if service.whole:
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
    keyring: Keyring, service: LocalKeyService, keystore: KeyStore, catalogue: Catalogue, role: ProcessRole | None
) -> None:
    """Opens the keyring for the role, once every key that the policies need is there. Raises `ConfigError`."""
    kinds = [kind.name for kind in catalogue.identifiers.values()]
    if service.whole:
        keyring.ensure(catalogue.purpose_by_number, kinds)
    elif missing := keystore.missing(names.needed(catalogue.purpose_by_number, kinds)):
        raise ConfigError(f"the key store lacks {', '.join(missing)}; run `profile-vault keys init` once, first")
    if role is None:
        keyring.open()
        return
    numbers = role.numbers({one.name: one.number for one in catalogue.purposes.values()})
    opened, sealed = role.locks(numbers)
    if closed := sorted(
        [lock for lock in opened if not service.opens(lock)] + [o for o in sealed if not service.seals(o)]
    ):
        raise ConfigError(
            f"this process needs what its key folder does not open: {', '.join(closed)}; see `keys hand-out`"
        )
    keyring.open(role.names(numbers))


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
