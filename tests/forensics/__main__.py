"""`make forensics`: the story, told step by step for whoever reads it, and one JSON line at the end. Exit 0: nothing was found."""

import json
import os
import sys
import tempfile
from pathlib import Path

from tests.e2e.house import House
from tests.forensics.story import Story


def main() -> int:
    """Everything lies in two folders of its own, which are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pv-thief-", dir="/tmp") as thief:
        folder = Path(tempfile.mkdtemp(prefix="pv-forensics-", dir="/tmp"))
        if os.geteuid() == 0:  # the database server's user may pass through, and no further
            folder.chmod(0o711)
            Path(thief).chmod(0o711)
        house = House(folder)
        story = Story(house, Path(thief), lambda words: print(words, flush=True))
        try:
            figures = story.run()
        finally:
            house.close()
    print(
        "\nNothing that was planted is anywhere, and nothing opens."
        if figures["ok"]
        else "\nSOMETHING WAS FOUND: see above."
    )
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
