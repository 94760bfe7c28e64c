"""Companies and households: what a group call leaves, who may see it, and that it goes with the people who said it."""

import asyncio
import io
import json
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.flows.conftest import ROOT
from tests.flows.rights_world import officer
from tests.worlds import Message, World, identify, message, order, say
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.catalogue.numbers import ACCOUNTS, account_object, identifier_object
from vault.clock import DAY, Micros, isoformat
from vault.config import Settings
from vault.disclosures.record import parse_detail
from vault.errors import Conflict, Invalid, NotFound
from vault.events.decode import MAX_GROUP_ID
from vault.flows.accounts import links, traits
from vault.flows.find import find
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import fetch_archive, open_request
from vault.flows.people.change import change_profiles
from vault.profile.accounts import Entries, read_accounts

DESK = "support-desk"


def group(account: str, user: str | None = None, **fields: Any) -> Message:
    """A group call; what is no part of a message is a trait."""
    own = {name: fields.pop(name) for name in ("agree", "id", "at", "anon", "context") if name in fields}
    return message("group", user, groupId=account, traits=fields, **own)


async def seen(world: World, account: str, destination: str = DESK, **more: Any) -> dict[str, Any]:
    """The traits of an account, as a destination sees them."""
    answer = await traits.traits(world.vault, destination, "group_id", account, **more)
    return {name: json.loads(bytes(value)) for name, value in answer["traits"].items()}


async def nothing(world: World, account: str, destination: str = DESK) -> bool:
    """True if the destination sees neither the account nor its members."""
    for door in (traits.traits, links.members):
        try:
            await door(world.vault, destination, "group_id", account)
        except NotFound:
            continue
        return False
    return True


async def members(world: World, account: str, **more: Any) -> list[dict[str, list[str]]]:
    """The ids of each member by type."""
    answer = await links.members(world.vault, DESK, "group_id", account, **more)
    return [_by_type(one) for one in answer["data"]]


async def accounts(world: World, user: str, **more: Any) -> list[str]:
    answer = await links.accounts_of_person(world.vault, DESK, "user_id", user, **more)
    return sorted(value for one in answer["data"] for value in _by_type(one)["group_id"])


def _by_type(link: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in link["external_ids"]:
        found.setdefault(one["type"], []).append(one["id"])
    return found


async def stored(world: World, user: str, kind: str = "user_id") -> list[tuple[int, Entries]]:
    """What a person's compartments hold of accounts, by the purposes of each."""
    draft = await world.draft(user, kind)
    found = []
    for place, _ in draft.copies(ACCOUNTS):
        value = draft.read(place, ACCOUNTS)
        assert value is not None
        found.append((place.wrapped.purposes, read_accounts(value)))
    return found


# --- what a group call leaves -------------------------------------------------------------------------------------------


async def test_a_group_call_leaves_its_traits_and_the_membership_and_no_raw_body(world: World) -> None:
    outcome = await world.send(group("acme", "u-1", name="Acme Ltd", plan="gold", employees=12))
    assert (outcome.stored, outcome.dropped) == (1, [])
    assert await world.count("event") == 0
    assert await seen(world, "acme") == {"name": "Acme Ltd", "plan": "gold"}  # employees are in no contract
    ((subject, source, at),) = await world.rows("SELECT subject_id, source_id, at FROM membership")
    assert subject == await world.subject("u-1")
    assert (source, at) == (world.sources["shop"].source_id, world.now())


async def test_nothing_of_an_account_stands_in_the_database(world: World) -> None:
    """Promise 1: neither its id nor a trait; its tag is keyed, and is not that by which a person would be found."""
    await world.send(group("acme-canary", "u-1", name="Canary Ltd"))
    for schema, table in await world.rows(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'keys')"
    ):
        for (row,) in await world.rows(f"SELECT t::text FROM {schema}.{table} t"):  # noqa: S608 - names of the catalogue
            text = row.lower()
            for canary in ("acme-canary", "canary ltd"):
                if table != "policy_version":
                    assert canary not in text, table
                    assert canary.encode().hex() not in text, table
    assert await world.rows("SELECT 1 FROM membership JOIN identity USING (tag)") == []


