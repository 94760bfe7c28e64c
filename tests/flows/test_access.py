"""Claims about finding people and answering access and portability, on a real database."""

import io
import json
import zipfile

import pytest

from tests.fakes import FakeClock
from tests.flows.rights_world import gave, officer, person, rows_of
from tests.worlds import World, identify, say, track
from vault.audit.entry import Tag, parse
from vault.audit.log import integrate
from vault.clock import DAY, HOUR
from vault.disclosures.held import after_removal
from vault.disclosures.store import acknowledge, change_held, held_by
from vault.errors import Conflict, Gone, Invalid, NotFound, Unavailable, Unreadable
from vault.flows import browse
from vault.flows.find import find, resolve_ref
from vault.flows.honour.advance import advance, advance_all
from vault.flows.honour.intake import fetch_archive, open_request, read_request
from vault.flows.vault import Vault
from vault.keys import names
from vault.policy.actors import Actor
from vault.storage.session import raw

EMAIL = "ada.planted@example.com"
KNOWN = {"email": EMAIL, "user_id": "user-planted"}
TRAITS = {"firstName": "Ada <script>alert(1)</script>", "email": EMAIL}
CONSENTS = ("marketing", "analytics", "advertising")


async def _archive(vault: Vault, kind: str = "access") -> tuple[zipfile.ZipFile, Actor, str]:
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    request = await open_request(vault, actor, ref, kind)  # type: ignore[arg-type]
    await advance(vault, request)
    return zipfile.ZipFile(io.BytesIO(await fetch_archive(vault, actor, request))), actor, ref


# --- finding --------------------------------------------------------------------------------------------------------


async def test_a_reference_works_for_who_asked_and_for_an_hour(vault: Vault, clock: FakeClock) -> None:
    subject = await person(vault, KNOWN)
    actor, other = officer(vault), officer(vault)
    ref = await find(vault, actor, "email", "  ada.planted@EXAMPLE.com ")
    assert await resolve_ref(vault, actor, ref) == subject
    with pytest.raises(NotFound):
        await resolve_ref(vault, other, ref)
    with pytest.raises(NotFound):
        await resolve_ref(vault, Actor("operator", actor.id), ref)
    clock.advance(micros=HOUR)
    with pytest.raises(Gone):
        await resolve_ref(vault, actor, ref)


async def test_a_reference_tells_nothing_and_no_changed_one_works(vault: Vault) -> None:
    subject = await person(vault, KNOWN)
    actor = officer(vault)
    first, second = [await find(vault, actor, "email", EMAIL) for _ in range(2)]
    assert first != second
    assert subject.hex not in first
    for bad in (first[:-1], first + "A", first.swapcase(), "", "é", "A" * 4000, "email:" + EMAIL):
        with pytest.raises(NotFound):
            await resolve_ref(vault, actor, bad)


async def test_every_search_is_audited_and_no_leaf_holds_what_was_searched(vault: Vault, clock: FakeClock) -> None:
    await person(vault, KNOWN)
    actor = officer(vault)
    await find(vault, actor, "email", EMAIL)
    clock.advance(1)
    with pytest.raises(NotFound):
        await find(vault, actor, "email", "nobody.planted@example.com")
    with pytest.raises(Invalid):
        await find(vault, actor, "shoe_size", "43")
    leaves = [bytes(row[0]) for row in await rows_of(vault, "SELECT leaf FROM audit_in ORDER BY entry_id")]
    found = [json.loads(leaf) for leaf in leaves if Tag.SUBJECT_PROFILE_FOUND.encode() in leaf]
    assert [one["detail"]["found"] for one in found] == [1, 0]
    assert ["subject" in one for one in found] == [True, False]
    assert b"planted" not in b"".join(leaves)


# --- access ---------------------------------------------------------------------------------------------------------


async def test_the_answer_holds_what_the_vault_holds_and_did(vault: Vault) -> None:
    root = await person(vault, KNOWN, TRAITS, orders=2, consents=CONSENTS)
    await person(vault, {"anonymous_id": "device-planted"}, {"firstName": "A. device"}, root=root)
    await gave(vault, "email-tool", root, "trait:email", "identifier:email")
    archive, _, _ = await _archive(vault)
    answer = json.loads(archive.read("data.json"))
    assert {row["value"] for row in answer["your_data"]} == {TRAITS["firstName"], EMAIL, "A. device"}
    assert {(row["kind"], row["value"]) for row in answer["identifiers"]} == {
        *KNOWN.items(), ("anonymous_id", "device-planted"),
    }  # fmt: skip
    assert len(answer["events"]) == 2
    properties = {k: v for part in answer["events"][0]["parts"] for k, v in part["properties"].items()}
    assert properties.pop("order_id").startswith("order-planted-")
    assert properties == {"revenue": 19.9, "currency": "USD", "quantity": 3}
    assert {row["purpose"] for row in answer["purposes"]} >= {"service", "support", "accounting", "marketing"}
    (recipient,) = answer["recipients"]
    assert recipient["recipient"] == "Example Mailings SAS"
    given = [{"kind": kind, "name": "email", "form": "reveal"} for kind in ("identifier", "trait")]
    assert recipient["holds_now"] == recipient["disclosures"][0]["fields"] == given
    assert "controller" in answer["about_this_answer"]
    assert recipient["disclosures"][0]["legal_basis"] == "consent"
    assert {row["purpose"] for row in answer["consents"]} == set(CONSENTS)
    assert answer["complaint"]
    assert answer["your_rights"]


