"""The key store on disk: private, atomic, aware of what was lost, and never giving a version number twice."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vault import durable
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError, NotFound, Unavailable, Unreadable
from vault.keys.keystore import KeyStore

KEY = bytes(range(50, 82))


def folder_of(store: KeyStore) -> Path:
    return store._folder


def again(store: KeyStore, root: bytes = bytes(range(32))) -> KeyStore:
    """The store as another process would open it."""
    return KeyStore(folder_of(store), LocalKeyService(root))


def test_a_key_is_there_for_the_next_process(keystore: KeyStore) -> None:
    assert keystore.empty
    assert keystore.add("state", KEY) == 1
    assert keystore.add("state", bytes(32)) == 2
    assert again(keystore).read("state") == {1: KEY, 2: bytes(32)}
    assert again(keystore).names() == ["state"]
    assert not keystore.empty


def test_a15_no_key_lies_in_the_folder_in_any_form(keystore: KeyStore) -> None:
    keystore.add("purpose-1", KEY)
    keystore.add("case-1", KEY)
    content = b"".join(path.read_bytes() for path in folder_of(keystore).iterdir())
    for form in (KEY, KEY.hex().encode(), base64.b64encode(KEY)[:40], base64.urlsafe_b64encode(KEY)[:40]):
        assert form not in content


def test_folder_and_files_are_closed_to_others(keystore: KeyStore) -> None:
    before = os.umask(0)
    try:
        keystore.add("state", KEY)
    finally:
        os.umask(before)
    assert folder_of(keystore).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder_of(keystore).iterdir()} == {0o600}


def test_an_open_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        KeyStore(folder, LocalKeyService(bytes(32)))
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_opened_file_is_refused(keystore: KeyStore) -> None:
    keystore.add("state", KEY)
    (folder_of(keystore) / "state.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        keystore.read("state")


@pytest.mark.parametrize("name", ["", "../state", "a/b", "A", ".lock", "state\n", "x" * 121, "é", "1a"])
def test_a_name_that_could_be_a_path_is_a_fault(keystore: KeyStore, name: str) -> None:
    for attempt in (keystore.read, keystore.destroy, lambda odd: keystore.add(odd, KEY)):
        with pytest.raises(ValueError, match="not the name"):
            attempt(name)


def test_an_unknown_name_is_not_found(keystore: KeyStore) -> None:
    with pytest.raises(NotFound):
        keystore.read("state")


@pytest.mark.parametrize("length", [0, 16, 33])
def test_only_256_bit_keys_are_kept(keystore: KeyStore, length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keystore.add("state", bytes(length))


def test_another_root_key_reads_nothing(keystore: KeyStore) -> None:
    keystore.add("state", KEY)
    with pytest.raises(Unreadable):
        again(keystore, bytes(32)).read("state")


def test_a_key_file_under_another_name_is_unreadable(keystore: KeyStore) -> None:
    keystore.add("purpose-1", KEY)
    content = (folder_of(keystore) / "purpose-1.key").read_bytes()
    for renamed in (content, content.replace(b'"purpose-1"', b'"purpose-2"')):
        durable.write(folder_of(keystore) / "purpose-2.key", renamed)
        with pytest.raises(Unreadable):
            keystore.read("purpose-2")


def test_two_versions_cannot_trade_places(keystore: KeyStore) -> None:
    keystore.add("purpose-1", KEY)
    keystore.add("purpose-1", bytes(32))
    path = folder_of(keystore) / "purpose-1.key"
    content = json.loads(path.read_text())
    first, second = content["keys"]
    first["sealed"], second["sealed"] = second["sealed"], first["sealed"]
    durable.write(path, json.dumps(content).encode())
    with pytest.raises(Unreadable):
        keystore.read("purpose-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"{" * 100_000,
        b'{"format":2,"name":"state","keys":[]}',
        b'{"format":1,"name":"state","keys":[]}',
        b'{"format":1,"name":"state","keys":[{"version":1,"made_at":0,"sealed":"not base64!"}]}',
        b'{"format":1,"name":"state","keys":[{"version":0,"made_at":0,"sealed":""}]}',
        b'{"format":1,"name":"state","keys":[{"version":1,"made_at":0,"sealed":"","x":1}]}',
        b'{"format":1,"name":"state","keys":[{"version":70000,"made_at":0,"sealed":""}]}',
        b" " * ((1 << 20) + 1),
    ],
)
def test_a12_a_malformed_file_is_unreadable(keystore: KeyStore, content: bytes) -> None:
    durable.write(folder_of(keystore) / "state.key", content)
    with pytest.raises(Unreadable):
        keystore.read("state")


def test_a_malformed_inventory_stops_every_change(keystore: KeyStore) -> None:
    keystore.add("state", KEY)
    for content in (b"{", b'{"format":9,"made":{}}'):
        durable.write(folder_of(keystore) / "made.json", content)
        with pytest.raises(Unreadable):
            keystore.ensure(["state"])


def test_a_first_start_makes_each_key_once(keystore: KeyStore) -> None:
    assert keystore.ensure(["state", "dedup"]) == ["state", "dedup"]
    keys = keystore.read("state"), keystore.read("dedup")
    assert keystore.ensure(["state", "dedup"]) == []
    assert keystore.ensure(["state", "salt"]) == ["salt"]
    assert (keystore.read("state"), keystore.read("dedup")) == keys
    assert keys[0] != keys[1]


def test_h7_a_lost_key_is_an_error_and_never_made_anew(keystore: KeyStore) -> None:
    keystore.ensure(["state", "dedup"])
    (folder_of(keystore) / "state.key").unlink()
    with pytest.raises(Unavailable, match="missing from the key store: state"):
        keystore.ensure(["state", "dedup"])
    assert keystore.names() == ["dedup"]


def test_a_key_destroyed_on_purpose_is_made_anew_under_a_new_number(keystore: KeyStore) -> None:
    keystore.ensure(["purpose-1"])
    old = keystore.read("purpose-1")[1]
    keystore.destroy("purpose-1")
    assert keystore.ensure(["purpose-1"]) == ["purpose-1"]
    ((version, key),) = keystore.read("purpose-1").items()
    assert version == 2
    assert key != old


def test_one_version_is_destroyed_and_the_others_stay(keystore: KeyStore) -> None:
    for number in range(3):
        keystore.add("purpose-1", bytes((number,)) * 32)
    keystore.destroy("purpose-1", 2)
    assert set(keystore.read("purpose-1")) == {1, 3}
    keystore.destroy("purpose-1", 2)
    keystore.destroy("purpose-1", 3)
    assert keystore.add("purpose-1", KEY) == 4
    keystore.destroy("purpose-1", 1)
    keystore.destroy("purpose-1", 4)
    with pytest.raises(NotFound):
        keystore.read("purpose-1")
    assert keystore.add("purpose-1", KEY) == 5


def test_a_destroyed_file_was_overwritten(keystore: KeyStore) -> None:
    keystore.add("case-1", KEY)
    path = folder_of(keystore) / "case-1.key"
    kept = path.open("rb")  # whoever still holds the file sees what is left of it
    size = path.stat().st_size
    keystore.destroy("case-1")
    with kept:
        assert kept.read() == bytes(size)
    assert not path.exists()


def test_a_destroyed_key_of_a_request_leaves_no_trace(keystore: KeyStore) -> None:
    for name in ("case-0b6a", "archive-0b6a"):
        keystore.add(name, KEY)
        keystore.destroy(name)
        keystore.destroy(name)
    content = b"".join(path.read_bytes() for path in folder_of(keystore).iterdir())
    assert b"0b6a" not in content
    assert keystore.empty


def test_a_crash_while_writing_leaves_the_key_as_it_was(keystore: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore.add("state", KEY)

    def crash(descriptor: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk"):
        keystore.add("state", bytes(32))
    monkeypatch.undo()
    assert again(keystore).read("state") == {1: KEY}
    assert not [path for path in folder_of(keystore).iterdir() if path.name.endswith(".new")]
    assert keystore.add("state", bytes(32)) == 2


def test_a_crash_between_key_and_inventory_loses_no_key_and_reuses_no_number(keystore: KeyStore) -> None:
    keystore.add("state", KEY)
    (folder_of(keystore) / "made.json").unlink()
    assert keystore.ensure(["state"]) == []
    assert keystore.add("state", bytes(32)) == 2
    assert keystore.read("state")[1] == KEY


def test_processes_that_add_at_once_all_get_a_number_of_their_own(keystore: KeyStore) -> None:
    script = (
        "import sys; from pathlib import Path; from vault.keys.keystore import KeyStore;"
        "from vault.crypto.services.local import LocalKeyService;"
        "store = KeyStore(Path(sys.argv[1]), LocalKeyService(bytes(range(32))));"
        "[store.add('purpose-1', bytes(32)) for _ in range(10)]; store.ensure(['state', 'dedup'])"
    )
    command = [sys.executable, "-c", script, str(folder_of(keystore))]
    running = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) for _ in range(3)]  # noqa: S603
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert set(keystore.read("purpose-1")) == set(range(1, 31))
    assert len(keystore.read("state")) == len(keystore.read("dedup")) == 1


def test_version_numbers_end_where_an_epoch_no_longer_fits(keystore: KeyStore) -> None:
    made = {"format": 1, "made": {"purpose-1": {"last": 65535, "destroyed": True}}}
    durable.write(folder_of(keystore) / "made.json", json.dumps(made).encode())
    with pytest.raises(Unavailable):
        keystore.add("purpose-1", KEY)


def test_the_store_and_its_keys_show_nothing(keystore: KeyStore) -> None:
    keystore.add("state", KEY)
    assert repr(keystore) == "KeyStore(...)"
    assert repr(keystore.held("state")) == "{1: Held(...)}"
