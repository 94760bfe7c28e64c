"""What lies outside the database: key store, journal, and the policies folder. Opened as the vault does, and only read."""

from typing import Final, NamedTuple

from vault.bootstrap import policies_folder
from vault.catalogue.load import read_folder
from vault.cli.doctor.finding import Finding, failed, ok, skipped, warning
from vault.config import Settings
from vault.crypto.keyservice import AWAY, KeyService
from vault.crypto.services.chosen import service_of
from vault.errors import ConfigError, PolicyError, Unreadable, VaultError
from vault.flows.returned import Gone, noting, returned
from vault.journal.file import FILE
from vault.journal.journal import Journal
from vault.journal.opening import open_journal
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import SUFFIX, KeyStore
from vault.policy import version

MAX_NAMED: Final = 3  # problems told one by one; `policy check` tells all


class Opened(NamedTuple):
    """The keyring, where it could be opened; and what was found."""

    keyring: Keyring | None
    finding: Finding


def key_store(settings: Settings) -> Opened:
    """Does every key unseal, and is none missing that was made once?"""
    check = "key store"
    local = settings.service.kind == "local"
    if not settings.keyring.is_dir() or (local and not settings.key_file.exists()):
        return Opened(None, skipped(check, "there are no keys yet", "the first start makes them"))
    service: KeyService | None = None
    try:
        service = service_of(settings)
        store = KeyStore(settings.keyring, service)
        if store.empty:
            return Opened(None, skipped(check, "there are no keys yet", "the first start makes them"))
        lost = store.lost()
        opened = [name for name in store.names() if store.opens(name)]
        broken = [name for name in opened if not _unseals(store, name)]
        if broken:
            told = ", ".join(str(settings.keyring / f"{name}{SUFFIX}") for name in broken[:MAX_NAMED])
            more = f" and {len(broken) - MAX_NAMED} more" if len(broken) > MAX_NAMED else ""
            remedy = f"put back key store and {'key file' if local else 'key service'} that belong together"
            return Opened(None, failed(check, f"{told}{more}: damaged, or sealed under another key file", remedy))
        keyring = Keyring(store, beside_database=settings.beside)
        keyring.open()
    except VaultError as error:
        found = f"{error.sentence} {error.hint}".strip()
        remedy = "put back key store and key file that belong together"
        if error.reason == AWAY:
            remedy = "the vault stays locked until the key service answers; see docs/how-to/choose-a-key-service.md"
        return Opened(None, failed(check, found, remedy))
    finally:
        if service is not None:
            service.close()  # the keyring holds its keys
    if lost:
        return Opened(None, failed(check, f"missing: {', '.join(lost)}", "restore the key store from its own backup"))
    return Opened(keyring, ok(check, f"{len(store.names())} keys, {_unsealed(len(opened), len(store.names()))}"))


def _unseals(store: KeyStore, name: str) -> bool:
    try:
        store.held(name)
    except Unreadable:
        return False
    return True


def _unsealed(opened: int, there: int) -> str:
    return "all unseal" if opened == there else f"all {opened} that this process may open unseal"


class Journals(NamedTuple):
    """The journal, where it could be opened, for whoever closes it; and what was found."""

    journal: Journal | None
    finding: Finding


def journal(settings: Settings, keyring: Keyring | None) -> Journals:
    """Is the journal of narrowings whole, from its first frame to its last?"""
    check = "journal"
    if keyring is None:
        return Journals(None, skipped(check, "it cannot be read without its key"))
    if settings.journal is not None and not any(settings.journal.glob(FILE + "*")):
        found = f"{settings.journal} holds none, though there are keys"
        remedy = "restore it, or let an officer accept its loss: nothing serves without it"
        return Journals(None, failed(check, found, remedy))
    opened: Journal | None = None
    try:
        opened = open_journal(settings.journal_place, keyring.key(names.JOURNAL), begin=False)
        end = opened.verify()
    except VaultError as error:
        found = f"{error.sentence} {error.hint}".strip()
        remedy = "restore the journal; nothing based on consent is released without it"
        if settings.journal_url is not None:
            remedy = f"check its server, its address and the password; {remedy}"
        return Journals(opened, failed(check, found, remedy))
    return Journals(opened, ok(check, f"whole, {end.number} entries"))


def destroyed(settings: Settings, kept: Journal | None) -> Finding:
    """Has the key store an epoch that the journal calls destroyed?"""
    check = "destroyed epochs"
    if kept is None:
        return skipped(check, "the journal was not read")
    gone: Gone = {}
    service: KeyService | None = None
    try:
        for _ in noting((entry.narrowing for entry in kept.read()), gone):
            pass
        service = service_of(settings)
        back = returned(KeyStore(settings.keyring, service), gone)
    except VaultError as error:
        return skipped(check, f"{error.sentence} {error.hint}".strip())
    finally:
        if service is not None:
            service.close()
    if back:
        told = ", ".join(f"{name} {epoch}" for name, epoch in back[:MAX_NAMED])
        remedy = (
            "the key store is an older copy: put back the newest one; or start the vault, which destroys what nothing needs,"
            " and for what is left run `keys rotate NAME` and `keys destroy NAME EPOCH`"
        )
        return failed(check, f"{len(back)} are in the key store again: {told}", remedy)
    return ok(check, f"{len(gone)}, none is there again")


class Policies(NamedTuple):
    """The digest of the folder, where it holds together; and what was found."""

    digest: bytes | None
    finding: Finding


def policies(settings: Settings) -> Policies:
    """Does the folder hold together, and do its examples hold?"""
    check = "policies folder"
    try:
        folder = policies_folder(settings)
        checked = version.check(read_folder(folder))
        wrong = [one for one in version.run_tests(checked) if one.fault is not None]
    except PolicyError as error:
        more = len(error.problems) - MAX_NAMED
        told = "; ".join(error.problems[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
        return Policies(None, failed(check, told, "mend them: profile-vault policy check"))
    except ConfigError as error:
        return Policies(None, failed(check, error.hint, "make one: profile-vault policy init"))
    if wrong:
        return Policies(None, failed(check, f"{len(wrong)} examples do not hold", "see profile-vault policy test"))
    digest = checked.catalogue.digest
    if folder != settings.policies:
        remedy = "for an app of your own: profile-vault policy init, then set `policies`"
        return Policies(digest, warning(check, "those of the example shop are used", remedy))
    return Policies(digest, ok(check, f"{folder} holds together, and its examples hold"))
