"""The keyring: a process holds what it was opened for, asks once for what is new, and shows nothing."""

import logging
import traceback
from collections.abc import Callable, Iterable
from uuid import UUID

import pytest

from vault.catalogue.numbers import RIGHTS
from vault.clock import Micros
from vault.crypto.signing import verify
from vault.errors import Unavailable
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore

REQUEST = UUID(int=7)
Opened = Callable[[Iterable[str]], Keyring]


class Ticking:
    """A clock that moves a second with each look."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Micros:
        self.at += 1_000_000
        return Micros(self.at)


def test_a_first_start_makes_every_key_that_the_vault_needs(keyring: Keyring, keystore: KeyStore) -> None:
    assert set(keystore.names()) == {
        "rights",
        "purpose-0",
        "purpose-1",
        "purpose-2",
        "purpose-5",
        "purpose-62",
        "index-user_id",
        "index-email",
        "state",
        "dedup",
        "event",
        "tombstone",
        "pseudonym",
        "cursor",
        "reference",
        "journal",
        "salt",
        "request",
        "rows",
        "signing-audit",
        "signing-certificate",
        "signing-receipt",
    }
    held = [keyring.key(name) for name in keystore.names()]
    assert len(set(held)) == len(held)
    assert keyring.ensure([0, 1], ["email"]) == []
    assert keyring.ensure([0, 3], ["phone"]) == ["purpose-3", "index-phone"]
    assert keyring.holds(3)


def test_epochs_are_the_versions_of_a_purposes_key(keyring: Keyring) -> None:
    epoch, key = keyring.epoch(0)
    assert (epoch, key) == (1, keyring.epoch_key(0, 1)) == (1, keyring.key("purpose-0"))
    assert keyring.make("purpose-0") == 2
    assert keyring.epoch(0) == (2, keyring.epoch_key(0, 2))
    assert keyring.epoch_key(0, 1) == key
    assert keyring.newest_version("purpose-0") == 2
    assert keyring.epoch(RIGHTS) == (1, keyring.key("rights"))


def test_a_process_holds_the_names_it_was_opened_for_and_no_others(opened: Opened) -> None:
    release = opened(["purpose-1", "state", "webhook-*"])
    assert release.holds(1)
    assert len(release.key("state")) == 32
    assert release.make("webhook-crm") == 1
    assert not release.holds(0)
    assert not release.holds(RIGHTS)
    for attempt in (
        lambda: release.epoch(0),
        lambda: release.epoch_key(RIGHTS, 1),
        lambda: release.key("tombstone"),
        lambda: release.key("state2"),
        lambda: release.signer("audit"),
        lambda: release.make("purpose-0"),
        lambda: release.destroy("rights"),
        lambda: release.key(names.case(REQUEST)),
    ):
        with pytest.raises(Unavailable):
            attempt()


def test_a_keyring_that_was_not_opened_holds_nothing(keystore: KeyStore, keyring: Keyring) -> None:
    with pytest.raises(Unavailable):
        Keyring(keystore).key("state")


def test_reopening_for_less_drops_the_rest(keyring: Keyring) -> None:
    keyring.signer("audit")
    keyring.open(["purpose-0"])
    assert keyring.holds(0)
    assert not keyring.holds(1)
    for attempt in (lambda: keyring.key("state"), lambda: keyring.signer("audit"), lambda: keyring.epoch_key(1, 1)):
        with pytest.raises(Unavailable):
            attempt()


def test_an_epoch_that_another_process_began_is_found(keyring: Keyring, opened: Opened) -> None:
    other = opened(["*"])
    keyring.make("purpose-0")
    keyring.make("webhook-crm")
    assert other.epoch_key(0, 2) == keyring.epoch_key(0, 2)
    assert other.epoch(0)[0] == 2
    assert other.key("webhook-crm") == keyring.key("webhook-crm")


def test_a_webhook_secret_that_another_process_replaced_is_used_at_once(keyring: Keyring, opened: Opened) -> None:
    other = opened(["webhook-*"])
    keyring.make("webhook-crm")
    before = other.renewed("webhook-crm")
    keyring.destroy("webhook-crm")
    with pytest.raises(Unavailable):
        other.renewed("webhook-crm")
    keyring.make("webhook-crm")
    assert other.renewed("webhook-crm") == keyring.key("webhook-crm") != before


def test_a_purpose_that_another_process_added_is_found(keyring: Keyring, opened: Opened) -> None:
    other = opened(["*"])
    keyring.ensure([9], [])
    assert not other.holds(9)
    assert other.epoch(9) == keyring.epoch(9)
    assert other.holds(9)


def test_a_process_that_may_not_hold_a_new_key_makes_it_without_keeping_it(keyring: Keyring, opened: Opened) -> None:
    other = opened(["state"])
    assert other.ensure([9], []) == ["purpose-9"]
    assert not other.holds(9)
    assert keyring.epoch(9)[0] == 1


def test_a14_an_epoch_that_nobody_made_is_unavailable(keyring: Keyring) -> None:
    for purpose, epoch in ((0, 2), (0, 0), (7, 1)):
        with pytest.raises(Unavailable):
            keyring.epoch_key(purpose, epoch)


def test_a_destroyed_epoch_is_gone_and_its_number_is_not_given_again(keyring: Keyring) -> None:
    keyring.make("purpose-0")
    keyring.destroy("purpose-0", 2)
    with pytest.raises(Unavailable):
        keyring.epoch_key(0, 2)
    assert keyring.epoch(0)[0] == 1
    assert keyring.make("purpose-0") == 3


def test_d3_a_key_of_one_request_destroyed_anywhere_is_gone_everywhere_at_once(
    keyring: Keyring, opened: Opened
) -> None:
    other = opened(["*"])
    name = names.case(REQUEST)
    assert keyring.make(name) == 1
    assert other.key(name) == keyring.key(name)
    keyring.destroy(name)
    for ring in (keyring, other, opened(["*"])):
        with pytest.raises(Unavailable):
            ring.key(name)


def test_each_use_has_a_signer_of_its_own(keyring: Keyring) -> None:
    signers = [keyring.signer(use) for use in names.SIGNING_USES]
    assert len({signer.public for signer in signers}) == len(signers)
    assert keyring.signer("audit") is signers[0]
    verify(signers[0].public, b"x", signers[0].sign(b"x"))


def test_public_keys_are_listed_with_the_times_in_which_they_signed(keystore: KeyStore) -> None:
    ring = Keyring(keystore, clock=Ticking())
    ring.open()
    ring.ensure([], [])
    old = ring.signer("audit").key_id
    ring.make(names.signing("audit"))
    new = ring.signer("audit").key_id
    listed = [entry for entry in ring.public_keys() if entry["use"] == "audit"]
    assert [entry["key_id"] for entry in listed] == [old, new]
    assert listed[0]["valid_until"] == listed[1]["valid_from"] == "1970-01-01T00:00:02.000Z"
    assert "valid_until" not in listed[1]
    assert {entry["use"] for entry in ring.public_keys()} == set(names.SIGNING_USES)
    assert all(entry["algorithm"] == "Ed25519" and len(entry["public"]) == 64 for entry in listed)


def test_protection_says_where_the_key_store_lies(keystore: KeyStore) -> None:
    assert Keyring(keystore).protection == "none"
    assert Keyring(keystore, beside_database=False).protection == "separate"


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("purpose-0", 0),
        ("purpose-62", 62),
        ("rights", RIGHTS),
        ("purpose-63", None),
        ("purpose-01", None),
        ("purpose-", None),
        ("purpose-x", None),
        ("state", None),
        ("purpose-²", None),
    ],
)
def test_only_exact_names_are_epoch_keys(name: str, purpose: int | None) -> None:
    assert names.purpose_of(name) == purpose


def test_no_key_shows_in_a_repr_a_log_or_a_traceback(keyring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().warning("%r %r", keyring, keyring.signer("audit"))
    try:
        keyring.key_version("state", 9)
    except Unavailable as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    key = keyring.key("state")
    for form in (key.hex(), repr(key)[2:-1]):
        assert form not in caplog.text
        assert form not in told
