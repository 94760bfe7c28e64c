"""When an identifier finds nobody any more: with the last purpose that it was collected for, unless it is the last one."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.flows.conftest import ROOT
from tests.worlds import World, identify, order, preference, say, track
from vault.bootstrap import open_vault
from vault.config import Settings


@pytest.fixture
async def narrow(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    """Policies that collect the ids of devices, and the numbers of visits, for analytics alone."""
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    path = policies / "identities.toml"
    before = 'purposes = ["service", "analytics", "personalisation", "advertising"]'
    text = path.read_text()
    assert before in text
    orders = text[text.index("[order_id]") : text.index("[group_id]")]
    visits = orders.replace("order_id", "visit_id").replace('["service", "support"]', '["analytics"]')
    visits = re.sub(r"^(number|priority) = .*$", r"\1 = 99", visits, flags=re.MULTILINE)
    path.write_text(text.replace(before, 'purposes = ["analytics"]') + "\n" + visits)
    settings = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=policies,
        database_url=database_url,
    )
    async with open_vault(settings, clock=clock) as opened:
        found = await World.of(opened)
        yield found
        await found.check()


async def test_a_tag_goes_with_the_last_purpose_of_its_kind(narrow: World, clock: FakeClock) -> None:
    await narrow.send(identify("u-1", anon="d-1", email="ada@example.com"))
    assert await narrow.subject("d-1", "anonymous_id") is not None
    await narrow.choose(say("marketing", "withdrawn"), user="u-1")
    assert await narrow.subject("d-1", "anonymous_id") is not None
    kept = await narrow.count("identifier")
    await narrow.choose(say("analytics", "withdrawn"), user="u-1")
    assert await narrow.subject("d-1", "anonymous_id") is None
    assert await narrow.count("identifier") == kept - 1
    assert await narrow.subject("u-1") is not None
    clock.advance(60)
    await narrow.choose(say("analytics", "granted"), user="u-1")
    await narrow.send(track("Product Viewed", "u-1", anon="d-1", product_id="p-1"))
    assert await narrow.subject("d-1", "anonymous_id") == await narrow.subject("u-1")


async def test_a_tag_that_comes_and_goes_in_one_batch_is_not_kept(narrow: World) -> None:
    batch = [
        identify("u-1", anon="d-1", email="ada@example.com"),
        preference("u-1", anon="d-1", analytics=False),
        track("Product Viewed", "u-1", anon="d-1", product_id="p-1"),
    ]
    await narrow.send(*batch)
    assert await narrow.subject("d-1", "anonymous_id") is None


async def test_c1_the_last_identifier_stays_so_that_a_refusal_is_remembered(narrow: World) -> None:
    await narrow.send(track("Product Viewed", anon="d-1", product_id="p-1"))
    await narrow.choose(say("analytics", "withdrawn"), anon="d-1")
    assert (await narrow.stands("d-1", "anonymous_id"))["analytics"] == "withdrawn"


async def test_a_tag_that_only_finds_goes_too(narrow: World) -> None:
    await narrow.send(identify("u-1", email="ada@example.com"), order("u-1", 5, visit_id="v-77"))
    assert await narrow.subject("v-77", "visit_id") == await narrow.subject("u-1")
    await narrow.choose(say("analytics", "withdrawn"), user="u-1")
    assert await narrow.subject("v-77", "visit_id") is None