async def test_what_a_recipient_was_told_to_delete_is_open_until_it_says_that_it_did(
    vault: Vault, clock: FakeClock
) -> None:
    root = await person(vault, KNOWN, TRAITS, consents=CONSENTS)
    await gave(vault, "email-tool", root, "trait:email", "identifier:email")
    number = vault.catalogue.contracts["email-tool"].number
    async with vault.database.begin() as connection:
        before = await held_by(await raw(connection), number, [root], lock="write")
        await change_held(await raw(connection), number, [after_removal(before[root], 2, "withdrawn")])

    async def told() -> tuple[list[str], list[str]]:
        (one,) = json.loads((await _archive(vault))[0].read("data.json"))["recipients"]
        open_ = one["told_to_delete_and_not_confirmed"]
        return [row["name"] for row in one["holds_now"]], [row["name"] for row in open_]

    assert await told() == ([], ["email", "email"])
    async with vault.database.begin() as connection:
        await acknowledge(connection, number, [root], clock.now(), vault.keyring.key(names.STATE))
    clock.advance(1)
    assert await told() == ([], [])


async def test_the_answer_leaves_out_who_is_only_claimed(vault: Vault) -> None:
    root = await person(vault, KNOWN, TRAITS)
    await person(vault, {"anonymous_id": "stranger-planted"}, {"firstName": "Stranger"})
    archive, _, _ = await _archive(vault)
    assert b"stranger" not in archive.read("data.json").lower()
    assert root is not None


async def test_g19_the_page_shows_values_and_runs_none(vault: Vault) -> None:
    await person(vault, KNOWN, TRAITS, orders=1)
    archive, _, _ = await _archive(vault)
    page = archive.read("index.html").decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src &#x27;none&#x27;" in page


async def test_g26_no_name_and_no_time_in_the_zip_tells_anything(vault: Vault) -> None:
    await person(vault, KNOWN, TRAITS)
    archive, _, _ = await _archive(vault)
    assert archive.namelist() == ["data.json", "index.html"]
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


async def test_an_archive_is_handed_out_once_and_its_key_goes_with_it(vault: Vault) -> None:
    await person(vault, KNOWN, TRAITS)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "access")
    with pytest.raises(Conflict):
        await fetch_archive(vault, actor, request)
    await advance(vault, request)
    assert (await read_request(vault, actor, request))["archive_until"] is not None
    (sealed,) = await rows_of(vault, "SELECT sealed FROM archive")
    assert EMAIL.encode() not in sealed[0]
    await fetch_archive(vault, actor, request)
    with pytest.raises(Gone):
        await fetch_archive(vault, actor, request)
    with pytest.raises(Unavailable):
        vault.keyring.key(names.archive(request))
    state = await read_request(vault, actor, request)
    assert (state["state"], state["step"]) == ("completed", "done")


async def test_an_archive_whose_fetch_broke_off_after_the_commit_loses_its_key_at_the_next_round(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(vault, KNOWN, TRAITS)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "access")
    await advance(vault, request)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(vault.keyring), "destroy", crash)
        with pytest.raises(KeyboardInterrupt):
            await fetch_archive(vault, actor, request)
    vault.keyring.key(names.archive(request))
    with pytest.raises(Gone):
        await fetch_archive(vault, actor, request)
    assert await advance_all(vault) == 1
    with pytest.raises(Unavailable):
        vault.keyring.key(names.archive(request))
    assert (await read_request(vault, actor, request))["step"] == "done"


async def test_an_archive_that_nobody_fetched_is_gone_after_seven_days(vault: Vault, clock: FakeClock) -> None:
    await person(vault, KNOWN, TRAITS)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "access")
    await advance_all(vault)
    clock.advance(micros=7 * DAY)
    with pytest.raises(Gone):
        await fetch_archive(vault, actor, request)
    await advance_all(vault)
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    with pytest.raises(Unavailable):
        vault.keyring.key(names.archive(request))


async def test_portability_holds_what_was_provided_on_consent_or_contract_as_json_and_csv(vault: Vault) -> None:
    await person(vault, KNOWN, {**TRAITS, "lastName": "=HYPERLINK(1)"}, orders=1, consents=CONSENTS)
    archive, _, _ = await _archive(vault, "portability")
    assert archive.namelist() == [
        "data.json",
        "index.html",
        "traits.csv",
        "identifiers.csv",
        "accounts.csv",
        "events.csv",
    ]
    answer = json.loads(archive.read("data.json"))
    assert set(answer) == {"about_this_answer", "traits", "identifiers", "accounts", "events"}
    assert b'"\'=HYPERLINK(1)"' in archive.read("traits.csv")


