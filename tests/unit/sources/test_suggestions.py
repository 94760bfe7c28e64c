"""Suggested lines: pasted at the end of their file they check; their numbers were never given; nothing is widened."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.folder import shipped, shop
from vault.events.message import fit_name
from vault.policy import history, version
from vault.sources.dropped import Drop
from vault.sources.suggestions import Suggester, Suggestion

TYPES = st.sampled_from(
    ["track", "page", "screen", "group", "identify", "alias", "event", "trait", "property", "property:page:*",
     "property:track:Order Completed", "property:track:Gone", "property:track:(sensitive name)"]
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(
        ["email", "name", "Order Completed", "order_id", "lifetime_value", "(more names)", "properties", "a.b"]
    ),
    st.text(max_size=90).map(fit_name),
)
DROPS = st.lists(st.builds(Drop, TYPES, NAMES, st.sampled_from(["unlisted", "unlisted", "no_choice"])), max_size=12)


def suggester(*purposes: str, earlier: list[dict[str, str]] | None = None) -> Suggester:
    return Suggester(shop(), history.given([shipped(), *(earlier or [])]), purposes)


def pasted(found: list[Suggestion]) -> dict[str, str]:
    files = shipped()
    for one in found:
        files[one.file] += "\n" + one.text
    return files


@settings(max_examples=25)
@given(DROPS, st.sets(st.sampled_from(sorted(shop().purposes)), max_size=3))
def test_whatever_was_dropped_the_lines_check_when_pasted(drops: list[Drop], purposes: set[str]) -> None:
    asked = suggester(*purposes)
    found = list(dict.fromkeys(one for drop in drops if (one := asked.suggest(drop)) is not None))
    catalogue = version.check(pasted(found)).catalogue
    again = Suggester(catalogue, {}, purposes)
    assert [drop for drop in drops if again.suggest(drop) is not None] == []  # all that lines can keep is kept now


@pytest.mark.parametrize(
    ("drop", "lines"),
    [
        (Drop("track", "Cart Lost", "unlisted"), ('[track."Cart Lost"]', "number = 29", 'purposes = ["analytics"]')),
        (
            Drop("property:track:Cart Viewed", "coupon", "unlisted"),
            ('[track."Cart Viewed".properties.coupon]', "number = 3", 'type = "text"',
             'category = "user.behavior.purchase_history"', 'purposes = ["analytics"]'),
        ),
        (
            Drop("trait", "company", "unlisted"),
            ("[company]", "number = 13", 'type = "object"', 'category = "user.contact.organization"', 'purposes = ["analytics"]'),
        ),
    ],
)  # fmt: skip
def test_a_suggestion_names_one_purpose_and_what_is_known_of_the_name(drop: Drop, lines: tuple[str, ...]) -> None:
    found = suggester().suggest(drop)
    assert found is not None
    assert found.lines == lines


def test_a_type_that_nobody_knows_is_said_to_be_a_guess() -> None:
    """A wrong one would keep nothing: counters hold no value to guess it from."""
    asked = suggester()
    for drop in (Drop("property:track:Cart Viewed", "team_size", "unlisted"), Drop("trait", "team_size", "unlisted")):
        found = asked.suggest(drop)
        assert found is not None
        assert found.lines[2].startswith(
            'type = "text"  # a guess: write the type that the app sends, one of text, number'
        )


def test_purposes_that_are_asked_for_are_taken_as_far_as_the_event_has_them() -> None:
    asked = suggester("service", "advertising")
    event = asked.suggest(Drop("track", "Cart Lost", "unlisted"))
    inside = asked.suggest(Drop("property:track:Cart Viewed", "note", "unlisted"))
    assert event is not None
    assert inside is not None
    assert event.lines[-1] == 'purposes = ["service", "advertising"]'
    assert inside.lines[-1] == 'purposes = ["service"]'


def test_a_number_of_an_earlier_version_is_not_free() -> None:
    older = shipped()
    older["events.toml"] += '\n[track."Once"]\nnumber = 40\npurposes = ["service"]\n'
    older["events.toml"] += '[track."Cart Viewed".properties.once]\nnumber = 7\ntype = "text"\ncategory = "user"\n'
    asked = suggester(earlier=[older])
    event = asked.suggest(Drop("track", "Cart Lost", "unlisted"))
    inside = asked.suggest(Drop("property:track:Cart Viewed", "note", "unlisted"))
    assert event is not None
    assert inside is not None
    assert (event.lines[1], inside.lines[1]) == ("number = 41", "number = 8")


def test_what_is_suggested_together_has_numbers_of_its_own_and_checks_together() -> None:
    asked = suggester()
    drops = [Drop("track", "Cart Lost", "unlisted"), Drop("track", "Cart Found", "unlisted")]
    drops += [Drop("property:track:Cart Viewed", name, "unlisted") for name in ("one", "two")]
    drops += [Drop("trait", name, "unlisted") for name in ("shoe", "hat")]
    found = [one for drop in drops if (one := asked.suggest(drop)) is not None]
    assert len(found) == len(drops)
    version.check(pasted(found))
    assert [asked.suggest(drop) for drop in drops] == found  # asked again, the same lines


def test_page_calls_of_any_name_are_one_suggestion() -> None:
    files = {**shipped(), "events.toml": shipped()["events.toml"].split('[page."*"]', maxsplit=1)[0]}
    files["destinations.toml"] = files["destinations.toml"].replace("timeline = true\n", "")
    files["destinations.toml"] = files["destinations.toml"].partition("[support-desk.accounts]")[0]
    catalogue = version.check({**files, "gate/rules.csv": _without_events(files["gate/rules.csv"])}).catalogue
    asked = Suggester(catalogue, history.given([files]))
    first, second = (asked.suggest(Drop("page", name, "unlisted")) for name in ("Home", "Cart"))
    assert first is not None
    assert first == second
    assert first.lines[0] == '[page."*"]'


def _without_events(rules: str) -> str:
    return "\n".join(
        line
        for line in rules.splitlines()
        if not any(what in line for what in ("support-desk, event:", "support-desk, account:"))
    )


@pytest.mark.parametrize(
    "drop",
    [
        Drop("track", "(unfit name)", "unlisted"),
        Drop("track", "Order Completed", "unlisted"),
        Drop("trait", "lifetime_value", "unlisted"),
        Drop("trait", "shoe.size", "unlisted"),
        Drop("property", "utm", "unlisted"),
        Drop("property:track:Gone", "utm", "unlisted"),
        Drop("track", "Cart Lost", "no_choice"),
        Drop("identify", "identify", "unlisted"),
    ],
)
def test_where_no_line_would_keep_it_none_is_suggested(drop: Drop) -> None:
    assert suggester().suggest(drop) is None
