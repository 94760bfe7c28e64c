"""Stored bytes against vectors that a second implementation wrote from the pages alone (tests/vectors/generate_keys.py)."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from vault import durable
from vault.crypto.aead import Aead
from vault.crypto.blind import tag
from vault.crypto.derive import derive
from vault.crypto.mac import mac
from vault.crypto.services.local import LocalKeyService
from vault.errors import Unavailable, Unreadable
from vault.journal.file import FILE, FileJournal
from vault.journal.journal import Journal
from vault.journal.narrowing import decode, encode
from vault.keys import names
from vault.keys.compartments import Wrapped, open_compartment, pack_wraps, parse_wraps
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.state.record import pack, unpack

HERE = Path(__file__).parent
FILES = ("wraps", "state", "journal", "tags", "keystore")


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return loaded


def cases(name: str, group: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in load(name)[group]]


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """The epoch keys of wraps.json, each under its number."""
    store = KeyStore(tmp_path / "keyring", LocalKeyService(bytes(32)))
    for purpose, keys in load("wraps")["epoch_keys"].items():
        for epoch in range(1, max(map(int, keys)) + 1):
            store.add(names.epochs(int(purpose)), bytes.fromhex(keys.get(str(epoch), "ee" * 32)))
    ring = Keyring(store)
    ring.open()
    return ring


def opens_with(keyring: Keyring, one: Wrapped, purpose: int, field_key: bytes) -> bool:
    subject = UUID(load("wraps")["subject"])
    return (
        open_compartment(keyring, subject, one, purpose).aead.decrypt(Aead(field_key).encrypt(b"v", b""), b"") == b"v"
    )


def test_the_committed_vectors_are_those_of_the_generator() -> None:
    spec = importlib.util.spec_from_file_location("generate_keys", HERE / "generate_keys.py")
    assert spec is not None
    assert spec.loader is not None
    generator: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    for name in FILES:
        assert json.loads(json.dumps(getattr(generator, name)())) == load(name)


def test_a12_the_corpus_of_malformed_envelopes_has_no_fewer_than_sixty_files() -> None:
    assert (
        sum(len(load(name)["malformed"]) for name in ("wraps", "state", "journal")) + len(load("wraps")["refused"])
        >= 60
    )


@pytest.mark.parametrize("case", cases("wraps", "valid"))
def test_wraps_read_write_and_open(case: dict[str, Any], keyring: Keyring) -> None:
    row = bytes.fromhex(case["bytes"])
    parsed = parse_wraps(row)
    assert pack_wraps(parsed) == row
    assert len(parsed) == len(case["compartments"])
    for one, said in zip(parsed, case["compartments"], strict=True):
        assert [one.compartment_id.hex(), one.commitment.hex()] == [said["compartment_id"], said["commitment"]]
        assert (one.purposes, one.generation) == (said["purposes"], said["generation"])
        assert [[w.purpose, w.epoch] for w in one.wraps] == said["wraps"]
        for purpose, _ in said["wraps"]:
            assert opens_with(keyring, one, purpose, bytes.fromhex(said["field_key"]))


@pytest.mark.parametrize("case", cases("wraps", "malformed"))
def test_a12_malformed_wraps_are_unreadable(case: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        parse_wraps(bytes.fromhex(case["bytes"]))


@pytest.mark.parametrize("case", cases("wraps", "refused"))
def test_a12_well_formed_wraps_that_lie_are_unreadable_when_opened(case: dict[str, Any], keyring: Keyring) -> None:
    one = parse_wraps(bytes.fromhex(case["bytes"]))[0]
    with pytest.raises(Unreadable):
        open_compartment(keyring, UUID(load("wraps")["subject"]), one, case["purpose"])


@pytest.mark.parametrize("case", cases("state", "valid"))
def test_states_read_and_write(case: dict[str, Any]) -> None:
    vectors, row = load("state"), bytes.fromhex(case["bytes"])
    subject, key = UUID(vectors["subject"]), bytes.fromhex(vectors["key"])
    state = unpack(subject, row, key)
    assert pack(state, key) == row
    said = case["state"]
    for name in ("version", "granted", "refused", "blocked", "objected", "restricted", "fenced", "minor", "identified"):
        assert getattr(state, name) == said[name]
    for name in ("members", "ledger_count", "keys_version", "event_count"):
        assert getattr(state, name) == said[name]
    assert state.root == UUID(said["root"])
    assert state.claimed == (UUID(said["claimed"]) if said["claimed"] else None)
    assert state.ledger_head.hex() == said["ledger_head"]
    assert state.holdings.hex() == said["holdings"]
    assert [list(end) for end in state.expiries] == said["expiries"]
    assert [[m.purposes, m.generation, m.version, m.digest.hex()] for m in state.compartments] == said["compartments"]


@pytest.mark.parametrize("case", cases("state", "malformed"))
def test_a12_malformed_states_are_unreadable(case: dict[str, Any]) -> None:
    vectors = load("state")
    with pytest.raises(Unreadable):
        unpack(UUID(vectors["subject"]), bytes.fromhex(case["bytes"]), bytes.fromhex(vectors["key"]))


def journal_of(folder: Path, data: bytes) -> Journal:
    durable.private_folder(folder)
    durable.write(folder / FILE, data)
    return FileJournal(folder, bytes.fromhex(load("journal")["key"]))


@pytest.mark.parametrize("case", cases("journal", "valid"))
def test_journals_read_and_write(case: dict[str, Any], tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "given", bytes.fromhex(case["bytes"]))
    entries = list(journal.read())
    assert [entry.number for entry in entries] == list(range(1, case["numbers"] + 1))
    assert [encode(entry.narrowing).hex() for entry in entries] == case["payloads"]
    again = FileJournal(tmp_path / "again", bytes.fromhex(load("journal")["key"]))
    again.append_now([decode(bytes.fromhex(payload)) for payload in case["payloads"]])
    assert (tmp_path / "again" / FILE).read_bytes().hex() == case["bytes"]


@pytest.mark.parametrize("case", cases("journal", "unfinished"))
def test_a_journal_with_an_unfinished_frame_reads_up_to_it(case: dict[str, Any], tmp_path: Path) -> None:
    assert journal_of(tmp_path / "given", bytes.fromhex(case["bytes"])).verify().number == case["numbers"]


@pytest.mark.parametrize("case", cases("journal", "malformed"))
def test_f1_malformed_journals_are_unreadable(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        journal_of(tmp_path / "given", bytes.fromhex(case["bytes"])).verify()


def test_the_audit_head_has_its_bytes(tmp_path: Path) -> None:
    said = load("journal")["audit_head"]
    journal = FileJournal(tmp_path / "journal", bytes.fromhex(load("journal")["key"]))
    journal.write_head(said["size"], bytes.fromhex(said["root"]))
    assert (tmp_path / "journal" / "audit.head").read_bytes().hex() == said["bytes"]


def test_tags_codes_and_derived_keys_have_their_bytes() -> None:
    vectors = load("tags")
    key = bytes.fromhex(vectors["key"])
    for case in vectors["cases"]:
        parts = [bytes.fromhex(part) for part in case["parts"]]
        assert tag(key, case["label"], *parts).hex() == case["tag"]
        assert mac(key, case["label"], *parts).hex() == case["mac"]
    for case in vectors["derived"]:
        parts = [bytes.fromhex(part) for part in case["parts"]]
        assert derive(key, case["label"], *parts, length=case["length"]).hex() == case["key"]


def test_a_key_file_of_the_page_is_read(tmp_path: Path) -> None:
    vectors = load("keystore")
    store = KeyStore(tmp_path / "keyring", LocalKeyService(bytes.fromhex(vectors["root_key"])))
    for one in vectors["files"]:
        name = one["file"]["name"]
        durable.write(tmp_path / "keyring" / f"{name}.key", json.dumps(one["file"]).encode())
        assert {str(v): key.hex() for v, key in store.read(name).items()} == one["keys"]
    assert store.add("rights", bytes(32)) == 4


def test_a_key_folder_of_the_page_opens_what_the_root_key_opens_once_it_is_sealed_anew(tmp_path: Path) -> None:
    vectors = load("keystore")
    root = LocalKeyService(bytes.fromhex(vectors["root_key"]))
    root.hand_out(tmp_path / "desk", frozenset(vectors["secrets"]), frozenset())
    root.hand_out(tmp_path / "writer", frozenset(("index",)), frozenset(("rights",)))
    for lock, secret in vectors["secrets"].items():
        assert (tmp_path / "desk" / f"{lock}.secret").read_text().strip() == secret
    assert (tmp_path / "writer" / "rights.public").read_text().strip() == vectors["publics"]["rights"]
    for one in vectors["files"]:
        durable.private_folder(tmp_path / "keyring")
        durable.write(tmp_path / "keyring" / f"{one['file']['name']}.key", json.dumps(one["file"]).encode())
    assert KeyStore(tmp_path / "keyring", root).reseal() == ["rights"]
    desk, writer = (
        KeyStore(tmp_path / "keyring", LocalKeyService.from_path(tmp_path / one)) for one in ("desk", "writer")
    )
    assert {str(v): key.hex() for v, key in desk.read("rights").items()} == vectors["files"][0]["keys"]
    assert writer.add("rights", bytes(32)) == 4
    assert desk.read("rights")[4] == bytes(32)
    with pytest.raises(Unavailable):
        writer.read("rights")
