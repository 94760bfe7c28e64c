"""What a vault that ran has left behind: every file, a dump, the figures, what the operating system shows; and its keys."""

import struct
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.e2e.house import Door, House
from tests.forensics.search import Search
from tests.forensics.stage import dump
from vault.crypto import wrap
from vault.crypto.services.local import LocalKeyService
from vault.keys.compartments import parse_wraps
from vault.keys.keystore import KeyStore
from vault.keys.names import epochs as epochs_of
from vault.keys.names import purpose_of


def store_keys(house: House) -> dict[str, bytes]:
    """Every key of the key store: epochs, indexes, state, signing, cases, archives; and the key that seals them all."""
    store = KeyStore(house.keyring, LocalKeyService.from_key_file(house.key_file))
    found = {f"{name} {version}": key for name in store.names() for version, key in store.read(name).items()}
    return {**found, "root": bytes.fromhex(house.key_file.read_text())}


def data_keys(house: House) -> dict[str, bytes]:
    """The data and field keys of every compartment in the database, opened as an attacker with all keys would."""
    found: dict[str, bytes] = {}
    store = KeyStore(house.keyring, LocalKeyService.from_key_file(house.key_file))
    epochs = {name: store.read(name) for name in store.names() if purpose_of(name) is not None}
    for row in house.sql("SELECT subject_id, wraps FROM keys.subject_key"):
        subject = UUID(str(row["subject_id"])).bytes
        for one in parse_wraps(row["wraps"]):
            purpose, epoch, blob = one.wraps[0]
            cipher = wrap.wrapping_key(epochs[epochs_of(purpose)][epoch], subject, purpose, epoch)
            place = wrap.place_of(one.compartment_id, subject, one.purposes, one.generation)
            context = b"W2" + place + one.commitment + struct.pack(">BH", purpose, epoch)
            data_key = cipher.decrypt(one.commitment[:12], blob, context)
            field_key, commitment = wrap.keys_of(data_key, place)
            assert commitment == one.commitment
            name = one.compartment_id[:4].hex()
            found[f"data key {name}"], found[f"field key {name}"] = data_key, field_key
    return found


def processes(house: House, door: Door) -> list[int]:
    """The vault's server and the database's, with all their children."""
    family = {door.process.pid, int(house.postmaster or 0)}
    while True:
        more = {pid for pid, parent in _parents().items() if parent in family} - family
        if not more:
            return sorted(family)
        family |= more


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def shown_by_the_system(house: House, door: Door) -> bytes:
    """Environment and command line of every process."""
    shown = b""
    for pid in processes(house, door):
        for name in ("environ", "cmdline"):
            try:
                shown += Path(f"/proc/{pid}/{name}").read_bytes() + b"\n"
            except (FileNotFoundError, ProcessLookupError):
                continue  # a server process that ended
    assert b"PROFILE_VAULT_DATA_DIR" in shown  # it is ours that we looked at
    assert b"postgres" in shown
    return shown


def left_behind(house: House, door: Door, search: Search) -> list[Any]:
    """Every hit, wherever it is."""
    house.sql("CHECKPOINT")
    found, size = search.files(house.folder, leaving_out=[house.key_file])
    assert size > 20_000_000  # a database server's folder is never smaller
    assert list((house.postgres / "data" / "pg_wal").glob("0*"))
    for path in (house.postgres / "log", house.log, *(house.data / "journal").glob("*")):
        assert path.stat().st_size or path.suffix, f"{path.name} is empty"
    found += search.hits(dump(house), "dump")
    found += search.hits(door.http.get("/metrics").content, "metrics")
    found += search.hits(door.http.get("/readyz").content, "readiness")
    found += search.hits(shown_by_the_system(house, door), "processes")
    activity = house.sql("SELECT query FROM pg_stat_activity")
    return found + search.hits("\n".join(str(row["query"]) for row in activity).encode(), "statements")
