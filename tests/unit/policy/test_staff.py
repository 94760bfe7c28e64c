"""Staff rules are read as strictly as the gate's."""

import pytest

from tests.policy.folder import edited, extended, shipped
from vault.catalogue.load import load
from vault.errors import PolicyError
from vault.policy.actors import Actor, Right
from vault.policy.staff import StaffGate
from vault.policy.version import check


def refused(files: dict[str, str]) -> tuple[str, ...]:
    catalogue = load(files)
    with pytest.raises(PolicyError) as raised:
        StaffGate.compile(catalogue)
    return raised.value.problems


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("p, r:officer, officer:subject:find", "no rule for staff"),
        ("p, r:officer, officer:subject:find, Allow", "no effect"),
        ("p, officer, officer:subject:find, allow", "no role"),
        ("p, r:chief, officer:subject:find, allow", "no role"),
        ("p, r:officer, officer:*, allow", "no right"),
        ("p, r:officer, officer:subject:finds, deny", "did you mean `officer:subject:find`"),
        ("g, r:officer, r:support", "no rule for staff"),
        ("p, r:officer, officer:subject:find, deny", "or the contrary"),
        ("p, r:marketer, , allow", "empty cell"),
    ],
)
def test_a_line_not_fully_understood_is_refused(line: str, says: str) -> None:
    assert says in refused(extended("staff/rules.csv", line))[0]


def test_e1_no_rules_means_no_rights() -> None:
    gate = StaffGate.compile(load(shipped() | {"staff/rules.csv": ""}))
    assert not any(gate.allows(role, right) for role in ("officer", "support", "", "r:officer") for right in Right)


def test_a_right_can_ask_for_a_second_person() -> None:
    files = edited("staff.toml", "[officer]\n", '[officer]\nsecond_person = ["officer:archive:read"]\n')
    gate = StaffGate.compile(load(files))
    assert gate.needs_second_person("officer", Right.ARCHIVE_READ)
    assert not gate.needs_second_person("officer", Right.SUBJECT_FIND)
    assert (
        "names no right" in refused(edited("staff.toml", "[officer]\n", '[officer]\nsecond_person = ["archive"]\n'))[0]
    )


def test_rights_are_written_audience_resource_act() -> None:
    assert all(len(right.value.split(":")) == 3 for right in Right)


def test_an_actor_is_named_by_kind_and_id() -> None:
    assert Actor("destination", "warehouse").label == "destination:warehouse"


def test_problems_of_both_gates_are_told_together() -> None:
    files = extended("staff/rules.csv", "x")
    files["gate/rules.csv"] += "y\n"
    with pytest.raises(PolicyError) as raised:
        check(files)
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["gate/rules.csv", "staff/rules.csv"]
