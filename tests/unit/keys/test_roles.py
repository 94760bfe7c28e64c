"""What a process may hold: the table of docs/reference/keys.md, and the roles that would undo it."""

import re
from pathlib import Path

import pytest

from vault.catalogue.numbers import RIGHTS
from vault.cli.roles import role_of
from vault.errors import ConfigError
from vault.keys import names
from vault.keys.roles import DESK, DOORS, DUTIES, EVERYTHING, RELEASING, REQUESTS, ProcessRole

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "keys.md"
KNOWN = {"service": 0, "marketing": 6, "analytics": 4}


def role(part: str) -> ProcessRole:
    purposes = ("marketing",) if part in RELEASING else ()
    return ProcessRole((part,), (), purposes) if part in DOORS else ProcessRole((), (part,), purposes)


@pytest.mark.parametrize("part", [*DOORS, *DUTIES])
def test_the_desk_alone_opens_rights_and_what_releases_has_no_key_of_another_purpose(part: str) -> None:
    found = role(part)
    found.check()
    opened, sealed = found.locks(found.numbers(KNOWN))
    assert (names.epochs(RIGHTS) in opened) == (part in {DESK, REQUESTS})
    assert not opened & sealed
    if part in RELEASING:
        assert {lock for lock in opened if lock.startswith("purpose-")} == {"purpose-6"}
        assert not {"dedup", "tombstone", "reference", "case", "archive"} & opened
        assert not [lock for lock in opened if lock.startswith("signing-")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"doors": "ingest,feed", "purposes": "marketing"}, "cannot also write"),
        ({"doors": "desk,feed", "purposes": "marketing"}, "cannot also write"),
        ({"duties": "due,webhooks", "purposes": "marketing"}, "cannot also write"),
        ({"doors": "ingest,feed,desk", "purposes": "marketing"}, "cannot also write"),
        ({"doors": "feed"}, "names its"),
        ({"duties": "webhooks"}, "names its"),
        ({"doors": "ingest", "purposes": "marketing"}, "for what releases"),
        ({"purposes": "marketing"}, "goes with"),
        ({"doors": "front"}, "known are"),
        ({"doors": "console"}, "no pages yet"),
        ({"duties": "sleep"}, "known are"),
    ],
)
def test_a_role_that_would_undo_the_separation_or_is_none_does_not_start(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        role_of(**options)
    assert said in str(refused.value)


def test_doors_bring_the_loops_that_need_their_keys_and_everything_is_one_process() -> None:
    ingest, desk = role_of("ingest"), role_of("desk")
    assert ingest is not None
    assert desk is not None
    assert (ingest.duties, desk.duties) == (("due",), ("requests",))
    assert role_of("ingest,feed,desk") == EVERYTHING
    assert role_of() is None
    everything = EVERYTHING.names(KNOWN.values())
    for name in names.needed(KNOWN.values(), ["email"]):
        assert any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in everything), name


def test_an_unknown_purpose_is_named_with_those_that_there_are() -> None:
    found = role_of("feed", "marketting")
    assert found is not None
    with pytest.raises(ConfigError, match="marketing"):
        found.numbers(KNOWN)


def test_the_table_in_the_docs_says_what_each_role_gets() -> None:
    rows = re.findall(
        r"^\| `(ingest|feed|desk|changes|audit|webhooks|requests|due)` \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) == len(DOORS) + len(DUTIES)
    for part, cells in rows:
        opened, sealed = role(part).locks(role(part).numbers(KNOWN))
        opens, seals = cells.split("|")[:2]
        told = set(re.findall(r"`([a-z-]+|purpose-N)`", opens))
        plain = {re.sub(r"^purpose-\d+$", "purpose-N", lock) for lock in opened}
        assert told == plain, part
        assert set(re.findall(r"`([a-z-]+)`", seals)) == sealed, part
