"""Everything in the key store sealed by another service: all of it or none, whatever stops in between (threats A14, A15, H6)."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.keyservices import KINDS, Services
from vault import durable
from vault.crypto.keyservice import KeyService
from vault.crypto.services.local import LocalKeyService
from vault.errors import Unavailable, Unreadable, VaultError
from vault.keys.keystore import KeyStore

OLD, NEW = LocalKeyService(bytes(range(32))), LocalKeyService(bytes(range(32, 64)))
NAMES = ("state", "purpose-1", "rights", "case-1", "index-email")


def filled(folder: Path, made: tuple[str, ...] = NAMES) -> dict[str, dict[int, bytes]]:
    store = KeyStore(folder, OLD)
    store.ensure(made)
    store.turn_to("purpose-1", bytes(32))
    return {name: store.read(name) for name in store.names()}


def opened(folder: Path, service: KeyService) -> dict[str, dict[int, bytes]] | None:
    """All that the service opens, None for nothing; a part of it is an error."""
    store = KeyStore(folder, service)
    found = {}
    for name in store.names():
        try:
            found[name] = store.read(name)
        except VaultError:
            assert not found, "a part opens"
            return None
        assert len(found) == store.names().index(name) + 1, "a part opens"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_keys_move_to_every_service_and_back_and_stay_what_they_are(
    kind: str, services: Services, tmp_path: Path
) -> None:
    folder = tmp_path / "keyring"
    keys = filled(folder)
    there = services.guarded(kind, tmp_path)
    assert KeyStore(folder, OLD).move_to(there) == len(keys)
    assert opened(folder, there) == keys
    assert opened(folder, OLD) is None
    moved = KeyStore(folder, there)
    assert (moved.turn, moved.oldest("purpose-1")) == (1, 2)  # what is known of keys moved, too
    assert moved.add("purpose-1", bytes(32)) == 3
    moved.destroy("purpose-1", 3)
    moved.move_to(NEW)
    assert opened(folder, NEW) == keys
    there.close()


class Power:
    """Fails at the n-th step that changes the folder, and at each after it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for owner, name in ((durable, "write"), (durable, "sync_folder"), (Path, "rename"), (Path, "replace"),
                            (Path, "rmdir"), (Path, "unlink")):  # fmt: skip
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise OSError("power")
            return real(*args, **more)

        return step


def test_a_move_that_stops_at_any_step_leaves_a_store_that_opens_whole_and_ends_when_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    power = Power(monkeypatch)
    seen: set[str] = set()
    for steps in range(400):
        folder = tmp_path / str(steps)
        keys = filled(folder, ("purpose-1", "case-1"))
        power.left = steps
        try:
            KeyStore(folder, OLD).move_to(NEW)
            ended = True
        except OSError:
            ended = False
        power.left = None
        before, after = opened(folder, OLD), opened(folder, NEW)
        assert (before is None) != (after is None), steps
        assert (before or after) == keys, steps
        seen.add("old" if before else "new")
        if before:
            KeyStore(folder, OLD).move_to(NEW)
        KeyStore(folder, NEW).add("case-2", bytes(32))  # whoever writes next finishes
        KeyStore(folder, NEW).destroy("case-2")
        assert opened(folder, NEW) == keys, steps
        assert not [path.name for path in folder.iterdir() if path.is_dir()], steps
        if ended:
            break
    assert seen == {"old", "new"}
    assert steps > 15  # it was interrupted, again and again


def test_a_process_of_before_writes_nothing_into_a_moved_store(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    filled(folder)
    early = KeyStore(folder, OLD)
    KeyStore(folder, OLD).move_to(NEW)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    for act in (
        lambda: early.add("case-9", bytes(32)),
        lambda: early.turn_to("purpose-1", bytes(32)),
        lambda: early.destroy("state"),
        lambda: early.ensure(["salt"]),
        early.reseal,
    ):
        with pytest.raises(Unavailable, match="moved"):
            act()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    with pytest.raises(Unreadable):
        early.read("state")


def test_a_copy_that_an_interrupted_move_left_goes_before_a_key_is_destroyed_a15(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keyring"
    filled(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("power")))
        with pytest.raises(OSError, match="power"):
            KeyStore(folder, OLD).move_to(NEW)
    (left,) = [path for path in folder.rglob("case-1.key") if path.parent != folder]
    with left.open("rb") as still:
        KeyStore(folder, OLD).destroy("case-1")
        assert set(still.read()) == {0}  # written over
    assert not list(folder.rglob("case-1.key"))


def test_the_bytes_that_the_old_service_sealed_are_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    filled(folder)
    with (folder / "state.key").open("rb") as still:
        KeyStore(folder, OLD).move_to(NEW)
        assert set(still.read()) == {0}


def test_a_service_that_does_not_open_what_it_sealed_gets_no_key_h6(tmp_path: Path) -> None:
    class Wrong(LocalKeyService):
        def seal(self, key_name: str, plaintext: bytes) -> bytes:
            return super().seal(key_name, bytes(len(plaintext)) if key_name == "state" else plaintext)

    folder = tmp_path / "keyring"
    keys = filled(folder)
    with pytest.raises(Unreadable):
        KeyStore(folder, OLD).move_to(Wrong(bytes(range(32, 64))))
    assert opened(folder, OLD) == keys


def test_a_key_that_the_old_service_does_not_open_stops_the_move(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    filled(folder)
    file = msgspec.json.decode((folder / "state.key").read_bytes())
    file["keys"][0]["sealed"] = base64.b64encode(NEW.seal("state", bytes(36))).decode()
    (folder / "state.key").write_bytes(msgspec.json.encode(file))
    content = (folder / "rights.key").read_bytes()
    with pytest.raises(Unreadable):
        KeyStore(folder, OLD).move_to(NEW)
    assert (folder / "rights.key").read_bytes() == content
