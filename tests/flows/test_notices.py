"""Claims about the text that a choice names: it was about that purpose, and there in that language."""

import pytest

from tests.worlds import World, say
from vault.errors import Invalid


@pytest.mark.parametrize(
    ("notice", "language"),
    [("analytics/1", "en"), ("marketing/99", "en"), ("marketing/1", "xx"), ("marketing", None), ("nowhere/1", None)],
)
async def test_a_choice_names_the_text_of_its_own_purpose(world: World, notice: str, language: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        await world.choose(say("marketing", "granted", notice=notice, language=language), user="u-1")
    assert refused.value.reason == "unknown_notice"
    assert await world.subject("u-1") is None


async def test_a_choice_that_names_its_text_keeps_it(world: World) -> None:
    await world.choose(say("marketing", "granted", notice="marketing/1", language="en-GB"), user="u-1")
    subject = await world.subject("u-1")
    assert subject is not None
    (choice,) = await world.ledger(subject)
    assert (choice.notice, choice.language) == ("marketing/1", "en-GB")