async def test_a_deleted_trait_is_no_value_in_an_answer(vault: Vault) -> None:
    """What remembers a deletion is sealed as a value is, and tells nothing but that there is none."""
    await person(vault, KNOWN, {"firstName": None, "lastName": "Planted"})
    for type_, table in (("access", "your_data"), ("portability", "traits")):
        archive, _, _ = await _archive(vault, type_)
        assert [row["trait"] for row in json.loads(archive.read("data.json"))[table]] == ["lastName"]


async def test_a_ledger_with_a_row_taken_out_is_never_answered_from(vault: Vault) -> None:
    subject = await person(vault, KNOWN, TRAITS, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    async with vault.database.hot() as connection:
        await connection.execute("DELETE FROM ledger WHERE subject_id = $1 AND sequence = 2", subject)
    with pytest.raises(Unreadable):
        await browse.consents(vault, actor, ref)
    request = await open_request(vault, actor, ref, "access")
    assert await advance_all(vault) == 0
    state = await read_request(vault, actor, request)
    assert (state["state"], state["failed"]) == ("in_progress", "integrity")


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_staff_see_choices_and_disclosures_without_a_value(vault: Vault) -> None:
    subject = await person(vault, KNOWN, TRAITS, consents=CONSENTS)
    await gave(vault, "email-tool", subject, "trait:email")
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    consents = await browse.consents(vault, actor, ref)
    assert consents["state"]["marketing"] == "granted"
    assert consents["state"]["personalisation"] == "undecided"
    assert consents["state"]["service"] == "permitted"
    assert len(consents["choices"]) == len(CONSENTS)
    disclosures = await browse.disclosures(vault, actor, ref)
    assert [one["destination"] for one in disclosures["recipients"]] == ["email-tool"]
    assert EMAIL not in json.dumps([consents, disclosures])


async def test_an_entry_can_be_proven_once_the_log_has_taken_it_up(vault: Vault, clock: FakeClock) -> None:
    await person(vault, KNOWN)
    clock.advance(1)
    with pytest.raises(NotFound):
        await browse.audit_checkpoint(vault)
    await find(vault, officer(vault), "email", EMAIL)
    await integrate(vault.database, vault.keyring, vault.journal, vault.clock)
    (row,) = await rows_of(vault, "SELECT entry_id FROM audit ORDER BY number DESC LIMIT 1")
    proof = await browse.audit_proof(vault, row[0])
    assert json.loads(proof["leaf"])["tag"] == Tag.SUBJECT_PROFILE_FOUND
    assert proof["checkpoint"] == await browse.audit_checkpoint(vault)
    report = await browse.audit_verify(vault)
    assert report["ok"]
    assert (await browse.audit_consistency(vault, 1, report["size"]))["second"] == report["size"]
    for first, second in ((3, 2), (-1, 2)):
        with pytest.raises(Invalid):
            await browse.audit_consistency(vault, first, second)
    with pytest.raises(NotFound):
        await browse.audit_consistency(vault, 1, report["size"] + 1)


async def test_pages_about_no_person_say_what_is_declared(vault: Vault) -> None:
    assert {one["name"] for one in browse.purposes(vault)["purposes"]} == set(vault.catalogue.purposes)
    assert {key["use"] for key in browse.public_keys(vault)["keys"]} == {"audit", "certificate", "receipt"}
    with pytest.raises(NotFound):
        await browse.dropped(vault, None, "no-such-source")


async def test_an_answer_says_that_events_are_missing_which_somebody_deleted(vault: Vault) -> None:
    root = await person(vault, KNOWN, TRAITS, orders=2, consents=CONSENTS)
    async with vault.database.hot() as connection:
        parts = await connection.fetchval("SELECT count(*) FROM event WHERE subject_id = $1", root)
        await connection.execute(
            "DELETE FROM event WHERE event_key = (SELECT event_key FROM event WHERE subject_id = $1 LIMIT 1)", root
        )
    archive, _, _ = await _archive(vault)
    assert f"{parts // 2} of the parts" in json.loads(archive.read("data.json"))["incomplete"]
    leaves = [parse(row[0]) for row in await rows_of(vault, "SELECT leaf FROM audit_in")]
    (failed,) = [one for one in leaves if one.tag is Tag.INTEGRITY_CHECK_FAILED]
    assert failed.detail["missing"] == parts // 2


async def test_what_the_vault_swept_itself_is_not_missing(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email=EMAIL), track("Product Viewed", "u-1", product_id="p-1"))
    consented = [one.name for one in world.vault.catalogue.purposes.values() if one.legal_basis == "consent"]
    await world.choose(*(say(name, "withdrawn") for name in consented), user="u-1")
    before = await world.count("event")
    clock.advance(micros=HOUR)
    await world.settle()
    archive, _, _ = await _archive(world.vault)
    assert await world.count("event") < before
    assert "incomplete" not in json.loads(archive.read("data.json"))
