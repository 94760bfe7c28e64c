"""The whole finite space of the shipped policy: the table that runs equals Casbin on every cell, and is this one."""

from typing import Any

import casbin
import pytest
from casbin.model import Model

from tests.policy.folder import FOLDER, edited, shipped, shop
from vault.catalogue.load import Catalogue, load
from vault.policy.actors import Right
from vault.policy.gate import Gate, terms_of
from vault.policy.staff import StaffGate
from vault.policy.transforms import vocabulary

# What each destination gets, and nothing else: destination, object, purpose, form.
TABLE = {
    ("warehouse", "trait:lifetime_value", "analytics", "reveal"),
    ("warehouse", "trait:order_count", "analytics", "reveal"),
    ("warehouse", "trait:first_order_at", "analytics", "reveal"),
    ("warehouse", "trait:last_order_at", "analytics", "reveal"),
    ("email-tool", "trait:email", "marketing", "reveal"),
    ("email-tool", "trait:firstName", "marketing", "reveal"),
    ("email-tool", "identifier:email", "marketing", "reveal"),
    ("ad-platform", "trait:email", "advertising", "sha256:google"),
    ("ad-platform", "identifier:email", "advertising", "sha256:google"),
    ("ad-platform", "audience:best_customers", "advertising", "reveal"),
    ("support-desk", "trait:email", "support", "reveal"),
    ("support-desk", "trait:firstName", "support", "reveal"),
    ("support-desk", "trait:lastName", "support", "reveal"),
    ("support-desk", "trait:name", "support", "reveal"),
    ("support-desk", "trait:phone", "support", "mask"),
    ("support-desk", "trait:language", "support", "reveal"),
    ("support-desk", "identifier:user_id", "support", "reveal"),
    ("support-desk", "identifier:email", "support", "reveal"),
    ("support-desk", "identifier:phone", "support", "mask"),
    ("support-desk", "identifier:order_id", "support", "reveal"),
    ("support-desk", "identifier:group_id", "support", "reveal"),
    ("support-desk", "account:name", "support", "reveal"),
    ("support-desk", "account:plan", "support", "reveal"),
    ("support-desk", "event:track:Order Completed", "support", "reveal"),
    ("support-desk", "event:track:Order Updated", "support", "reveal"),
    ("support-desk", "event:track:Order Refunded", "support", "reveal"),
    ("support-desk", "event:track:Order Cancelled", "support", "reveal"),
    ("support-desk", "event:track:Signed Up", "support", "reveal"),
    ("support-desk", "event:track:Signed In", "support", "reveal"),
    ("support-desk", "event:track:Support Requested", "support", "reveal"),
    ("support-desk", "event:group:*", "support", "reveal"),
}

STAFF = {
    "officer": {
        Right.SUBJECT_FIND, Right.REQUEST_OPEN, Right.REQUEST_READ, Right.ARCHIVE_READ, Right.CERTIFICATE_READ,
        Right.CONSENTS_READ, Right.DISCLOSURES_READ, Right.AUDIT_READ, Right.POLICY_READ,
    },
    "support": {Right.SUBJECT_FIND, Right.PROFILE_READ, Right.CONSENTS_READ},
    "marketer": {Right.POLICY_READ},
    "operator": {Right.DROPPED_READ, Right.POLICY_READ, Right.KEYS_READ},
    "auditor": {Right.AUDIT_READ, Right.POLICY_READ, Right.KEYS_READ, Right.CERTIFICATE_READ},
}  # fmt: skip


def cells(gate: Gate, catalogue: Catalogue) -> set[tuple[str, str, str, str]]:
    """The gate's answers over every destination, object and purpose that exists, in names."""
    found = set()
    for contract in catalogue.contracts.values():
        for name, number in catalogue.rule_objects.items():
            for purpose in catalogue.purposes.values():
                form = gate.transform_for(contract.number, number, purpose.number)
                if form is not None:
                    found.add((contract.name, name, purpose.name, form))
    return found


def fresh(files: dict[str, str]) -> Any:
    """An enforcer that Casbin itself makes from the folder's own files: it shares no code with the gate."""
    model = Model()
    model.load_model_from_text(files["gate/model.conf"])
    return casbin.Enforcer(model, casbin.persist.adapters.StringAdapter(files["gate/rules.csv"]))


