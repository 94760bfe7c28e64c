"""Moves a journal to another place: from a folder to a database, or back. The same frames, byte for byte.

Promises: nothing is lost and no chain forks, wherever it is stopped. The old place is shut before the first frame is copied,
so that a process which still writes there is refused, and stays shut; the new one is open only once it holds all of it, and
both were verified from the first frame to the last. Stopped in between, neither serves, and the same call goes on.
"""

from typing import Final

from vault.errors import Conflict
from vault.journal import frames
from vault.journal.frames import Head
from vault.journal.journal import Journal

BATCH: Final = 1000  # entries behind one flush


def move(source: Journal, target: Journal) -> Head:
    """Answers where the chain ends, here and there. Both may have been shut. Raises `Conflict`, `Unavailable`, `Unreadable`.

    Raises `Conflict` for a target that holds other entries, or more: then nothing was changed.
    """
    shut = source.moved
    _check_begins(source, target)
    source.shut()
    try:
        end = _copy(source, target)
    except BaseException:
        if not shut:
            source.reopen()  # nobody can have begun to use the target in its place: it is shut
        raise
    target.reopen()
    return end


def _copy(source: Journal, target: Journal) -> Head:
    """All of the source into a target that is shut meanwhile."""
    target.shut()
    payloads, end = source.payloads()
    for at in range(target.verify().number, len(payloads), BATCH):
        target.append_shut(payloads[at : at + BATCH])
    if target.verify() != end:
        raise Conflict("somebody else wrote to the place that the journal is moved to; it stays where it was")
    for digest in source.policies():
        target.keep_policy(digest, source.policy(digest) or b"")
    head = source.read_head()
    if head is not None:
        target.write_head(*head)
    return end


def _check_begins(source: Journal, target: Journal) -> None:
    """Whether what is at the target is how the source begins."""
    there = target.verify()
    ends = [frames.START, *source.ends()]
    if there.number >= len(ends) or ends[there.number] != there:
        raise Conflict(
            "the place to move to holds another journal, or one that has gone on since: if it was moved before, set `journal`"
            " to it; else name an empty place"
        )
