"""Every drop code that the vault counts has a meaning and a remedy, and what a policy would keep names the line."""

import re
from pathlib import Path

import pytest

from vault.sources.dropped import Drop
from vault.sources.remedies import CODES, remedy

ROOT = Path(__file__).resolve().parents[3]


def _codes_in_code() -> set[str]:
    """The codes that reading, deciding and placing a message can end with, as their modules write them."""
    decode = (ROOT / "vault/events/decode.py").read_text()
    decide = (ROOT / "vault/flows/ingest/decide.py").read_text()
    graph = (ROOT / "vault/identity/graph.py").read_text()
    one_by_one = decode[decode.index("def _messages") :]  # before it, a body is refused whole
    found = set(re.findall(r'(?:Invalid\(code=|, )"([a-z_]{6,})"\)', one_by_one))
    found |= set(re.findall(r'Rejected\(index, "([a-z_]+)"', decode))
    found |= set(re.findall(r'return "([a-z_]{6,})"', one_by_one))
    found |= set(re.findall(r'(?:Drop\("\w+", .*, |self\._drop\(item, |else |return )"([a-z_]+)"', decide))
    for path in ("vault/flows/ingest/account.py", "vault/profile/sealing.py"):
        found |= set(re.findall(r'TooLarge\(.*code="([a-z_]+)"\)', (ROOT / path).read_text()))
    found |= set(re.findall(r'Nobody\("([a-z_]+)"\)', graph))
    return (found | {"integrity", "duplicate"}) - {"erasing"}


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    assert _codes_in_code() == set(CODES)
    assert all(code.meaning and code.remedy for code in CODES.values())


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        (Drop("track", "Cart Lost", "unlisted"), '[track."Cart Lost"]` in policies/events.toml'),
        (Drop("page", "Home", "unlisted"), '[page."*"]` in policies/events.toml'),
        (Drop("group", "group", "unlisted"), '[group."*"]` in policies/events.toml'),
        (Drop("page", "(unfit name)", "unlisted"), '[page."*"]` in policies/events.toml'),
        (Drop("property", "utm", "unlisted"), "`utm = { … }` under"),
        (
            Drop("property:track:Cart Viewed", "utm", "unlisted"),
            '`[track."Cart Viewed".properties]` in policies/events',
        ),
        (Drop("property:track:(sensitive name)", "(sensitive name)", "unlisted"), "properties of its event"),
        (Drop("property:page:*", "(unfit name)", "unlisted"), "no policy can list it"),
        (Drop("trait", "shoe_size", "unlisted"), "`[shoe_size]` in policies/traits.toml"),
        (Drop("trait", "shoe.size", "unlisted"), "no policy can list it"),
        (Drop("trait", "(unfit name)", "unlisted"), "no policy can list it"),
        (Drop("track", "(unfit name)", "unlisted"), "no policy can list it"),
        (Drop("track", "Order Completed", "no_choice"), "the person had not agreed"),
        (Drop("event", "(unreadable)", "no_event"), "correct the message"),
        (Drop("track", "x", "of another release"), ""),
    ],
)
def test_the_remedy_names_what_would_keep_it(drop: Drop, says: str) -> None:
    assert says in remedy(drop)
    assert bool(remedy(drop)) == bool(says)
