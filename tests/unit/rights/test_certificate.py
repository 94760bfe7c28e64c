"""Claims about certificates: verifiable offline, chained, about one person only for whoever holds the salt."""

import copy
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vault.clock import DAY, Micros
from vault.crypto.signing import Signer
from vault.errors import Unreadable
from vault.flows.residue.verdict import INDEX, Report, judge
from vault.rights import certificate
from vault.rights.certificate import Answer, Facts, Kept, Scan, Store

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "certificate.json").read_text())
SIGNER = Signer("certificate", bytes(range(32)))
NOW = Micros(1_780_000_000_000_000)
SALT = b"s" * 32
REPORT = Report(
    how=INDEX,
    at="2026-05-28T20:26:40.000Z",
    looked_for={
        "known_from": "case file",
        "subjects": 2,
        "tags": 3,
        "compartments": 4,
        "event_keys": 14,
        "pseudonyms": 1,
    },
    looked_at={"tables": 30, "columns": 40},
    found=(judge("public.erased.subject_id", 2, waiting=True), judge("public.change.subject_id", 1, waiting=True)),
    not_looked_at=(("rows that no index leads to, and files", "`erasures scan` reads them"),),
)


def facts(**changes: Any) -> Facts:
    """One erasure of two subjects, with one recipient of each kind."""
    given: dict[str, Any] = {
        "request_id": UUID("0192f0c0-0000-7000-8000-000000000001"),
        "revision": 1,
        "issued_at": NOW,
        "received_at": Micros(NOW - DAY),
        "destroyed_at": Micros(NOW - 1000),
        "entry_id": UUID("0192f0c0-0000-7000-8000-000000000002"),
        "previous": None,
        "persons": (certificate.person_digest(SALT, "email", b"ada@example.com"),),
        "members": 2,
        "stores": (Store("keys", 2), Store("events", 14)),
        "answers": (
            Answer(
                "email-tool", "Example Mailings SAS", "FR", Micros(NOW + DAY), True, Micros(NOW - 500), Micros(NOW - 1)
            ),
            Answer("ad-platform", "Example Ads Inc.", "US", Micros(NOW + DAY)),
            Answer("warehouse", "Example Shop GmbH", "DE", Micros(NOW - DAY)),
        ),
        "kept": (
            Kept(
                "accounting", "legal_obligation", "17-3-b", ("Order Completed: order_id",), 2, Micros(NOW + 3650 * DAY)
            ),
        ),
        "tombstones": 3,
        "late_until": Micros(NOW + DAY),
        "rollback_protection": "none",
        "scan": Scan("by index: nothing left", REPORT.shown()),
    }
    return Facts(**{**given, **changes})


def test_the_vector_is_what_we_write_and_it_verifies() -> None:
    document = certificate.document_of(facts())
    stored = certificate.sign(SIGNER, document)
    assert json.loads(stored) == {"document": VECTOR["document"], "signature": VECTOR["signature"]}
    assert SIGNER.public.hex() == VECTOR["public"]
    certificate.verify(VECTOR["document"], VECTOR["signature"], bytes.fromhex(VECTOR["public"]))
    about = VECTOR["person"]
    assert certificate.names(
        VECTOR["document"], bytes.fromhex(about["salt"]), about["kind"], about["normal_form"].encode()
    ) == "about"  # fmt: skip


def test_whatever_is_changed_the_signature_no_longer_holds() -> None:
    signed = certificate.parse(certificate.sign(SIGNER, certificate.document_of(facts())))
    for key in signed.document:
        changed = copy.deepcopy(signed.document)
        changed[key] = "another"
        with pytest.raises(Unreadable):
            certificate.verify(changed, signed.signature, SIGNER.public)
    with pytest.raises(Unreadable):
        certificate.verify(signed.document, signed.signature, Signer("certificate", bytes(32)).public)


def test_a_document_of_another_kind_is_no_certificate_though_the_key_signed_it() -> None:
    other = {"format": "profile-vault/receipt/1"}
    with pytest.raises(Unreadable):
        certificate.verify(other, SIGNER.sign_document(other), SIGNER.public)


def test_what_is_open_is_never_called_done() -> None:
    document = certificate.document_of(facts())
    assert [one["destination"] for one in document["stated"]] == ["email-tool"]
    assert [(one["destination"], one["overdue"]) for one in document["due"]] == [
        ("ad-platform", False), ("warehouse", True),
    ]  # fmt: skip
    assert {one["scan"] for one in document["stores"]} == {"by index: nothing left"}
    assert document["backups"]["unreadable_after"] is None


def test_a_later_revision_names_the_one_before() -> None:
    first = certificate.document_of(facts())
    second = certificate.document_of(facts(revision=2, previous=certificate.digest_of(first)))
    chain = [certificate.parse(certificate.sign(SIGNER, one)) for one in (first, second)]
    certificate.verify_chain(chain, SIGNER.public)
    alone = certificate.parse(certificate.sign(SIGNER, certificate.document_of(facts(revision=2))))
    other = certificate.document_of(facts(revision=2, request_id=UUID(int=1), previous=certificate.digest_of(first)))
    for broken in (
        chain[::-1],
        [chain[1]],
        [chain[0], alone],
        [chain[0], certificate.parse(certificate.sign(SIGNER, other))],
    ):
        with pytest.raises(Unreadable):
            certificate.verify_chain(broken, SIGNER.public)


def test_a_scan_of_everything_is_a_revision_that_says_the_same_and_what_was_found() -> None:
    first = certificate.document_of(facts())
    entry = UUID(int=9)
    second = certificate.rescanned(first, Micros(NOW + DAY), entry, REPORT.shown(), NOW)
    assert second["backups"]["unreadable_after"] == first["issued_at"]  # an epoch has ended since
    assert second["whole_scan"] == REPORT.shown()
    assert second["issued_at"] != first["issued_at"]
    same = {"revision", "previous", "issued_at", "audit_entry", "whole_scan", "backups"}
    assert {k: v for k, v in second.items() if k not in same} == {k: v for k, v in first.items() if k not in same}
    chain = [certificate.parse(certificate.sign(SIGNER, one)) for one in (first, second)]
    certificate.verify_chain(chain, SIGNER.public)


def test_the_person_is_told_by_the_salt_only() -> None:
    document = certificate.document_of(facts())
    assert certificate.names(document, SALT, "email", b"ada@example.com") == "about"
    for salt, kind, normal in (
        (b"x" * 32, "email", b"ada@example.com"),
        (SALT, "user_id", b"ada@example.com"),
        (SALT, "email", b"bob@example.com"),
    ):
        assert certificate.names(document, salt, kind, normal) == "not_about"
    assert certificate.names({}, SALT, "email", b"ada@example.com") == "not_about"
    assert "ada@" not in json.dumps(document)


@pytest.mark.parametrize("stored", [b"", b"[]", b"\xff", b'{"document":{}}', b'{"document":{},"signature":{},"x":1}'])
def test_other_bytes_are_no_certificate(stored: bytes) -> None:
    with pytest.raises(Unreadable):
        certificate.parse(stored)
