"""Rows moved to newer epochs, and what a process learns of the store meanwhile (threats A10, A13, A14, A21, H8)."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeClock
from vault.catalogue.numbers import RIGHTS, bits
from vault.clock import DAY, SECOND
from vault.crypto.blind import Tagger, retag, tag
from vault.crypto.services.local import LocalKeyService
from vault.crypto.wrap import Deriver, wrapping_key
from vault.errors import Unavailable, Unreadable
from vault.keys.compartments import Opener, Wrapped, pack_wraps, parse_wraps
from vault.keys.history import Backup, Destroyed, History, last_copy
from vault.keys.keyring import GRACE, Keyring
from vault.keys.keystore import KeyStore
from vault.keys.names import epochs
from vault.keys.rotation import Mover, count_wraps, depending

ROOT = bytes(range(32))
PURPOSES = 4
SUBJECT = UUID(int=77)
CIPHER_TEXT = bytes(12)
masks = st.sets(st.integers(1, 2**PURPOSES - 1), min_size=1, max_size=4)
chosen = st.sets(st.sampled_from([*range(PURPOSES), RIGHTS]), min_size=1)


def store_in(folder: Path) -> KeyStore:
    return KeyStore(folder, LocalKeyService(ROOT))


def opened(store: KeyStore, clock: FakeClock | None = None) -> Keyring:
    keyring = Keyring(store, clock=clock or FakeClock())
    keyring.open()
    return keyring


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """Two epochs of everything."""
    made = opened(store_in(tmp_path_factory.mktemp("keys") / "store"))
    made.ensure(range(PURPOSES), ())
    return made


def row_of(keyring: Keyring, purposes: Sequence[int]) -> bytes:
    opener = Opener(keyring, SUBJECT)
    return pack_wraps(opener.create(mask, 1)[0] for mask in purposes)


def keys_behind(keyring: Keyring, wrapped: Wrapped) -> set[bytes]:
    """Something sealed under each wrap's data key: equal exactly if the key is."""
    opener = Opener(keyring, SUBJECT)
    found = set()
    for purpose in (*bits(wrapped.held), RIGHTS):
        compartment = opener.open(wrapped, purpose)
        found.add(bytes(compartment.aead._cipher.encrypt(CIPHER_TEXT, b"", None)))  # type: ignore[attr-defined]
    return found


@given(purposes=masks, moving=chosen)
def test_h8_a_row_moves_whole_keeps_its_keys_and_moves_no_further(
    keyring: Keyring, purposes: set[int], moving: set[int]
) -> None:
    before = row_of(keyring, sorted(purposes))
    targets = {purpose: keyring.turn_to(epochs(purpose)) for purpose in moving}
    mover = Mover(keyring, targets)
    ((row, moved, shut),) = mover.move([(SUBJECT, before)])
    old, new = parse_wraps(before), parse_wraps(row or before)
    assert shut == 0
    assert moved == sum(wrap.purpose in targets for one in old for wrap in one.wraps)
    for was, now in zip(old, new, strict=True):
        assert was[:4] == now[:4]
        assert [one.purpose for one in was.wraps] == [one.purpose for one in now.wraps]
        for one, other in zip(was.wraps, now.wraps, strict=True):
            assert other == one if one.purpose not in targets else other.epoch == targets[one.purpose]
        assert len(keys_behind(keyring, was) | keys_behind(keyring, now)) == 1
    assert mover.move([(SUBJECT, row or before)])[0].row is None
    for purpose, epoch in targets.items():
        counted = count_wraps([row or before])
        assert counted[purpose, epoch] == depending(keyring, [(SUBJECT, row or before)], purpose, epoch).opening


def test_a13_a_row_of_somebody_else_does_not_move(keyring: Keyring) -> None:
    row = row_of(keyring, [3])
    (left,) = Mover(keyring, {0: keyring.turn_to(epochs(0))}).move([(UUID(int=78), row)])
    assert left == (None, 0, 1)


def test_a14_a_wrap_of_an_epoch_that_never_was_is_counted_and_stays(keyring: Keyring) -> None:
    (one,) = parse_wraps(row_of(keyring, [1]))
    first = one.wraps[0]._replace(epoch=0)
    row = pack_wraps([one._replace(wraps=(first, *one.wraps[1:]))])
    (left,) = Mover(keyring, {0: keyring.turn_to(epochs(0)), RIGHTS: keyring.turn_to(epochs(RIGHTS))}).move(
        [(SUBJECT, row)]
    )
    assert (left.moved, left.shut) == (1, 1)
    assert parse_wraps(left.row or b"")[0].wraps[0] == first


def test_h8_a_wrap_of_a_later_epoch_stays_though_its_number_has_two_bytes(keyring: Keyring) -> None:
    (one,) = parse_wraps(row_of(keyring, [1]))
    later = one._replace(wraps=tuple(wrap._replace(epoch=0x0101) for wrap in one.wraps))
    mover = Mover(keyring, {0: keyring.turn_to(epochs(0))})
    assert mover.move([(SUBJECT, pack_wraps([later]))]) == [(None, 0, 0)]


