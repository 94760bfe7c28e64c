"""`make attack` on real processes, shortened: it shows what it says, and does not call a success a failure."""

import pytest

from tests.attack.__main__ import judged, told
from tests.attack.attacks import ATTACKS
from tests.attack.play import Played, play
from tests.attack.scene import Scene
from tests.e2e.house import House

PLAYED = Played("A1", "a title", ["UPDATE"], ["404"], "entry 1")


@pytest.mark.slow
def test_a6_attacks_of_the_owner_of_the_database_fail_live(house: House) -> None:
    """A5, A11, A20, F1: an older row, a two-key ciphertext, a whole person, the log, and a real dump put back."""
    scene = Scene(house)
    try:
        played = list(play(scene, [one for one in ATTACKS if one.threats in {"A5", "A11"}]))
    finally:
        scene.close()
    assert len(played) == 5
    assert [(one.title, one.why) for one in played if not one.failed] == []
    assert all(one.did and one.answered and one.record for one in played)


def test_one_attack_that_succeeds_is_told_and_ends_with_1() -> None:
    through = PLAYED._replace(why="the lookup still answered the value")
    assert judged([PLAYED])[0] == 0
    assert judged([PLAYED, through]) == (1, {"attacks": 2, "failed": 1, "succeeded": ["a title"]})
    assert judged([])[0] == 1
    assert "THE ATTACK SUCCEEDED: the lookup still answered" in told(1, through)
    assert "the attack failed" in told(1, PLAYED)