def demanded(catalogue: Catalogue, enforcer: Any) -> set[tuple[str, str, str, str]]:
    """What must come out: of the forms that the contract accepts, in its order, the first that Casbin allows."""
    found: set[tuple[str, str, str, str]] = set()
    for contract in catalogue.contracts.values():
        terms = terms_of(catalogue, contract)
        for name, number in catalogue.rule_objects.items():
            for purpose in catalogue.purposes.values():
                tagged = contract.purposes & catalogue.collected[number] & purpose.mask
                forms = terms.get(number, ()) if tagged else ()
                allowed = [form for form in forms if enforces(enforcer, contract.name, name, purpose.name, form)]
                found.update((contract.name, name, purpose.name, form) for form in allowed[:1])
    return found


def enforces(enforcer: Any, destination: str, name: str, purpose: str, form: str) -> bool:
    """Casbin's own word."""
    return bool(enforcer.enforce(f"d:{destination}", name, name.split(":", 1)[0] + ":*", purpose, form))


def test_nothing_is_given_but_what_this_table_says() -> None:
    assert cells(Gate.compile(shop()), shop()) == TABLE


def test_the_table_equals_casbin_over_the_whole_space() -> None:
    catalogue = shop()
    gate, enforcer = Gate.compile(catalogue), fresh(shipped())
    table = cells(gate, catalogue)
    allowed = set()
    for contract in catalogue.contracts.values():
        for name in catalogue.rule_objects:
            for purpose in catalogue.purposes:
                for form in vocabulary(catalogue):
                    cell = (contract.name, name, purpose, form)
                    says = enforces(enforcer, *cell)
                    assert gate._reads(*cell) == says, cell
                    if says:
                        allowed.add(cell)
    assert table <= allowed  # nothing that Casbin does not allow
    assert table == demanded(catalogue, enforcer)  # and all of it that contract and tags let through


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("g, d:email-tool, r:outside", "g, d:email-tool, r:outside\np, r:outside, trait:email, *, *, deny"),
        ("p, d:warehouse, identifier:*, *, *, deny", "p, d:warehouse, trait:*, *, *, deny"),
        (
            "p, d:support-desk, event:*, support, reveal, allow",
            "p, d:support-desk, event:track:Signed In, support, reveal, allow",
        ),
        ("p, d:ad-platform, trait:email, *, mask, deny", "p, d:ad-platform, trait:email, advertising, *, deny"),
        ("p, d:support-desk, identifier:phone, *, reveal, deny", "p, d:support-desk, identifier:*, support, *, deny"),
        (
            "p, d:warehouse, trait:order_count, analytics, reveal, allow",
            "p, r:counts, trait:order_count, analytics, reveal, allow\ng, d:warehouse, r:counts",
        ),
    ],
)
def test_the_table_equals_casbin_after_a_change_too(old: str, new: str) -> None:
    files = edited("gate/rules.csv", old, new)
    catalogue = load(files)
    assert cells(Gate.compile(catalogue), catalogue) == demanded(catalogue, fresh(files))


def test_what_is_listed_is_what_is_answered() -> None:
    catalogue = shop()
    gate = Gate.compile(catalogue)
    names = {number: name for name, number in catalogue.rule_objects.items()}
    listed = {
        (contract.name, names[number], purpose.name, form)
        for contract in catalogue.contracts.values()
        for purpose in catalogue.purposes.values()
        for number, form in gate.objects(contract.number, purpose.number)
    }
    assert listed == TABLE


def test_an_explanation_agrees_with_the_answer_everywhere() -> None:
    catalogue = shop()
    gate = Gate.compile(catalogue)
    for contract in catalogue.contracts.values():
        for number in catalogue.objects:
            for purpose in catalogue.purpose_by_number:
                said = gate.explain(contract.number, number, purpose)
                assert said.transform == gate.transform_for(contract.number, number, purpose)
                assert (said.verdict == "given") == (said.transform is not None)
                assert said.remedy


def test_staff_may_do_what_this_table_says_and_nothing_else() -> None:
    gate = StaffGate.compile(shop())
    assert {role: {right for right in Right if gate.allows(role, right)} for role in shop().roles} == STAFF


def test_an_unknown_role_may_do_nothing() -> None:
    gate = StaffGate.compile(shop())
    for role in ("", "Officer", "r:officer", "root", "officer "):
        assert not any(gate.allows(role, right) for right in Right)


def test_the_shipped_model_is_the_only_text_in_the_folder_that_casbin_reads() -> None:
    assert {path.name for path in FOLDER.glob("*/*.conf")} == {"model.conf"}
