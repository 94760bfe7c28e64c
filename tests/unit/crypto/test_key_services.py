"""One contract, kept by all four key services: real KMS of moto, real OpenBao, real SoftHSM, and the local one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.keyservices import KINDS, Services
from vault.crypto.keyservice import AWAY, KeyService
from vault.crypto.services.guarded import Guarded
from vault.errors import Unavailable, Unreadable
from vault.keys.keystore import KeyStore

SECRET = bytes(range(36))
LOCKS = ("state", "purpose-1", "rights", "case", "index")


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Iterator[Callable[[], KeyService]]:
    """Makes clients of one service and one set of keys, guarded where that service is elsewhere."""
    maker = services.maker(request.param, tmp_path)
    opened: list[KeyService] = []

    def make() -> KeyService:
        service = maker()
        opened.append(service if service.instant else Guarded(service))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def service(made: Callable[[], KeyService]) -> KeyService:
    one = made()
    one.prepare(LOCKS)
    return one


def test_what_is_sealed_opens_under_its_name_and_in_another_process(
    service: KeyService, made: Callable[[], KeyService]
) -> None:
    sealed = service.seal("purpose-1", SECRET)
    assert SECRET not in sealed
    assert service.unseal("purpose-1", sealed) == made().unseal("purpose-1", sealed) == SECRET
    assert service.seal("purpose-1", SECRET) != sealed
    assert service.opens("purpose-1")
    assert service.seals("purpose-1")
    assert not service.outdated(sealed)
    assert service.whole


def test_sealed_bytes_do_not_open_under_another_name_of_another_lock_or_of_the_same_a14(service: KeyService) -> None:
    sealed = service.seal("case-a", SECRET)
    for name in ("case-b", "case", "purpose-1", "state"):
        with pytest.raises(Unreadable):
            service.unseal(name, sealed)


def test_changed_cut_foreign_and_empty_bytes_have_one_error_a12(service: KeyService) -> None:
    sealed = service.seal("state", SECRET)
    # the version of a transit ciphertext and the number of a token's key are no secret: others are keys that are not there
    for at in (0, 1, len(sealed) - 3, len(sealed) - 20):
        changed = bytearray(sealed)
        changed[at] ^= 0x01
        with pytest.raises(Unreadable):
            service.unseal("state", bytes(changed))
    for cut in (
        b"",
        sealed[:1],
        sealed[:2],
        sealed[:9],
        sealed[:-5],
        sealed + b"\x00",
        b"\x07" + sealed[1:],
        bytes(4000),
    ):
        with pytest.raises((Unreadable, Unavailable)) as told:
            service.unseal("state", cut)
        assert getattr(told.value, "reason", "") != AWAY


def test_a_lock_that_nobody_prepared_says_how_to(made: Callable[[], KeyService]) -> None:
    service = made()
    service.prepare(["state"])
    if service.instant:  # it has every lock of its root key
        assert service.unseal("purpose-7", service.seal("purpose-7", SECRET)) == SECRET
        return
    with pytest.raises(Unavailable, match="keys init"):
        service.seal("purpose-7", SECRET)


def test_preparing_twice_makes_nothing_new(service: KeyService) -> None:
    sealed = service.seal("state", SECRET)
    made = service.prepare([*LOCKS, "cursor"])
    assert made == ([] if service.instant else ["cursor"])
    assert service.unseal("state", sealed) == SECRET
    assert not service.outdated(sealed)


def test_a_renewed_lock_seals_anew_and_opens_both_until_the_older_is_retired(
    service: KeyService, made: Callable[[], KeyService]
) -> None:
    before, other, beside = service.seal("state", SECRET), service.seal("rights", SECRET), made()
    assert beside.unseal("state", beside.seal("state", SECRET)) == SECRET
    service.renew("state")
    after = service.seal("state", SECRET)
    late = beside.seal("state", SECRET)  # by a process that did not hear of it
    assert service.unseal("state", before) == service.unseal("state", after) == service.unseal("state", late) == SECRET
    if service.instant:
        assert service.retire("state") is None
        assert not service.outdated(before)
        return
    assert service.outdated(before)
    assert not service.outdated(after)
    assert not service.outdated(late)
    assert not service.outdated(other)
    gone_in = service.retire("state")
    assert gone_in in {0, 7}
    assert service.retire("state") == gone_in  # a second time is harmless
    assert service.unseal("state", after) == service.unseal("rights", other) == SECRET
    if gone_in == 0:
        for one in (service, made()):
            with pytest.raises((Unreadable, Unavailable)) as told:
                one.unseal("state", before)
            assert told.value.reason != AWAY


def test_h8_what_an_older_key_of_the_service_sealed_is_sealed_anew_before_that_is_destroyed(
    service: KeyService, made: Callable[[], KeyService], tmp_path: Path
) -> None:
    """Of the names of one lock, and of the versions of one name, only some may go."""
    store = KeyStore(tmp_path / "store", service)
    store.add("index-a", bytes(32))
    store.add("purpose-1", bytes(32))
    for version in (2, 3):
        store.renew("purpose-1")
        assert store.turn_to("purpose-1", bytes([version]) * 32) == version
    store.renew("index-b")
    store.add("index-b", bytes(32))
    store.destroy("purpose-1", 1)
    store.retire("purpose-1")
    store.retire("index-b")
    again = KeyStore(tmp_path / "store", made())
    assert again.read("purpose-1") == {version: bytes([version]) * 32 for version in (2, 3)}
    assert again.read("index-a") == again.read("index-b") == {1: bytes(32)}


def test_no_service_shows_or_hands_on_what_it_holds_h15(service: KeyService, made: Callable[[], KeyService]) -> None:
    import pickle  # noqa: PLC0415

    inner = service if service.instant else made()._service  # type: ignore[attr-defined]
    assert repr(inner).endswith("Service(...)")
    with pytest.raises(TypeError):
        pickle.dumps(inner)
