"""`audit verify --state` as an operator meets it: words, JSON, exit codes, and where a run that broke off goes on."""

import asyncio
import json
from collections.abc import Callable
from uuid import UUID

import pytest
from click.testing import Result

from tests.api.shop import identify
from vault.cli.audit import _sentences
from vault.flows.sweep.audit import Report
from vault.flows.sweep.finding import MEANINGS, NUMBERS, Check, Finding
from vault.storage.session import Database

Call = Callable[..., Result]
ADA = UUID("019aa3b0-0000-7000-8000-000000000001")


def test_a_whole_vault_says_so_and_one_that_was_edited_ends_with_1(call: Call, database_url: str) -> None:
    key = json.loads(call("sources", "add", "shop", "--class", "server", "--json").stdout)["write_key"]
    assert key
    done = call("import", "-", "--source", "shop", stdin=json.dumps(identify()).encode() + b"\n")
    assert done.exit_code == 0, done.output
    whole = call("audit", "verify", "--state", "--json")
    assert whole.exit_code == 0, whole.output
    said = json.loads(whole.stdout)
    assert said["ok"]
    assert said["state"]["findings"] == []
    assert said["state"]["people"] == 1
    assert "agrees with itself" in call("audit", "verify", "--state").stdout

    async def edit() -> UUID:
        database = await Database.open(database_url)
        async with database.hot() as connection:
            subject = await connection.fetchval(
                "UPDATE identity SET subject_id = gen_random_uuid() RETURNING subject_id"
            )
        await database.close()
        return UUID(bytes=subject.bytes)

    asyncio.run(edit())
    edited = call("audit", "verify", "--state", "--json")
    assert edited.exit_code == 1
    said = json.loads(edited.stdout)
    assert not said["ok"]
    assert {one["check"] for one in said["state"]["findings"]} == {"lookup"}
    assert call("audit", "verify").exit_code == 0  # the log is whole: only the state is not
    told = call("audit", "verify", "--state")
    assert told.exit_code == 1
    assert MEANINGS[Check.LOOKUP] in told.stdout
    assert "planted" not in edited.stdout + told.stdout


def test_after_goes_with_state_only(call: Call) -> None:
    done = call("audit", "verify", "--after", str(ADA))
    assert done.exit_code == 2
    assert "--state" in done.output


def test_what_is_found_is_told_in_words_with_how_much_more_there_is() -> None:
    report = Report(people=3, findings=[Finding(Check.OLDER, ADA), Finding(Check.LEAVES, count=4)], more=2)
    text = _sentences(report)
    assert "NOT agree" in text
    assert f"person {ADA}: {MEANINGS[Check.OLDER]}" in text
    assert f"in all: {MEANINGS[Check.LEAVES]} (4)" in text
    assert "and 2 more" in text


def test_a_harmless_finding_alone_is_no_failure() -> None:
    assert Report(findings=[Finding(Check.UNFULFILLED, ADA)]).good
    assert not Report(more=1).good


@pytest.mark.parametrize("check", list(Check))
def test_every_check_has_its_words_and_a_number_of_its_own(check: Check) -> None:
    assert MEANINGS[check]
    assert list(NUMBERS.values()).count(NUMBERS[check]) == 1
