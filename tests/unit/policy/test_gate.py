"""What the gate answers, why, and which permits it makes."""

from uuid import UUID

import pytest

from tests.policy.folder import edited, extended, shop
from vault.catalogue.load import load
from vault.catalogue.numbers import RIGHTS
from vault.errors import PolicyError, Withheld
from vault.policy.gate import Gate
from vault.policy.oracle import Oracle

EMAIL, PHONE, ORDERS, BEST = 1, 5, 0xC002, 0xE001
WAREHOUSE, EMAIL_TOOL, AD_PLATFORM, SUPPORT_DESK = 1, 2, 3, 4
SERVICE, SUPPORT, ANALYTICS, MARKETING, ADS = 0, 1, 4, 6, 7
REQUEST = UUID("01980000-0000-7000-8000-000000000001")


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate.compile(shop(), policy=3)


def test_the_first_acceptable_form_that_a_rule_allows_is_used() -> None:
    files = edited("destinations.toml", 'email = ["sha256"]', 'email = ["reveal", "sha256:meta", "sha256"]')
    assert Gate.compile(load(files)).transform_for(AD_PLATFORM, EMAIL, ADS) == "sha256:google"
    files["gate/rules.csv"] += "p, d:ad-platform, trait:email, advertising, sha256:meta, allow\n"
    assert Gate.compile(load(files)).transform_for(AD_PLATFORM, EMAIL, ADS) == "sha256:meta"


def test_a_counted_form_is_another_form_than_its_neighbour() -> None:
    files = edited("destinations.toml", 'order_count = ["reveal"]', 'order_count = ["round:2"]')
    files["destinations.toml"] = files["destinations.toml"].replace(
        'first_order_at = ["reveal"]', 'first_order_at = ["round:3"]'
    )
    files["gate/rules.csv"] = (
        files["gate/rules.csv"]
        .replace("order_count, analytics, reveal", "order_count, analytics, round:2")
        .replace("p, d:warehouse, trait:first_order_at, analytics, reveal, allow\n", "")
    )
    compiled = Gate.compile(load(files))
    assert compiled.transform_for(WAREHOUSE, ORDERS, ANALYTICS) == "round:2"
    assert compiled.transform_for(WAREHOUSE, 0xC003, ANALYTICS) is None


def test_a_field_is_not_given_for_a_purpose_it_is_not_collected_for() -> None:
    files = edited("destinations.toml", 'purposes = ["advertising"]', 'purposes = ["advertising", "analytics"]')
    files["gate/rules.csv"] += "p, d:ad-platform, identifier:email, *, *, deny\n"
    compiled = Gate.compile(load(files))
    assert compiled.transform_for(AD_PLATFORM, EMAIL, ANALYTICS) is None
    assert compiled.explain(AD_PLATFORM, EMAIL, ANALYTICS).verdict == "not_collected"


def test_unknown_numbers_are_given_nothing(gate: Gate) -> None:
    assert gate.transform_for(99, EMAIL, ADS) is None
    assert gate.transform_for(AD_PLATFORM, 0x3FFF, ADS) is None
    assert gate.transform_for(AD_PLATFORM, EMAIL, 40) is None
    assert gate.transform_for(AD_PLATFORM, EMAIL, RIGHTS) is None
    assert gate.objects(99, ADS) == ()
    assert gate.explain(99, EMAIL, ADS).verdict == "unknown"
    assert gate.explain(AD_PLATFORM, 0x3FFF, ADS).verdict == "unknown"
    assert gate.explain(AD_PLATFORM, EMAIL, 40).verdict == "unknown"


def test_an_explanation_names_the_lines_and_the_smallest_change(gate: Gate) -> None:
    given = gate.explain(SUPPORT_DESK, PHONE, SUPPORT)
    assert (given.verdict, given.transform) == ("given", "mask")
    (place,) = given.rules
    line = shop().files["gate/rules.csv"].splitlines()[int(place.split(":")[1]) - 1]
    assert line == "p, d:support-desk, trait:phone, support, mask, allow"
    assert gate.explain(WAREHOUSE, EMAIL, ANALYTICS).verdict == "not_in_contract"
    assert "destinations.toml" in gate.explain(WAREHOUSE, EMAIL, ANALYTICS).remedy