@pytest.mark.parametrize("broken", [b"", b"\x02\x00", b"\x07", b"\x02" + bytes(58), b"\x02" + bytes(58) + b"\x09"])
def test_a_row_that_is_none_is_counted_and_left(keyring: Keyring, broken: bytes) -> None:
    assert Mover(keyring, {0: 1}).move([(SUBJECT, broken)]) == [(None, 0, 1)]
    assert count_wraps([broken]) == {(-1, 0): 1}


def test_a_deriver_makes_what_a_single_derivation_makes(keyring: Keyring) -> None:
    key = keyring.epoch_key(2, 1)
    ciphers = Deriver(key, 2, 1).cipher(SUBJECT.bytes), wrapping_key(key, SUBJECT.bytes, 2, 1)
    assert len({one.encrypt(CIPHER_TEXT, b"data key", b"") for one in ciphers}) == 1


# --- what a process learns --------------------------------------------------------------------------------------------


def test_another_process_learns_of_an_epoch_when_it_looks_and_forgets_a_destroyed_one_a_minute_later(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    mine = opened(store_in(tmp_path / "store"))
    mine.ensure([1], ())
    other = opened(store_in(tmp_path / "store"), clock)
    mine.turn_to("purpose-1")
    assert (other.epoch(1)[0], other.turn) == (1, 0)
    other.refresh()
    assert (other.epoch(1)[0], other.turn) == (2, 1)
    assert other.epoch_key(1, 1) == mine.epoch_key(1, 1)
    key = mine.epoch_key(1, 1)
    mine.destroy("purpose-1", 1)
    other.refresh()
    assert other.epoch_key(1, 1) == key  # what was read before must open
    clock.advance(micros=GRACE + SECOND)
    other.refresh()
    with pytest.raises(Unavailable):
        other.epoch_key(1, 1)
    assert other.epoch(1)[0] == 2


def test_c4_a_clock_that_is_set_back_does_not_keep_a_destroyed_epoch_open(tmp_path: Path) -> None:
    clock = FakeClock()
    mine = opened(store_in(tmp_path / "store"))
    mine.ensure([1], ())
    other = opened(store_in(tmp_path / "store"), clock)
    mine.turn_to("purpose-1")
    mine.destroy("purpose-1", 1)
    other.refresh()
    assert other.epoch_key(1, 1)
    clock.advance(micros=-DAY)
    other.refresh()
    with pytest.raises(Unavailable):
        other.epoch_key(1, 1)


def test_a_writer_of_rights_keeps_its_epoch_beside_other_writers_and_leaves_it_when_a_rotation_closes_it(
    tmp_path: Path,
) -> None:
    whole = opened(store_in(tmp_path / "store"))
    whole.ensure([1], ())
    LocalKeyService(ROOT).hand_out(tmp_path / "folder", frozenset(("purpose-1",)), frozenset(("rights",)))
    writers = [opened(KeyStore(tmp_path / "store", LocalKeyService.from_folder(tmp_path / "folder"))) for _ in range(2)]
    own = [writer.epoch(RIGHTS)[0] for writer in writers]
    assert len(set(own)) == 2
    for writer in writers:
        writer.refresh()
    assert [writer.epoch(RIGHTS)[0] for writer in writers] == own
    turned = whole.turn_to("rights")
    for writer in writers:
        writer.refresh()
    assert min(writer.epoch(RIGHTS)[0] for writer in writers) > turned


def test_the_history_says_no_earlier_date_than_it_said_before(tmp_path: Path) -> None:
    store_in(tmp_path / "store")
    history = History(tmp_path / "store")
    history.add_backup(Backup(UUID(int=1), 10, 50 * DAY))
    first = Destroyed("purpose-1", 1, left_at=5, destroyed_at=20, copies_until=last_copy(history.backups(), 20))
    history.add_destroyed(first)
    history.add_destroyed(Destroyed("purpose-1", 1, left_at=1, destroyed_at=20, service_days=7, copies_until=3))
    (found,) = History(tmp_path / "store").destroyed()
    assert (found.left_at, found.copies_until, found.service_days) == (5, 50 * DAY, 7)
    assert found.unreadable_after == 50 * DAY
    (tmp_path / "store" / "history.json").write_bytes(b"{")
    with pytest.raises(Unreadable):
        history.destroyed()


def test_d4_a_tag_made_anew_is_the_tag_that_all_versions_make() -> None:
    first, second, third = (bytes([n]) * 32 for n in (1, 2, 3))
    before = tag(first, "identity/1", b"email", b"ada")
    assert Tagger(first, "identity/1", b"email").tag(b"ada") == before
    assert Tagger(first, "identity/1", b"email", later=(second, third)).tag(b"ada") == retag(
        third, retag(second, before)
    )
    assert len({before, retag(second, before), retag(third, retag(second, before))}) == 3
