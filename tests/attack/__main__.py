"""`make attack`: plays the attacks of a database's owner on a vault of its own, in words, and ends in one JSON line.

Exit 0 only if every attack failed really: each has a control that shows the door answering before.
"""

import json
import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Final

from tests.attack.play import Played, play
from tests.attack.scene import Scene
from tests.e2e.house import House

WIDTH: Final = 110
SHOWN: Final = 4  # statements of one attack


def main() -> int:
    """The exit code."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pv-attack-", dir="/tmp"))
    if os.geteuid() == 0:  # the database server's user may pass through it, and no further
        folder.chmod(0o711)
    house = House(folder)
    played: list[Played] = []
    try:
        print("A vault is made, people arrive, destinations read. The attacker owns the database, and has no key.\n")
        scene = Scene(house)
        try:
            for number, one in enumerate(play(scene), start=1):
                played.append(one)
                print(told(number, one), flush=True)
        finally:
            scene.close()
    finally:
        house.close()
    code, verdict = judged(played)
    print(f"{verdict['failed']} of {verdict['attacks']} attacks failed in {time.monotonic() - started:.0f} seconds.")
    print(json.dumps(verdict))
    return code


def judged(played: list[Played]) -> tuple[int, dict[str, object]]:
    """The exit code, and the last line: every attack must have failed, and there must have been some."""
    failed = sum(one.failed for one in played)
    succeeded = [one.title for one in played if not one.failed]
    return int(not played or bool(succeeded)), {"attacks": len(played), "failed": failed, "succeeded": succeeded}


def told(number: int, one: Played) -> str:
    """An attack in words."""
    lines = [f"{number}. {one.title}  ({one.threats})"]
    lines += _folded(
        "did      ", [*one.did[:SHOWN], *([f"... and {len(one.did) - SHOWN} more"] if len(one.did) > SHOWN else [])]
    )
    lines += _folded("answered ", one.answered)
    if one.failed:
        lines += _folded("on record", [one.record])
        lines.append("   => the attack failed")
    else:
        lines.append(f"   => THE ATTACK SUCCEEDED: {one.why}")
    return "\n".join(lines) + "\n"


def _folded(title: str, texts: list[str]) -> list[str]:
    lines = []
    for at, text in enumerate(texts):
        front = f"   {title if at == 0 else ' ' * len(title)}  "
        lines += textwrap.wrap(text, WIDTH, initial_indent=front, subsequent_indent=" " * len(front))
    return lines


if __name__ == "__main__":
    sys.exit(main())
