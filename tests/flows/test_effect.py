"""The time from a withdrawal to its effect is measured (promise 5), once for each destination that has to hear of it."""

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, open_shop, ops
from vault.flows.vault import Vault
from vault.measures import REGISTRY


def measured(destination: str) -> tuple[float, float]:
    """How many withdrawals took effect there so far, and the seconds of all of them."""
    name, labels = "profile_vault_withdrawal_effect_seconds", {"destination": destination}
    found = [REGISTRY.get_sample_value(name + part, labels) or 0.0 for part in ("_count", "_sum")]
    return found[0], found[1]


async def test_a_withdrawal_is_measured_where_it_takes_something_back_and_once(vault: Vault, clock: FakeClock) -> None:
    shop = await open_shop(vault)
    for user in ("ada", "bea"):
        await shop.person(user, order=250.0)
    readers = {name: Reader(vault, name) for name in ("ad-platform", "email-tool", "support-desk")}
    for reader in readers.values():
        await reader.read()
    before = {name: measured(name) for name in readers}
    await shop.withdraw("ada", "advertising", "marketing")
    clock.advance(90)
    await shop.withdraw("bea", "advertising")
    clock.advance(10)
    for _ in range(2):
        for reader in readers.values():
            await reader.read()
    after = {name: measured(name) for name in readers}
    gained = {name: tuple(round(b - a, 3) for a, b in zip(before[name], after[name], strict=True)) for name in readers}
    assert gained == {"ad-platform": (2, 110), "email-tool": (1, 100), "support-desk": (0, 0)}


async def test_what_goes_by_itself_is_no_withdrawal(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    before = measured("email-tool")
    await shop.send({"type": "identify", "userId": "ada", "traits": {"firstName": None}})
    assert ops(await reader.read()) == ["retract", "upsert"]
    assert measured("email-tool") == before


async def test_the_age_of_each_pages_decision_is_measured(vault: Vault) -> None:
    name = "profile_vault_decision_age_seconds"
    before = REGISTRY.get_sample_value(name + "_count") or 0.0
    await Reader(vault, "warehouse").read()
    assert REGISTRY.get_sample_value(name + "_count") == before + 1
    assert (REGISTRY.get_sample_value(name + "_bucket", {"le": "1.0"}) or 0) == before + 1
