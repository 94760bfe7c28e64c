"""`keys move`: everything in the key store sealed anew, by another key service or under another root key.

Promises: an entry of the log is durable before it begins, and another one says that it is done; no other process of the vault runs
meanwhile, and one that starts too early or stays writes nothing into the moved store (`KeyStore`); stopped anywhere, the vault
opens with the old settings or with the new ones, and the same command goes on.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import rich_click as click

from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.cli.output import emit, json_option
from vault.clock import Clock, SystemClock
from vault.config import CONFIG, Settings, load
from vault.crypto.keyservice import AWAY, KeyService
from vault.crypto.services.chosen import service_of
from vault.crypto.services.local import make_key_file
from vault.errors import ConfigError, Locked, NotFound, Unavailable, Unreadable
from vault.flows.trail import leave
from vault.keys import names
from vault.keys.keystore import KeyStore
from vault.storage import cluster
from vault.storage.fitness import others
from vault.storage.session import Database

NEXT: Final = """\
Now put these settings in place of the old ones, for every process. Then:
  key folders        profile-vault keys hand-out, each into an empty folder: those of another root key open nothing
  identities         profile-vault keys access, where the new key service is elsewhere
  copies             profile-vault keys backup FILE: older copies open with the old key service only
  shares             profile-vault keys escrow split, where the root key was shared out
Keep the old root key, or the old service's own keys, as long as you keep older copies of the keys. After a leak do not:
rotate everything and destroy the old epochs, as docs/how-to/compromise.md says."""


class Moved(msgspec.Struct, frozen=True):
    """What came of it."""

    keys: int  # names that were sealed anew; 0: that had been done before
    before: str
    now: str


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def move(ctx: click.Context, file: Path) -> None:
    """Seal every key anew by the key service that the settings in FILE name. Stop every process of the vault first.

    \b
    Example:
      profile-vault keys move /etc/profile-vault/new.toml        key_file = "/secure/root-key-2"
      PROFILE_VAULT_CONFIG=/etc/profile-vault/new.toml profile-vault keys status

    From one root key to another, from `local` to `transit`, `awskms` or `pkcs11`, and back. Of FILE only the settings of the
    key service count. The keys stay what they are, and so does all data. A root key that is not there yet is made. Stopped in the
    middle, the vault opens with the old settings or with the new ones; give the same command again.
    """
    moved = asyncio.run(move_keys(load(), file))
    sentence = f"{moved.keys} keys were sealed anew, from {moved.before} to {moved.now}."
    if not moved.keys:
        sentence = "All keys were there already."
    answer = {"keys": moved.keys, "from": moved.before, "to": moved.now}
    emit(ctx, answer, f"{sentence}\n{NEXT}")


async def move_keys(settings: Settings, file: Path, clock: Clock | None = None, actor: str = "operator") -> Moved:
    """As the command. Raises `ConfigError`, `Locked` while one of the services does not answer, and `Unavailable`."""
    if settings.embedded and not cluster.made(settings.data_dir):
        raise ConfigError(f"there is no vault in {settings.data_dir}; set PROFILE_VAULT_DATA_DIR", code="no_vault")
    clock = clock or SystemClock()
    wanted = target_of(settings, file)
    before, now = settings.service.kind, wanted.service.kind
    keys = 0
    try:
        target = await asyncio.to_thread(service_of, wanted, clock)
        try:
            if not await asyncio.to_thread(_opens, settings.keyring, target):
                await _leave(settings, clock, Tag.KEY_MOVE_BEGUN, actor, before, now)
                keys = await _move(settings, clock, target)
        finally:
            target.close()
    except Unavailable as error:
        raise Locked(error.hint) if error.reason == AWAY else error from None
    await _leave(wanted, clock, Tag.KEY_MOVE_DONE, actor, before, now)
    return Moved(keys, before, now)


def target_of(settings: Settings, file: Path) -> Settings:
    """The settings with the key service of the file. Makes the root key of a local one. Raises `ConfigError`."""
    if not file.is_file():
        raise ConfigError(f"{file} is not there; write the settings of the new key service into it")
    found = load(file.absolute().parent, {CONFIG: file.name})  # the environment is that of the old one
    service, local = found.service, found.service.kind == "local"
    if local and found.key_file == found.data_dir.with_name(f"{found.data_dir.name}.key"):
        raise ConfigError(f"{file} must name key_file, the root key of the new local key service")
    wanted = msgspec.structs.replace(settings, service=service, key_file=found.key_file if local else settings.key_file)
    if wanted == settings:
        raise ConfigError("that is the key service which the settings name already")
    if local:
        if wanted.key_file.is_relative_to(settings.data_dir):
            raise ConfigError("the root key must not lie in the data folder: a copy of that would open everything")
        if not wanted.key_file.exists():
            wanted.key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_key_file(wanted.key_file)
    return wanted


def _opens(keyring: Path, service: KeyService) -> bool:
    """True if the store was moved to it before."""
    if not service.whole:
        raise ConfigError(
            "the new key service lets this process make no keys; give it the root key, or an identity that prepares"
        )
    try:
        return bool(KeyStore(keyring, service).held(names.JOURNAL))
    except (NotFound, Unreadable):
        return False
    except Unavailable as error:
        if error.reason == AWAY:
            raise
        return False  # it has no key of that lock yet


async def _move(settings: Settings, clock: Clock, target: KeyService) -> int:
    """Raises `ConfigError` where another process of the vault runs."""
    database = await Database.connect(settings)
    try:
        async with database.hot() as connection:
            running = await others(connection)
        if running:
            raise ConfigError(f"{running} connections of the vault are open: stop all of its processes first")
        source = await asyncio.to_thread(service_of, settings, clock)
        try:
            return await asyncio.to_thread(KeyStore(settings.keyring, source).move_to, target)
        finally:
            source.close()
    finally:
        await database.close()


async def _leave(settings: Settings, clock: Clock, tag: Tag, actor: str, before: str, now: str) -> None:
    async with open_vault(settings, clock=clock) as vault, vault.database.begin() as connection:
        await leave(vault, connection, tag, actor, {"from": before, "to": now, "keys": len(vault.keystore.names())})
