"""Claims about a line and what finds its values: one line whatever came, the newest of several, a memory with a limit."""

import json
from typing import Any, cast

from vault.disclosures.record import parse_detail
from vault.flows.release import plan as plans
from vault.flows.release.line import Shown, detail_of, upsert
from vault.flows.release.plan import Item, Plan, PurposePlan
from vault.policy.permit import _issue
from vault.profile.values import Form

MARKETING, SUPPORT = 6, 1


def item(number: int, name: str) -> Item:
    return Item(number, name, json.dumps(name).encode() + b":", lambda raw: raw, reveals=True, transform=0x100)


NAME, ADDRESS, KIND = item(2, "first%Name"), item(6, "address"), item(0x4002, 'e"mail')


def purpose(number: int, name: str, *items: Item) -> PurposePlan:
    permit = _issue(
        actor="test", purpose=number, objects=frozenset(one.number for one in items), policy=1, reason="test"
    )
    traits = {one.number: one for one in items}
    text = json.dumps(name).encode()
    transforms = {one.number: 0x100 for one in (*items, KIND)}
    return PurposePlan(number, name, 1, permit, traits, {KIND.number: KIND}, (), {}, text, transforms)


def shown(plan: PurposePlan, values: dict[int, bytes], addresses: list[bytes] | None = None) -> Shown:
    objects = (*values, KIND.number) if addresses else tuple(values)
    identifiers = [(KIND, addresses)] if addresses else []
    items = tuple(plan.traits[number] for number in values)
    return Shown(plan, items, list(values.values()), identifiers, [], plan.shape(objects), {})


def plan_of(*purposes: PurposePlan) -> Plan:
    return cast("Plan", type("Stand", (), {"purposes": purposes, "accounts": False}))


def test_a_value_with_line_feeds_between_its_members_stays_one_line_and_the_same_value() -> None:
    """A source may send its JSON indented; a line feed within a text is escaped, and stays."""
    marketing = purpose(MARKETING, "marketing", NAME, ADDRESS)
    came = b'{\r\n  "street": "Main\\nStreet 1",\n  "city": "X"\n}'
    line = upsert(plan_of(marketing), "abc", [shown(marketing, {2: b'"Ada"', 6: came}, [b'"a@b.example"'])], 9)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert b"\r" not in line
    read: dict[str, Any] = json.loads(line)
    assert read["traits"] == {"first%Name": "Ada", "address": {"street": "Main\nStreet 1", "city": "X"}}
    assert read["identifiers"] == {'e"mail': ["a@b.example"]}
    assert (read["op"], read["id"], read["version"], read["purposes"]) == ("upsert", "abc", 9, ["marketing"])
    assert "allowed" not in read


def test_a_line_for_several_purposes_names_each_value_once_and_says_what_it_may_be_used_for() -> None:
    marketing, support = purpose(MARKETING, "marketing", NAME), purpose(SUPPORT, "support", NAME, ADDRESS)
    line = upsert(
        plan_of(support, marketing),
        "abc",
        [shown(support, {2: b'"Ada"', 6: b"{}"}), shown(marketing, {2: b'"Ada"'})],
        1,
    )
    assert line.count(b'"first%Name":') == 1
    read = json.loads(line)
    assert read["traits"] == {"first%Name": "Ada", "address": {}}
    assert read["purposes"] == ["support", "marketing"]
    assert {name: one["traits"] for name, one in read["allowed"].items()} == {
        "support": ["address", "first%Name"],
        "marketing": ["first%Name"],
    }


def test_the_record_says_what_the_line_shows() -> None:
    support, marketing = purpose(SUPPORT, "support", NAME, ADDRESS), purpose(MARKETING, "marketing", NAME)
    found = parse_detail(detail_of([shown(support, {6: b"{}", 2: b"1"}), shown(marketing, {2: b"1"})], 7))
    assert [(one.purpose, one.basis, one.ledger, one.items) for one in found] == [
        (SUPPORT, 1, 7, ((2, 0x100), (6, 0x100))),
        (MARKETING, 1, 7, ((2, 0x100),)),
    ]


def test_only_a_field_that_several_compartments_hold_is_looked_for_twice() -> None:
    marketing = purpose(MARKETING, "marketing", NAME, ADDRESS)
    apart = marketing.layout(2, (Form((2, 3)), Form((4, 6, 0x8001))))
    assert (apart.spots, apart.clash) == (((0, 0, 2), (1, 1, 6)), False)
    both = marketing.layout(2, (Form((2, 3)), Form((2, 6))))
    assert (both.spots, both.clash, both.shape) == (((0, 0, 2), (1, 0, 2), (1, 1, 6)), True, None)


def test_values_stand_in_the_order_of_the_plan_in_whatever_compartment_they_were_found() -> None:
    marketing = purpose(MARKETING, "marketing", ADDRESS, NAME)
    found = marketing.layout(2, (Form((2, 3)), Form((4, 6))))
    assert found.items == (ADDRESS, NAME)
    assert list(found.pick([b"name", b"address"])) == [b"address", b"name"]
    assert found.shape == marketing.shape((6, 2))
    assert marketing.layout(1, (Form((3,)),)).shape is None


def test_people_with_strange_sets_of_fields_do_not_fill_the_memory() -> None:
    marketing = purpose(MARKETING, "marketing", NAME, ADDRESS)
    for number in range(plans.MAX_KNOWN * 2 + 5):
        marketing.layout(1, (Form((2, number + 10)),))
    assert len(marketing.layouts) <= plans.MAX_KNOWN
