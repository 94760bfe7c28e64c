"""An older copy of the database is put back, with the keys and the journal of now: what was taken away stays away (D6, D14)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.fakes import FakeClock
from tests.flows.restored import ROOT, Backups, said
from tests.flows.rights_world import officer
from tests.worlds import World, identify, order, say
from vault.audit.entry import Tag
from vault.audit.log import Loss
from vault.bootstrap import open_vault
from vault.catalogue.load import read_folder
from vault.config import Settings
from vault.consent.ledger import Authority, Decision, How
from vault.crypto.services.local import LocalKeyService
from vault.errors import Conflict, Gone, NotFound, Unavailable, Unreadable
from vault.flows import browse, replay
from vault.flows.enact import enact
from vault.flows.find import find
from vault.flows.honour.intake import open_request
from vault.flows.honour.listing import list_requests
from vault.flows.losses import Accepted
from vault.flows.release.page import page
from vault.journal.narrowing import Objection, Refusal, RemovedWraps, Restriction
from vault.keys.roles import FEED, ProcessRole
from vault.storage import embedded


@pytest.fixture
async def backups(
    server: embedded.Server, database_url: str, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Backups]:
    settings = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
    )
    made = Backups(server, settings, clock)
    yield made
    await made.drop()


async def people(world: World, *names: str) -> None:
    for name in names:
        await world.send(identify(name, email=f"{name}@example.com", firstName=name.title()), order(name, 300))
    await world.settle()


async def erase(world: World, name: str) -> None:
    actor = officer(world.vault)
    await open_request(world.vault, actor, await find(world.vault, actor, "user_id", name), "erasure")


async def known(world: World, name: str) -> bool:
    try:
        await find(world.vault, officer(world.vault), "user_id", name)
    except NotFound:
        return False
    return True


async def test_d6_d14_a_backup_from_before_an_erasure_and_a_withdrawal_undoes_neither(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada", "bob", "cy")
        first, cursor = await world.lines("email-tool")
        assert len([one for one in first if one["op"] == "upsert"]) == 3
    copy = await backups.take()
    async with backups.open() as world:
        await erase(world, "ada")
        await world.choose(say("marketing", "denied"), user="bob")
        await world.settle()
        assert [one["traits"]["firstName"] for one in await world.feed("email-tool")] == ["Cy"]
    async with backups.open(copy, accept=True) as world:
        ada = await world.subject("ada")  # its row is there until the worker comes; nothing of it opens
        assert await world.rows("SELECT FROM keys.subject_key WHERE subject_id = $1", ada) == []
        assert (await world.stands("bob"))["marketing"] == "withdrawn"
        assert [one["traits"]["firstName"] for one in await world.feed("email-tool")] == ["Cy"]
        await world.settle()
        assert not await known(world, "ada")
        assert await world.count("keys.subject_key") == 3  # two people, and what law keeps of the third
        assert await world.count("subject") == 3
        assert (await world.feed("warehouse"))[0]["op"] == "upsert"
        with pytest.raises(Gone):  # threats H20
            await page(world.vault, "email-tool", cursor)
        (replayed,) = await said(world, Tag.JOURNAL_ENTRIES_REPLAYED)
        assert (replayed["erased"], replayed["lowered"], replayed["unreadable"]) == (1, 1, 0)
        (accepted,) = await said(world, Tag.AUDIT_LOSS_ACCEPTED)
        assert accepted["here"] < accepted["head"]
        assert (await browse.audit_verify(world.vault))["ok"]
        late = await world.send(identify("ada", email="ada@example.com", at="2020-01-01T00:00:00Z"))
        assert late.stored == 0  # D15
        await world.check()


async def test_a6_an_older_database_serves_nothing_until_an_officer_names_what_is_lost(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
    copy = await backups.take()
    async with backups.open() as world:
        await people(world, "bob")
    settings = msgspec.structs.replace(backups.settings, database_url=backups.server.url(copy))
    loss = await backups.loss(settings)
    assert loss is not None
    for wrong in (Loss(loss.here, loss.head + 1), Loss(loss.here - 1, loss.head)):
        with pytest.raises(Conflict) as told:
            async with open_vault(settings, clock=backups.clock, accepted=Accepted(wrong)):
                pass
        assert told.value.reason == "loss_differs"
    assert await backups.loss(settings) == loss
    with pytest.raises(Conflict):  # the newer one has lost nothing: there is nothing to accept
        async with open_vault(backups.settings, clock=backups.clock, accepted=Accepted(loss)):
            pass
    async with backups.open(copy, accept=True) as world:
        await people(world, "cy")
    assert await backups.loss(settings) is None
    assert await backups.loss(backups.settings) is not None  # now it is the other that the head does not know


async def test_every_kind_of_narrowing_holds_after_a_restore_and_a_grant_made_since_is_asked_for_again(
    backups: Backups,
) -> None:
    async with backups.open() as world:
        await people(world, "ada", "bob", "cy", "dee")
    copy = await backups.take()
    async with backups.open() as world:
        await world.choose(say("fraud_prevention", "objected"), user="ada")
        await world.choose(say("marketing", "denied"), user="bob")
        backups.clock.advance(60)
        await world.choose(say("marketing", "granted"), user="bob")
        await world.send(
            {"type": "track", "event": "Segment Consent Preference Updated", "messageId": "m-device", "userId": "cy",
             "anonymousId": "a-cy", "context": {"consent": {"categoryPreferences": {"advertising": False}}}},
            source="site",
        )  # fmt: skip
        dee = await world.subject("dee")
        assert dee is not None
        version = (await world.state("dee")).version + 1
        await world.vault.journal.append([Restriction(backups.clock.now(), dee, version)])
        blocked = (await world.state("cy")).blocked
        assert blocked
        await world.settle()
    async with backups.open(copy, accept=True) as world:
        fraud = world.vault.catalogue.purposes["fraud_prevention"].number
        assert (await world.state("ada")).objected == 1 << fraud
        ada = await world.subject("ada")
        assert ada is not None
        replayed = [(one.purpose, one.decision) for one in await world.ledger(ada) if one.how is How.REPLAYED]
        assert replayed == [(fraud, Decision.OBJECTED)]  # the journal has it as a refusal, too: it is one act
        assert (await world.stands("bob"))["marketing"] == "withdrawn"
        assert (await world.state("cy")).blocked == blocked
        assert (await world.state("dee")).restricted
        backups.clock.advance(60)
        await world.choose(say("marketing", "granted"), user="bob")  # by the same source: it ranks as the refusal did
        assert (await world.stands("bob"))["marketing"] == "granted"
        await world.settle()
        await world.check()
    async with backups.open(copy) as world:  # and no later start takes the grant away again
        assert (await world.stands("bob"))["marketing"] == "granted"
        assert len(await said(world, Tag.JOURNAL_ENTRIES_REPLAYED)) == 1


async def test_an_act_that_was_killed_behind_the_journal_holds_from_the_next_start_and_made_again_it_is_the_persons_own(
    backups: Backups,
) -> None:
    async with backups.open() as world:
        await people(world, "ada")
        ada = await world.subject("ada")
        assert ada is not None
        marketing = world.vault.catalogue.purposes["marketing"].number
        before = await world.ledger(ada)
        version = (await world.state("ada")).version + 1
        await world.vault.journal.append(
            [Refusal(backups.clock.now(), ada, 1 << marketing, version=version, rank=Authority.SERVER)]
        )
    async with backups.open() as world:  # what the client did not hear of
        assert (await world.stands("ada"))["marketing"] == "withdrawn"
        assert await world.feed("email-tool") == []
        first = await world.choose(say("marketing", "withdrawn"), user="ada", id="again")
        again = await world.choose(say("marketing", "withdrawn"), user="ada", id="again")
        assert first.sequence == again.sequence
        added = [(one.decision, one.how) for one in (await world.ledger(ada))[len(before) :]]
        assert added == [(Decision.WITHDRAWN, How.REPLAYED), (Decision.DENIED, How.API)]
        backups.clock.advance(60)
        await world.choose(say("marketing", "granted"), user="ada")
        assert (await world.stands("ada"))["marketing"] == "granted"
        await world.settle()
        await world.check()
    async with backups.open() as world:
        assert (await world.stands("ada"))["marketing"] == "granted"


async def test_what_was_refused_and_granted_before_the_backup_is_not_refused_again(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
        await world.choose(say("marketing", "denied"), user="ada")
        backups.clock.advance(60)
        await world.choose(say("marketing", "granted"), user="ada")
        await world.settle()
    copy = await backups.take()
    async with backups.open() as world:
        await people(world, "bob")
    async with backups.open(copy, accept=True) as world:
        assert (await world.stands("ada"))["marketing"] == "granted"
        assert not world.vault.replayed.anything


async def test_d6_people_who_were_joined_after_the_backup_are_all_erased(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
        await world.send(identify(anon="a-1", email="other@example.com"))
        await world.settle()
    copy = await backups.take()
    async with backups.open() as world:
        await world.send(identify("ada", anon="a-1"))
        await erase(world, "ada")
        await world.settle()
    async with backups.open(copy, accept=True) as world:
        assert world.vault.replayed.erased == 2
        asked = (await list_requests(world.vault, after=None, limit=9, kind="erasure")).requests
        assert sorted(world.vault.replayed.requests) == [one for one, _ in asked]  # each is found by its id
        assert len(asked) == 2
        assert await world.feed("email-tool") == []
        await world.settle()
        assert not await known(world, "ada")
        assert await world.rows("SELECT FROM keys.subject_key k JOIN erased USING (subject_id)") == []
        assert await world.count("identity") == 0
        await world.check()


async def test_d6_whose_rows_do_not_agree_is_erased_all_the_same(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
    copy = await backups.take()
    async with backups.open() as world:
        await erase(world, "ada")
        await world.settle()
    await backups.owner_does(copy, "UPDATE subject SET version = version + 1")
    async with backups.open(copy, accept=True) as world:
        for table in ("subject", "keys.subject_key", "compartment", "event", "identity", "identifier", "ledger"):
            assert await world.count(table) == 0, table
        assert await world.count("erased") == 1


async def test_d14_a_person_whom_others_kept_changing_is_not_passed_by(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backups.open() as world:
        await people(world, "ada", "bob")
    copy = await backups.take()
    async with backups.open() as world:
        await world.choose(say("marketing", "denied"), user="ada")
        await world.settle()

    async def busy(*_: object) -> None:
        raise Conflict(code="retry")

    with monkeypatch.context() as others:
        others.setattr(replay, "change_profiles", busy)
        with pytest.raises(Conflict):  # it does not serve, and does not note that it was compared
            async with backups.open(copy, accept=True):
                pass
    async with backups.open(copy, accept=True) as world:
        assert (await world.stands("ada"))["marketing"] == "withdrawn"


async def test_a_replay_that_was_killed_is_done_by_the_next_start(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("ada", "bob", "cy", "dee")
    async with backups.open() as world:
        await people(world, *names)
    copy = await backups.take()
    async with backups.open() as world:
        await erase(world, "ada")
        await erase(world, "bob")
        for name in ("cy", "dee"):
            await world.choose(say("marketing", "denied"), user=name)
        await world.settle()
    settings = msgspec.structs.replace(backups.settings, database_url=backups.server.url(copy))
    loss = await backups.loss(settings)

    class Killed(Exception):
        """Here."""

    allowed = 0
    monkeypatch.setattr(replay, "CHANGED", 1)
    for _ in range(3):  # each start gets through one call more: an erasure, the other, one of the refusals
        allowed = 1
        with monkeypatch.context() as patch:
            for name in ("erase_again", "change_profiles"):
                real = getattr(replay, name)

                async def counted(*args: object, real: object = real) -> object:
                    nonlocal allowed
                    allowed -= 1
                    if allowed < 0:
                        raise Killed
                    return await real(*args)  # type: ignore[operator]

                patch.setattr(replay, name, counted)
            with pytest.raises(Killed):
                async with open_vault(settings, clock=backups.clock, accepted=Accepted(loss)):
                    pass
        assert await backups.loss(settings) == loss  # nothing was given up meanwhile
    async with open_vault(settings, clock=backups.clock, accepted=Accepted(loss)) as vault:
        world = World(vault, {})
        assert await world.feed("email-tool") == []
        for name in ("cy", "dee"):
            assert (await world.stands(name))["marketing"] == "withdrawn"
        for name in ("ada", "bob"):
            assert not await known(world, name)


async def test_a_process_without_the_keys_serves_nothing_until_another_replayed(
    backups: Backups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail that is lost is of the journal alone: no audit head shows it."""
    monkeypatch.setattr(replay, "BETWEEN", 0.0)
    role = ProcessRole((FEED,), (), ("marketing",))
    async with backups.open() as world:
        await people(world, "ada")
        ada = await world.subject("ada")
        assert ada is not None
        version = (await world.state("ada")).version
        number = world.vault.catalogue.purposes["marketing"].number
        await world.vault.journal.append([Objection(backups.clock.now(), ada, 1 << number, version + 1)])
        numbers = role.numbers({one.name: one.number for one in world.vault.catalogue.purposes.values()})
        LocalKeyService.from_path(backups.settings.key_file).hand_out(tmp_path / "feed", *role.locks(numbers))
    feed = msgspec.structs.replace(backups.settings, key_file=tmp_path / "feed")
    with pytest.raises(Unavailable) as told:
        async with open_vault(feed, clock=backups.clock, role=role):
            pass
    assert told.value.reason == "replay_needed"
    async with backups.open() as world:
        assert world.vault.replayed.lowered == 1
        assert await world.feed("email-tool") == []
    async with open_vault(feed, clock=backups.clock, role=role):
        pass