async def test_each_trait_is_sealed_for_its_own_purposes_only(world: World) -> None:
    """Promise 2: the tag of a trait is the call's purposes, the catalogue's for the trait, and the person's choice."""
    await world.send(group("acme", "u-1", name="Acme", plan="gold"))
    service_support = world.vault.catalogue.mask(["service", "support"])
    assert {mask for mask, _ in await stored(world, "u-1")} == {service_support}
    with pytest.raises(NotFound):
        await traits.traits(world.vault, "email-tool", "group_id", "acme")  # marketing
    with pytest.raises(NotFound):
        await traits.traits(world.vault, "warehouse", "group_id", "acme")


async def test_a_person_has_several_accounts_and_an_account_several_people(world: World) -> None:
    await world.send(
        group("acme", "u-1", name="Acme"), group("acme", "u-2", plan="gold"), group("home", "u-1", name="The Adas")
    )
    assert await accounts(world, "u-1") == ["acme", "home"]
    assert await accounts(world, "u-2") == ["acme"]
    assert sorted(one["user_id"] for one in await members(world, "acme")) == [["u-1"], ["u-2"]]
    assert await seen(world, "acme") == {"name": "Acme", "plan": "gold"}
    assert await seen(world, "home") == {"name": "The Adas"}


async def test_the_newest_word_of_any_member_counts(world: World, clock: FakeClock) -> None:
    early, late = (isoformat(Micros(clock.now() - age * DAY)) for age in (9, 1))
    await world.send(
        group("acme", "u-1", plan="gold", name="Acme", at=late), group("acme", "u-2", plan="free", at=early)
    )
    assert await seen(world, "acme") == {"plan": "gold", "name": "Acme"}
    await world.send(group("acme", "u-2", plan="silver"))
    assert (await seen(world, "acme"))["plan"] == "silver"


async def test_an_explicit_null_deletes_for_the_whole_account(world: World, clock: FakeClock) -> None:
    await world.send(group("acme", "u-1", plan="gold", name="Acme"), group("acme", "u-2", plan="gold"))
    clock.advance(60)
    await world.send(group("acme", "u-2", plan=None))
    assert await seen(world, "acme") == {"name": "Acme"}
    ((_, entries),) = await stored(world, "u-2")
    assert [bytes(told.value) for entry in entries.values() for told in entry.traits.values()] == [b"null"]


async def test_what_is_repeated_out_of_order_or_at_once_comes_to_the_same(world: World, clock: FakeClock) -> None:
    """Threats G10, B8: duplicates, two calls of one person, many members at the same moment."""
    first = group("acme", "u-1", plan="gold", at=isoformat(Micros(clock.now() - DAY)))
    await asyncio.gather(
        *(world.send(group("acme", f"u-{n}", name=f"Name {n % 3}")) for n in range(2, 8)),
        world.send(group("acme", "u-1", plan="silver"), first, first),
        world.send(first),
    )
    assert await world.count("membership") == 7
    assert len(await members(world, "acme")) == 7
    assert (await seen(world, "acme"))["plan"] == "silver"


# --- what is not kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "code"),
    [("", "no_group_id"), ("x" * (MAX_GROUP_ID + 1), "group_id_too_long"), ("null", "unfit_group_id"), ("  ", "unfit_group_id"),
     ("0000-0000", "unfit_group_id"), ("a\u200bb", "unfit_group_id")],
)  # fmt: skip
async def test_what_names_no_account_is_dropped_with_its_code(world: World, account: str, code: str) -> None:
    """Threats B4, B9."""
    outcome = await world.send(group(account, "u-1", name="Acme"))
    assert [one.code for one in outcome.dropped] == [code]
    assert await world.count("membership") == 0


async def test_the_longest_group_id_and_three_hundred_traits_are_taken_and_one_more_is_not(world: World) -> None:
    longest = "x" * MAX_GROUP_ID
    many = {f"t{n}": n for n in range(299)}
    outcome = await world.send(group(longest, "u-1", plan="gold", **many), group("acme", "u-1", a=1, b=2, **many))
    assert [one.code for one in outcome.dropped] == ["too_many_fields"]
    assert await seen(world, longest) == {"plan": "gold"}


async def test_traits_that_are_not_listed_or_of_another_type_are_counted_by_name(world: World) -> None:
    await world.send(group("acme", "u-1", name="Acme", revenue=5, employees="many"))
    assert await world.dropped() == {
        ("property:group:*", "revenue", "unlisted"): 1,
        ("property:group:*", "employees", "wrong_type"): 1,
    }


