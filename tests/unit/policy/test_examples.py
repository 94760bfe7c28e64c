"""Examples of a policy: they fail when the policy does what they forbid, and are refused when they cannot be understood."""

import pytest

from tests.policy.folder import edited, extended, shipped
from vault.errors import PolicyError
from vault.policy.version import check, run_tests


def faults(files: dict[str, str]) -> dict[str, str]:
    return {result.claim: result.fault for result in run_tests(check(files)) if result.fault is not None}


def test_all_shipped_examples_hold_and_there_are_enough() -> None:
    assert faults(shipped()) == {}
    assert len(run_tests(check(shipped()))) >= 12


LOOSER = [
    ("destinations.toml", 'email = ["sha256"]', 'email = ["pseudonym"]', "ad-platform gets the e-mail trait hashed"),
    (
        "gate/rules.csv",
        "trait:phone, support, mask, allow",
        "trait:phone, support, year, deny",
        "support-desk sees the phone number masked",
    ),
    (
        "gate/rules.csv",
        "p, d:support-desk, event:*, support, reveal, allow\n",
        "",
        "support-desk sees the timeline of orders",
    ),
    (
        "events.toml",
        '"user.behavior.purchase_history", purposes = ["service", "support", "analytics"] }',
        '"user.behavior.purchase_history" }',
        "accounting has no use for quantities",
    ),
    (
        "staff/rules.csv",
        "p, r:marketer, operator:policy:read, allow",
        "p, r:marketer, officer:subject:find, allow",
        "a marketer finds no person",
    ),
]


@pytest.mark.parametrize(("path", "old", "new", "claim"), LOOSER, ids=[case[3] for case in LOOSER])
def test_a_changed_policy_breaks_the_example_that_guards_it(path: str, old: str, new: str, claim: str) -> None:
    files = edited(path, old, new)
    if path == "destinations.toml":
        files["gate/rules.csv"] = files["gate/rules.csv"].replace(
            "trait:email, advertising, sha256:google", "trait:email, advertising, pseudonym"
        )
    assert claim in faults(files)


def test_a_category_is_guarded_in_every_form_and_purpose() -> None:
    files = edited("gate/rules.csv", "p, d:ad-platform, trait:email, *, reveal, deny\n", "")
    files["destinations.toml"] = files["destinations.toml"].replace('email = ["sha256"]', 'email = ["reveal"]')
    files["gate/rules.csv"] = files["gate/rules.csv"].replace(
        "trait:email, advertising, sha256:google", "trait:email, advertising, reveal"
    )
    assert faults(files)["ad-platform never gets user.contact.email in clear"] == "`email` is given as reveal"


def test_a_category_covers_its_children_and_the_events_of_a_timeline() -> None:
    wide = '["support-desk sees nothing of behaviour"]\ndestination = "support-desk"\ncategory = "user.behavior"\nnever = "*"\n'
    assert "order_id" in faults(extended("tests/destinations.toml", wide))["support-desk sees nothing of behaviour"]
    similar = '["no child"]\ndestination = "support-desk"\ncategory = "user.behavio"\nnever = "*"\n'
    with pytest.raises(PolicyError, match="no field has"):
        faults(extended("tests/destinations.toml", similar))


BAD = [
    ('destination = "ads"\nobject = "trait:email"\npurpose = "advertising"\ngives = "nothing"', "is `ads`"),
    ("", "claims nothing"),
    ('gives = "reveal"', "`destination` is missing"),
    ('destination = "ad-platform"\nobject = "trait:email"\npurpose = "advertising"\ngives = "clear"', "is `clear`"),
    ('destination = "ad-platform"\nobject = "email"\npurpose = "advertising"\ngives = "reveal"', "is `email`"),
    ('destination = "ads"\ncategory = "user.contact.email"\nnever = "*"', "is `ads`"),
    ('destination = "warehouse"\ncategory = "user.contact.email"\nnever = ["clear"]', "no transform"),
    ('object = "trait:email"\ncollected_for = ["sales"]', "is not known"),
    (
        'object = "event:track:Order Completed"\nproperty = "colour"\ncollected_for = ["service"]',
        "not one of the object",
    ),
    ('role = "chief"\nright = "officer:subject:find"\nallowed = true', "is `chief`"),
    ('role = "officer"\nright = "officer:subject:find"', "true or false"),
    ('role = "officer"\nright = "officer:subject:find"\nallowed = true\nwhy = "x"', "not known here"),
]


@pytest.mark.parametrize(("body", "says"), BAD)
def test_an_example_that_cannot_be_understood_is_no_pass(body: str, says: str) -> None:
    with pytest.raises(PolicyError) as raised:
        faults(extended("tests/fields.toml", f'["a claim"]\n{body}\n'))
    assert any(says in problem for problem in raised.value.problems), raised.value.problems


def test_without_destinations_every_claim_about_one_is_refused() -> None:
    files = shipped() | {"destinations.toml": "", "gate/rules.csv": ""}
    with pytest.raises(PolicyError) as raised:
        faults(files)
    assert len([problem for problem in raised.value.problems if "`destination` is" in problem]) >= 12
