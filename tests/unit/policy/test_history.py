"""What no later version may change: numbers, legal bases, normal forms, definitions, shown texts."""

import pytest

from tests.policy.folder import edited, extended, line_of, shipped
from vault.catalogue.toml import Problems
from vault.policy.history import compare


def told(new: dict[str, str], *earlier: dict[str, str]) -> list[str]:
    problems = Problems()
    compare(new, earlier, problems)
    return problems.lines


CHANGES = [
    ("purposes.toml", "number = 7", "number = 8", "had the number 7"),
    ("purposes.toml", "[support]", "[helpdesk]", "that `support` had"),
    ("purposes.toml", 'legal_basis = "legitimate_interests"', 'legal_basis = "public_task"', "another legal basis"),
    ("traits.toml", "[username]", "[handle]", "that `username` had"),
    ("traits.toml", "number = 12", "number = 13", "had the number 12"),
    (
        "events.toml",
        '[track."Order Completed"]\nnumber = 1\n',
        '[track."Order Completed"]\nnumber = 99\n',
        "had the number 1",
    ),
    ("events.toml", "quantity = { number = 4", "quantity = { number = 40", "had the number 4"),
    ("events.toml", "affiliation = {", "branch = {", "that `affiliation` had"),
    ("events.toml", "industry = {", "sector = {", "that `industry` had"),
    ("identities.toml", "number = 5", "number = 6", "had the number 5"),
    ("identities.toml", 'normal_form = "email"', 'normal_form = "exact"', "another normal form"),
    ("computed.toml", "number = 5", "number = 6", "had the number 5"),
    ("computed.toml", 'property = "revenue"', 'property = "total"', "same version"),
    ("audiences.toml", "[best_customers]", "[good_customers]", "that `best_customers` had"),
    ("destinations.toml", "number = 4", "number = 5", "had the number 4"),
]


def test_the_number_of_an_account_trait_is_not_given_again_by_another_group_call() -> None:
    """Account traits of all group calls are numbered together: stored entries name them by number alone."""
    call = '\n[group."Team"]\nnumber = 90\npurposes = ["service"]\n[group."Team".properties]\n'
    column = '= {{ number = {}, type = "text", category = "user.account" }}\n'
    without = edited("events.toml", "industry = { number = 2", "sector = { number = 9")
    again = without | {"events.toml": without["events.toml"] + call + "colour " + column.format(2)}
    assert told(again, without) == []
    assert "that `industry` had" in told(again, without, shipped())[0]
    moved = extended("events.toml", call + "plan " + column.format(7))
    assert any("had the number 4" in one for one in told(moved, shipped()))


@pytest.mark.parametrize(("path", "old", "new", "says"), CHANGES)
def test_what_stored_bytes_rest_on_cannot_change(path: str, old: str, new: str, says: str) -> None:
    files = edited(path, old, new)
    found = [problem for problem in told(files, shipped()) if says in problem]
    assert found, told(files, shipped())
    assert found[0].startswith(f"{path}:")
    assert told(files) == []  # as a first version it would be fine


def test_the_line_of_the_change_is_named() -> None:
    files = edited("purposes.toml", "number = 7", "number = 8")
    assert told(files, shipped())[0].startswith(f"purposes.toml:{line_of(files, 'purposes.toml', 'number = 8')}: ")


def test_the_same_files_change_nothing() -> None:
    assert told(shipped(), shipped(), shipped()) == []


def test_a_number_is_not_given_again_even_after_its_owner_left() -> None:
    without = edited("traits.toml", "[loyaltyTier]\nnumber = 12", "[loyaltyTierOld]\nnumber = 14")
    again = edited("traits.toml", "[loyaltyTier]", "[shoeSize]")
    assert told(again, without) == []
    assert "that `loyaltyTier` had" in told(again, without, shipped())[0]


def test_titles_purposes_and_new_things_may_change() -> None:
    files = edited("purposes.toml", "Answering the customer's questions", "Help")
    files["traits.toml"] = files["traits.toml"].replace(', "marketing", "advertising"]', "]")
    files["traits.toml"] += (
        '\n[shoeSize]\nnumber = 13\ntype = "number"\ncategory = "user.behavior"\npurposes = ["service"]\n'
    )
    assert told(files, shipped()) == []


def test_a_new_definition_asks_for_a_higher_version() -> None:
    files = shipped()
    files["computed.toml"] = (
        files["computed.toml"]
        .replace('property = "revenue"', 'property = "total"', 1)
        .replace("version = 1", "version = 2", 1)
    )
    assert told(files, shipped()) == []
    assert "went back" in told(shipped(), files)[0]


def test_a_notice_that_was_shown_stays_as_it_was() -> None:
    changed = edited("notices/marketing/1.en.md", "News", "Fresh news")
    assert told(changed, shipped()) == [
        "notices/marketing/1.en.md:1: the notice has changed; put the text back and add the next version beside it"
    ]
    gone = shipped()
    del gone["notices/marketing/1.en.md"]
    assert "the notice is gone" in told(gone, shipped())[0]
    assert told(extended("traits.toml", "") | {"notices/marketing/2.en.md": "New.\n"}, shipped()) == []


def test_what_cannot_be_read_is_left_to_the_other_checks() -> None:
    broken = shipped() | {"traits.toml": "[", "computed.toml": "[x]\nnumber = 'one'\n"}
    assert told(broken, shipped()) == []
    assert told(shipped(), broken) == []
