"""A key store in a folder of its own, and keyrings over it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from vault.crypto.services.local import LocalKeyService
from vault.keys.keyring import ALL, Keyring
from vault.keys.keystore import KeyStore

PURPOSES = (0, 1, 2, 5, 62)
KINDS = ("user_id", "email")


@pytest.fixture
def keystore(tmp_path: Path) -> KeyStore:
    """An empty key store."""
    return KeyStore(tmp_path / "keyring", LocalKeyService(bytes(range(32))))


@pytest.fixture
def keyring(keystore: KeyStore) -> Keyring:
    """All keys of a vault with a few purposes, in one process."""
    ring = Keyring(keystore)
    ring.open()
    ring.ensure(PURPOSES, KINDS)
    return ring


@pytest.fixture
def opened(keystore: KeyStore, keyring: Keyring) -> Callable[[Iterable[str]], Keyring]:
    """A keyring of another process over the same store, opened for these names only."""

    def make(names: Iterable[str] = ALL) -> Keyring:
        ring = Keyring(keystore)
        ring.open(names)
        return ring

    return make