async def test_a_person_belongs_to_only_so_many_accounts(world: World, clock: FakeClock) -> None:
    kind = world.vault.catalogue.account_kind
    assert kind is not None
    await world.send(*(group(f"a-{n}", "u-1", plan="free") for n in range(kind.limit)))
    clock.advance(60)
    outcome = await world.send(group("one-more", "u-1", plan="gold"), group("a-0", "u-1", plan="gold"), order("u-1"))
    assert [one.code for one in outcome.dropped] == ["too_many_accounts"]
    assert outcome.stored == 2
    assert len(await accounts(world, "u-1", limit=20)) == 20
    assert await nothing(world, "one-more")
    assert (await seen(world, "a-0"))["plan"] == "gold"


async def test_what_would_be_over_the_size_of_a_value_is_dropped_and_loses_nothing(world: World) -> None:
    await world.send(*(group(f"a-{n}", "u-1", name="n" * 30_000) for n in range(2)))
    outcome = await world.send(group("a-2", "u-1", name="n" * 30_000), order("u-1"))
    assert [(one.code) for one in outcome.dropped] == ["value_too_large"]
    assert await accounts(world, "u-1") == ["a-0", "a-1"]


async def test_without_any_purpose_nothing_is_stored(world: World, clock: FakeClock) -> None:
    actor = officer(world.vault)
    await world.send(group("acme", "u-1", name="Acme"), identify("u-1", email="ada@example.com"))
    ref = await find(world.vault, actor, "email", "ada@example.com")
    await advance(world.vault, await open_request(world.vault, actor, ref, "erasure"))
    outcome = await world.send(group("acme", "u-1", name="Acme", at=isoformat(Micros(clock.now() - 1))))
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await world.count("membership") == 0


# --- what a browser says ------------------------------------------------------------------------------------------------


async def test_b1_a_browser_makes_nobody_a_member_and_changes_no_account(world: World, clock: FakeClock) -> None:
    await world.send(group("acme", "u-1", name="Acme", plan="gold"))
    clock.advance(60)
    await world.send(
        group("acme", "u-1", anon="evil", name="Evil", plan="free"),
        group("acme", anon="evil", name="Evil"),
        source="app",
    )
    assert await seen(world, "acme") == {"name": "Acme", "plan": "gold"}
    assert [one["user_id"] for one in await members(world, "acme")] == [["u-1"]]
    ((_, entries),) = await stored(world, "evil", "anonymous_id")
    assert [entry.confirmed for entry in entries.values()] == [False]
    assert await world.count("membership") == 1


async def test_a_server_confirms_the_membership_that_a_browser_claimed(world: World, clock: FakeClock) -> None:
    await world.send(group("acme", anon="d-1", name="Acme", plan="free"), source="app")
    assert await nothing(world, "acme")
    clock.advance(60)
    await world.send(group("acme", anon="d-1", plan="gold"))
    assert await seen(world, "acme") == {"name": "Acme", "plan": "gold"}


async def test_a_row_that_was_forged_shows_nothing(world: World) -> None:
    """Threat A8: a membership row only finds; a sealed value must say that the person belongs."""
    await world.send(group("acme", anon="d-1", name="Acme"), source="app")  # a claim
    await world.send(group("other", "u-1", name="Other"))
    (other,) = await world.rows("SELECT * FROM membership")
    device = await world.subject("d-1", "anonymous_id")
    tag = next(iter((await stored(world, "d-1", "anonymous_id"))[0][1]))
    for subject in (device, await world.subject("u-1")):
        await world.rows(
            "INSERT INTO membership VALUES ($1, $2, $3, 1, 1)", subject, bytes.fromhex(tag), other["event_key"]
        )
    assert await nothing(world, "acme")


# --- what is permitted --------------------------------------------------------------------------------------------------


async def test_an_account_shows_what_its_members_permit_each_for_herself(world: World, clock: FakeClock) -> None:
    """Promise 4: a restricted member's words are shown by nobody; the older word of another member is."""
    await world.send(group("acme", "u-1", plan="gold"))
    clock.advance(60)
    await world.send(group("acme", "u-2", plan="silver"))
    assert (await seen(world, "acme"))["plan"] == "silver"
    subject = await world.subject("u-2")
    assert subject is not None
    await change_profiles(world.vault, [subject], lambda one: one.root.alter(restricted=True), "staff:test")
    assert (await seen(world, "acme"))["plan"] == "gold"
    assert [one["user_id"] for one in await members(world, "acme")] == [["u-1"]]