def test_taking_the_advice_flips_the_answer() -> None:
    line = "p, d:email-tool, trait:firstName, marketing, reveal, allow\n"
    missing = edited("gate/rules.csv", line, "")
    said = Gate.compile(load(missing)).explain(EMAIL_TOOL, 2, MARKETING)
    assert said.verdict == "no_rule"
    advice = said.remedy.removeprefix("add to gate/rules.csv: ")
    missing["gate/rules.csv"] += advice + "\n"
    assert Gate.compile(load(missing)).transform_for(EMAIL_TOOL, 2, MARKETING) == "reveal"

    denied = extended("gate/rules.csv", "p, d:email-tool, trait:firstName, *, *, deny")
    said = Gate.compile(load(denied)).explain(EMAIL_TOOL, 2, MARKETING)
    assert (said.verdict, len(said.rules)) == ("denied", 1)
    lines = denied["gate/rules.csv"].split("\n")
    del lines[int(said.rules[0].split(":")[1]) - 1]
    denied["gate/rules.csv"] = "\n".join(lines)
    assert Gate.compile(load(denied)).transform_for(EMAIL_TOOL, 2, MARKETING) == "reveal"


def test_nothing_compiles_if_casbin_reads_a_rule_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Oracle, "gives", lambda *_: True)
    Gate.compile(shop())  # the contract asks for nothing that is denied: every cell is a yes for both
    monkeypatch.setattr(Oracle, "gives", lambda *_: False)
    with pytest.raises(PolicyError, match="differently"):
        Gate.compile(shop())


def test_e10_a_new_version_is_a_new_gate_and_the_old_answers_as_before(gate: Gate) -> None:
    closed = Gate.compile(load(extended("gate/rules.csv", "p, d:ad-platform, trait:email, *, *, deny")), policy=4)
    assert gate.transform_for(AD_PLATFORM, EMAIL, ADS) == "sha256:google"
    assert closed.transform_for(AD_PLATFORM, EMAIL, ADS) is None
    assert (gate.policy, closed.policy) == (3, 4)


def test_a_release_reaches_the_objects_of_the_table_and_no_other(gate: Gate) -> None:
    permit = gate.release(AD_PLATFORM, ADS)
    assert permit.objects == frozenset({EMAIL, 0x4002, BEST})
    assert permit.objects == {number for number, _ in gate.objects(AD_PLATFORM, ADS)}
    assert (permit.purpose, permit.policy, permit.actor) == (ADS, 3, "destination:ad-platform")
    assert permit.permit_id != gate.release(AD_PLATFORM, ADS).permit_id


@pytest.mark.parametrize(
    ("destination", "purpose"), [(AD_PLATFORM, MARKETING), (AD_PLATFORM, RIGHTS), (99, ADS), (WAREHOUSE, 99)]
)
def test_without_a_row_there_is_no_permit(gate: Gate, destination: int, purpose: int) -> None:
    with pytest.raises(Withheld):
        gate.release(destination, purpose)


def test_only_computation_and_the_rights_desk_reach_everything(gate: Gate) -> None:
    assert gate.compute(ANALYTICS).objects is None
    rights = gate.rights("staff:0198", REQUEST)
    assert (rights.objects, rights.purpose, rights.reason) == (None, RIGHTS, f"request:{REQUEST}")
    with pytest.raises(Withheld):
        gate.compute(RIGHTS)
    with pytest.raises(Withheld):
        gate.compute(40)
    with pytest.raises(Withheld):
        gate.rights("", REQUEST)


def test_staff_reach_named_objects_for_the_purposes_of_their_role(gate: Gate) -> None:
    assert gate.staff("staff:0198", "support", SUPPORT, {EMAIL, PHONE}).objects == frozenset({EMAIL, PHONE})


@pytest.mark.parametrize(
    ("actor", "role", "purpose", "objects"),
    [
        ("staff:1", "marketer", MARKETING, {EMAIL}),  # sees no person
        ("staff:1", "support", MARKETING, {EMAIL}),  # not for this purpose
        ("staff:1", "support", SUPPORT, {EMAIL, 10}),  # birthday is not collected for support
        ("staff:1", "support", SUPPORT, set()),
        ("staff:1", "nobody", SUPPORT, {EMAIL}),
        ("", "support", SUPPORT, {EMAIL}),
        ("staff:1", "support", RIGHTS, {EMAIL}),
    ],
)
def test_staff_reach_nothing_else(gate: Gate, actor: str, role: str, purpose: int, objects: set[int]) -> None:
    with pytest.raises(Withheld):
        gate.staff(actor, role, purpose, objects)


def test_its_face_is_its_version(gate: Gate) -> None:
    assert repr(gate) == "Gate(policy=3)"