async def test_an_older_journal_is_refused(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
    file = backups.settings.journal_folder / "narrowings.journal"
    older = file.read_bytes()
    async with backups.open() as world:
        await world.choose(say("marketing", "denied"), user="ada")
        await world.settle()
    async with backups.open():  # which compares it
        pass
    newer = file.read_bytes()
    file.write_bytes(older)
    with pytest.raises(Unavailable) as told:
        async with backups.open():
            pass
    assert told.value.reason == "journal_behind"
    file.write_bytes(newer)
    async with backups.open():
        pass


@pytest.mark.parametrize("broken", [True, False])
async def test_a_lost_journal_begins_anew_only_by_an_officer_and_knows_who_was_erased(
    backups: Backups, broken: bool
) -> None:
    async with backups.open() as world:
        await people(world, "ada", "bob")
    copy = await backups.take()
    async with backups.open() as world:
        await erase(world, "ada")
        await world.choose(say("marketing", "denied"), user="bob")
        await world.settle()
    file = backups.settings.journal_folder / "narrowings.journal"
    if broken:
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    with pytest.raises((Unavailable, Unreadable)):
        async with backups.open():
            pass
    accepted = Accepted(journal=True)
    async with open_vault(backups.settings, clock=backups.clock, accepted=accepted) as vault:
        world = World(vault, {})
        assert await said(world, Tag.AUDIT_LOSS_ACCEPTED) == [{"what": "journal", "subjects": 1}]
    with pytest.raises(Conflict):  # a journal that is whole is not given up
        async with open_vault(backups.settings, clock=backups.clock, accepted=accepted):
            pass
    async with backups.open(copy, accept=True) as world:  # the new journal knows what the database knew
        assert (await world.stands("bob"))["marketing"] == "withdrawn"
        await world.settle()
        assert not await known(world, "ada")


async def test_removed_wraps_go_again(backups: Backups) -> None:
    async with backups.open() as world:
        await people(world, "ada")
        draft = await world.draft("ada")
        number = world.vault.catalogue.purposes["support"].number
        places = [one.wrapped.compartment_id for one in draft.compartments.values() if one.held >> number & 1]
        assert places
        gone = tuple((place, number) for place in places)
        await world.vault.journal.append(
            [RemovedWraps(backups.clock.now(), draft.subject, gone, draft.state.version + 1)]
        )
    async with backups.open() as world:
        draft = await world.draft("ada")
        assert not any(one.held >> number & 1 for one in draft.compartments.values())
        assert await world.feed("support-desk") == []
        await world.settle()
        await world.check()


async def test_policies_that_are_newer_than_the_backup_are_live_again(backups: Backups, tmp_path: Path) -> None:
    async with backups.open() as world:
        await people(world, "ada")
    copy = await backups.take()
    async with backups.open() as world:
        vault = world.vault
        for line in ("# twice\n", "# thrice\n"):
            files = {**read_folder(ROOT / "policies")}
            files["purposes.toml"] += line
            vault.policy = await enact(
                vault.database, vault.journal, files, "olivia", backups.clock.now(), vault.policy
            )
        await world.settle()
    kept = backups.settings.journal_folder / "policies"
    assert len(list(kept.iterdir())) == 3
    newest = kept / f"{vault.policy.digest.hex()}.json"
    held = newest.read_bytes()
    newest.unlink()
    with pytest.raises(Conflict) as told:
        async with backups.open(copy, accept=True):
            pass
    assert told.value.reason == "policy_lost"
    newest.write_bytes(held)
    newest.chmod(0o600)
    async with backups.open(copy, accept=True) as world:
        assert world.vault.policy == vault.policy


async def test_a_running_vault_and_a_start_beside_it_lose_no_choice(backups: Backups) -> None:
    """A start that sees an entry just before its commit writes the same refusal; nobody's act is lost by it."""
    async with backups.open() as world:
        await people(world, *[f"p{n}" for n in range(6)])

        async def refuse() -> None:
            for n in range(6):
                await world.choose(say("marketing", "denied"), user=f"p{n}")

        async def start() -> None:
            for _ in range(3):
                async with open_vault(backups.settings, clock=backups.clock):
                    pass

        await asyncio.gather(refuse(), start())
        await world.settle()
        for n in range(6):
            assert (await world.stands(f"p{n}"))["marketing"] == "withdrawn"
        await world.check()