async def test_what_a_lookup_showed_is_on_record_for_the_member_whose_word_it_was(
    world: World, clock: FakeClock
) -> None:
    """Promise 7."""
    await world.send(group("acme", "u-1", plan="gold"))
    clock.advance(60)
    await world.send(group("acme", "u-2", name="Acme"))
    await world.settle()
    await seen(world, "acme", include=("name",))
    ((root, detail),) = await world.rows("SELECT subject_id, detail FROM disclosure")
    assert root == await world.subject("u-2")
    name = world.vault.catalogue.account_traits["name"]
    ((number, _),) = parse_detail(detail)[0].items
    assert number == account_object(name.number)
    assert len(await world.audited(Tag.DISCLOSURE_LOOKUP_RELEASED)) == 1
    clock.advance(60)
    await members(world, "acme")
    rows = await world.rows(
        "SELECT DISTINCT ON (subject_id) subject_id, detail FROM disclosure ORDER BY subject_id, at DESC"
    )
    kind = world.vault.catalogue.account_kind
    assert kind is not None
    for _, detail in rows:
        assert identifier_object(kind.number) in dict(parse_detail(detail)[0].items)
    assert {row[0] for row in rows} == {await world.subject("u-1"), await world.subject("u-2")}


async def test_the_feed_shows_what_the_persons_own_calls_said_under_a_name_of_its_own(world: World) -> None:
    await world.send(group("acme", "u-1", name="Acme", plan="gold", employees=3), group("acme", "u-2", plan="free"))
    first, second = await world.feed(DESK)
    assert first["identifiers"]["group_id"] == ["acme"]
    assert [one["traits"] for one in first["accounts"]] == [{"name": "Acme", "plan": "gold"}]
    assert [one["traits"] for one in second["accounts"]] == [{"plan": "free"}]
    assert first["accounts"][0]["id"] == second["accounts"][0]["id"]
    assert "acme" not in first["accounts"][0]["id"]
    (link,) = (await links.accounts_of_person(world.vault, DESK, "user_id", "u-1"))["data"]
    assert _by_type(link)["account"] == [first["accounts"][0]["id"]]
    assert [line.get("accounts") for line in await world.feed("warehouse")] == []


async def test_what_an_account_trait_is_no_longer_is_retracted(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"), group("acme", "u-1", plan="gold"))
    await world.settle()
    _, cursor = await world.lines(DESK)
    clock.advance(60)
    await world.send(group("acme", "u-1", plan=None))
    await world.settle()
    lines, _ = await world.lines(DESK, cursor)
    (retract,) = (line for line in lines if line["op"] == "retract")
    assert retract["accounts"] == ["plan"]
    assert "accounts" not in next(line for line in lines if line["op"] == "upsert")


async def test_joined_parts_are_one_member_and_separate_ones_are_two(world: World) -> None:
    await world.send(group("acme", anon="d-1", plan="gold"), group("acme", "u-1", name="Acme"))
    assert len(await members(world, "acme")) == 2
    await world.send(message("alias", "u-1", previousId="d-1"))
    assert len(await members(world, "acme")) == 1
    assert await seen(world, "acme") == {"name": "Acme", "plan": "gold"}


# --- pages --------------------------------------------------------------------------------------------------------------


async def test_links_come_in_pages_that_end_and_cursors_work_for_their_question_only(world: World) -> None:
    """Threat G15."""
    await world.send(
        *(group("acme", f"u-{n}", plan="free") for n in range(7)), *(group(f"a-{n}", "u-0") for n in range(4))
    )
    for ask, size in ((lambda c: links.members(world.vault, DESK, "group_id", "acme", 3, c), 7),
                      (lambda c: links.accounts_of_person(world.vault, DESK, "user_id", "u-0", 3, c), 5)):  # fmt: skip
        found: list[str] = []
        cursor = ""
        while True:
            answer = await ask(cursor)
            found += [json.dumps(one) for one in answer["data"]]
            if not answer["cursor"]["has_more"]:
                break
            cursor = answer["cursor"]["next"]
        assert len(found) == len(set(found)) == size
        middle = len(cursor) // 2  # the last letter may hold bits that mean nothing
        other = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
        bad = [other, "x", "é", "A" * 4000, cursor[1:]]
        for text in bad:
            with pytest.raises(Invalid):
                await ask(text)
        with pytest.raises(Invalid):
            await links.members(world.vault, DESK, "group_id", "a-1", 3, cursor)


async def test_an_account_with_more_members_than_can_be_decided_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traits, "MAX_MEMBERS", 3)
    monkeypatch.setattr(links, "MAX_LOOKED_AT", 3)
    await world.send(*(group("acme", f"u-{n}", plan="free") for n in range(4)))
    with pytest.raises(Conflict) as error:
        await seen(world, "acme")
    assert error.value.reason == "account_too_large"
    assert len(await members(world, "acme")) == 3


