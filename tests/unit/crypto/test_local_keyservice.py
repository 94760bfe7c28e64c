"""The local key service: a key per name, files that nobody else may open."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from vault.crypto.keyservice import KeyService
from vault.crypto.services.local import LocalKeyService, make_key_file
from vault.errors import ConfigError, Unreadable

SECRET = bytes(range(100, 132))


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def test_what_is_sealed_under_a_name_opens_under_that_name_only() -> None:
    service: KeyService = LocalKeyService(bytes(32))
    sealed = service.seal("purpose-1", SECRET)
    assert SECRET not in sealed
    assert service.unseal("purpose-1", sealed) == SECRET
    for name in ("purpose-2", "purpose-11", "", "rights"):
        with pytest.raises(Unreadable):
            service.unseal(name, sealed)
    with pytest.raises(Unreadable):
        LocalKeyService(b"\x01" * 32).unseal("purpose-1", sealed)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: b"",
        lambda s: s[:1],
        lambda s: s[:-1],
        lambda s: s + b"\x00",
        lambda s: b"\x00" + s[1:],
        lambda s: b"\x01" + s[1:],
        lambda s: b"\x03" + s[1:],
        lambda s: b"\x04" + s[1:],
        lambda s: s[1:],
    ],
)
def test_a12_sealed_bytes_that_were_changed_are_unreadable(change: Callable[[bytes], bytes]) -> None:
    service = LocalKeyService(bytes(32))
    with pytest.raises(Unreadable):
        service.unseal("state", change(service.seal("state", SECRET)))


def test_a_made_key_file_is_private_random_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    make_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    service = LocalKeyService.from_key_file(path)
    assert LocalKeyService.from_key_file(path).unseal("a", service.seal("a", SECRET)) == SECRET
    with pytest.raises(FileExistsError):
        make_key_file(path)
    make_key_file(tmp_path / "other.key")
    assert (tmp_path / "other.key").read_bytes() != path.read_bytes()


def test_an_open_missing_linked_or_odd_key_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    secret = SECRET.hex()
    opened = private(tmp_path / "open", secret)
    opened.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(private(tmp_path / "good", secret))
    paths = [
        opened,
        link,
        tmp_path / "missing",
        tmp_path,
        private(tmp_path / "short", secret[:-2]),
        private(tmp_path / "text", "x" * 64),
        private(tmp_path / "huge", "00" * 5000),
        private(tmp_path / "bytes", "é" * 32),
    ]
    for path in paths:
        with pytest.raises(ConfigError) as caught:
            LocalKeyService.from_key_file(path)
        assert secret[:16] not in str(caught.value)


def test_a_passphrase_and_its_salt_make_the_key(tmp_path: Path) -> None:
    path = private(tmp_path / "passphrase", "a sentence that nobody would guess\n")
    service = LocalKeyService.from_passphrase_file(path, bytes(16))
    sealed = service.seal("a", SECRET)
    private(path, "a sentence that nobody would guess")  # the newline of an editor does not count
    assert LocalKeyService.from_passphrase_file(path, bytes(16)).unseal("a", sealed) == SECRET
    with pytest.raises(Unreadable):
        LocalKeyService.from_passphrase_file(path, b"\x01" * 16).unseal("a", sealed)


def test_a_short_passphrase_and_an_odd_salt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sentence"):
        LocalKeyService.from_passphrase_file(private(tmp_path / "short", "secret\n"), bytes(16))
    with pytest.raises(ValueError, match="16 bytes"):
        LocalKeyService.from_passphrase_file(private(tmp_path / "good", "s" * 20), b"")


def test_the_service_shows_nothing_and_does_not_travel() -> None:
    service = LocalKeyService(SECRET)
    assert repr(service) == "LocalKeyService(...)"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(service)
    with pytest.raises(ValueError, match="32 bytes"):
        LocalKeyService(bytes(16))