async def restrict(world: World, *users: str) -> None:
    for user in users:
        subject = await world.subject(user)
        assert subject is not None
        await change_profiles(world.vault, [subject], lambda one: one.root.alter(restricted=True), "staff:test")


async def test_g12_an_account_of_many_of_whom_nobody_may_be_seen_looks_like_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more of them are there than either door looks at."""
    for module in (traits, links):
        monkeypatch.setattr(module, "MAX_LOOKED_AT", 2)
    monkeypatch.setattr(traits, "MAX_MEMBERS", 1)
    await world.send(*(group("acme", f"u-{n}", name="Acme", plan="gold") for n in range(4)))
    await restrict(world, *(f"u-{n}" for n in range(4)))
    for destination in (DESK, "email-tool"):  # one that may know of accounts, and one that may not
        assert await nothing(world, "no-such", destination)
        assert await nothing(world, "acme", destination)


async def test_g12_only_members_that_may_be_seen_make_an_account_too_large(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traits, "MAX_MEMBERS", 2)
    await world.send(*(group("acme", f"u-{n}", name="Acme", plan="gold") for n in range(5)))
    await restrict(world, "u-0", "u-1", "u-2")
    assert await seen(world, "acme") == {"name": "Acme", "plan": "gold"}
    await world.send(group("acme", "u-5", name="Acme"))
    with pytest.raises(Conflict) as error:
        await seen(world, "acme")
    assert error.value.reason == "account_too_large"


# --- rights -------------------------------------------------------------------------------------------------------------


async def test_an_access_answer_shows_the_accounts_and_what_the_persons_calls_said(world: World) -> None:
    await world.send(
        identify("u-1", email="ada@example.com"),
        group("acme", "u-1", name="Acme", plan="gold"),
        group("acme", "u-2", name="Said by another"),
    )
    await seen(world, "acme")
    actor = officer(world.vault)
    for kind in ("access", "portability"):
        ref = await find(world.vault, actor, "email", "ada@example.com")
        request = await open_request(world.vault, actor, ref, kind)  # type: ignore[arg-type]
        await advance(world.vault, request)
        archive = zipfile.ZipFile(io.BytesIO(await fetch_archive(world.vault, actor, request)))
        answer = json.loads(archive.read("data.json"))
        (row,) = answer["accounts"]
        assert (row["account"], row["confirmed"], row["source"]) == ("acme", True, "shop")
        assert {one["trait"]: one["value"] for one in row["traits"]} == {"name": "Acme", "plan": "gold"}
        assert ("group_id", "acme") in {(one["kind"], one["value"]) for one in answer["identifiers"]}
        assert "Said by another" not in archive.read("data.json").decode()
        assert b"acme" in archive.read("index.html")


async def erase(world: World, email: str) -> None:
    actor = officer(world.vault)
    ref = await find(world.vault, actor, "email", email)
    request = await open_request(world.vault, actor, ref, "erasure")
    await advance(world.vault, request)


async def test_an_erasure_takes_the_membership_and_what_came_from_that_member_alone(
    world: World, clock: FakeClock
) -> None:
    """Promise 6; threat D5."""
    await world.send(
        identify("u-1", email="ada@example.com"),
        identify("u-2", email="bob@example.com"),
        group("acme", "u-1", name="Acme of Ada", plan="gold"),
        group("acme", "u-2", plan="free"),
    )
    clock.advance(60)
    await erase(world, "ada@example.com")
    assert await seen(world, "acme") == {"plan": "free"}
    assert [one["user_id"] for one in await members(world, "acme")] == [["u-2"]]
    assert await world.count("membership") == 1
    ((document,),) = await world.rows("SELECT document FROM certificate")
    assert b'"memberships"' in document
    # a user id and an address: the id of an account is nobody's tombstone, and no digest on the certificate
    assert await world.count("tombstone") == 2
    assert len(json.loads(document)["document"]["person"]["digests"]) == 2
    clock.advance(micros=2 * DAY)
    outcome = await world.send(group("acme", "u-3", plan="gold"))
    assert outcome.stored == 1
    await erase(world, "bob@example.com")
    assert await seen(world, "acme") == {"plan": "gold"}


async def test_with_its_last_member_an_account_is_gone(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), group("acme", "u-1", name="Acme", plan="gold"))
    await erase(world, "ada@example.com")
    assert await nothing(world, "acme")
    assert await world.count("membership") == 0
    assert await world.rows("SELECT 1 FROM compartment WHERE subject_id NOT IN (SELECT subject_id FROM subject)") == []


# --- consent ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def agreed(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    """A shop that collects the plan of an account for marketing too, on consent, and gives it to the e-mail tool."""
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    ours = 'purposes = ["service", "support"'
    for file, before, after in (
        ("events.toml", f"number = 28\n{ours}]", f'number = 28\n{ours}, "marketing"]'),
        ("destinations.toml", "[email-tool.traits]", '[email-tool.accounts]\nplan = ["reveal"]\n\n[email-tool.traits]'),
        ("gate/rules.csv", "r:outside, account:*, *, *, deny", "d:email-tool, account:plan, marketing, reveal, allow"),
    ):
        text = (policies / file).read_text()
        assert before in text
        (policies / file).write_text(text.replace(before, after))
    chosen = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=policies,
        database_url=database_url,
    )
    async with open_vault(chosen, clock=clock) as opened:
        made = await World.of(opened)
        yield made
        await made.check()


async def test_a_withdrawal_closes_account_traits_for_that_purpose_and_no_other(
    agreed: World, clock: FakeClock
) -> None:
    """Promises 2, 4, 5: each trait leaves for the purposes that its member allows at that moment."""
    await agreed.send(group("acme", "u-1", name="Acme", plan="gold"), identify("u-1", email="ada@example.com"))
    assert await seen(agreed, "acme", "email-tool") == {"plan": "gold"}
    assert await seen(agreed, "acme") == {"name": "Acme", "plan": "gold"}
    (line,) = await agreed.feed("email-tool")
    assert [one["traits"] for one in line["accounts"]] == [{"plan": "gold"}]
    _, cursor = await agreed.lines("email-tool")
    clock.advance(60)
    await agreed.choose(say("marketing", "withdrawn"), user="u-1")
    assert await nothing(agreed, "acme", "email-tool")
    assert await seen(agreed, "acme") == {"name": "Acme", "plan": "gold"}  # what is left of the wraps still opens
    await agreed.settle()
    lines, _ = await agreed.lines("email-tool", cursor)
    assert [line["op"] for line in lines] == ["remove"]
    clock.advance(60)
    await agreed.send(group("acme", "u-1", plan="silver", agree=None))
    assert await nothing(agreed, "acme", "email-tool")
    assert (await seen(agreed, "acme"))["plan"] == "silver"
    clock.advance(60)
    await agreed.choose(say("marketing", "granted"), user="u-1")
    assert await nothing(agreed, "acme", "email-tool")  # a new consent reopens nothing that was collected before it
    clock.advance(60)
    await agreed.send(group("acme", "u-1", plan="free", agree=None))
    assert await seen(agreed, "acme", "email-tool") == {"plan": "free"}


async def test_an_outdated_name_of_a_company_is_taken_out_where_only_fewer_may_know_the_new_one(
    agreed: World, clock: FakeClock
) -> None:
    """Contact data that was replaced shows to no purpose that may not know the new one (design section 5)."""
    await agreed.send(group("acme", "u-1", name="Old", plan="gold"))
    await agreed.choose(say("marketing", "withdrawn"), user="u-1")
    clock.advance(60)
    await agreed.send(group("acme", "u-1", name="New", plan="free", agree=None))
    told = [bytes(t.value) for _, some in await stored(agreed, "u-1") for e in some.values() for t in e.traits.values()]
    assert sorted(told) == [b'"New"', b'"free"', b'"gold"']  # of what is no contact data older copies may lie beside


async def test_who_never_agreed_gives_nothing_to_an_account_that_others_show(agreed: World, clock: FakeClock) -> None:
    """Promise 9, over members: what one permits does not open what another refused."""
    await agreed.send(group("acme", "u-1", plan="gold"))
    clock.advance(60)
    await agreed.send(
        group("acme", "u-2", plan="silver", agree={"functional": True, "analytics": True, "advertising": False})
    )
    assert await seen(agreed, "acme", "email-tool") == {"plan": "gold"}
    assert await seen(agreed, "acme") == {"plan": "silver"}
    marketing = agreed.vault.catalogue.mask(["marketing"])
    assert [bool(mask & marketing) for mask, _ in await stored(agreed, "u-2")] == [False]
