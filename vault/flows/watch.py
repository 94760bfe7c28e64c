"""What becomes of each message, told to whoever watches its source now. After the commit, and never in its way.

Promises: a source that nobody watches costs a comparison of two numbers, and a read of one tiny table a second and
process; what fails here is logged by its code and fails no message; a flood is cut, and what was cut is counted. What is
told holds types, fit names and codes (`vault.sources.watched`), never a value or an id.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from vault.catalogue.load import Catalogue
from vault.clock import SECOND, Micros
from vault.errors import VaultError
from vault.events.decode import Rejected
from vault.events.message import SENSITIVE, UNFIT, fit_name
from vault.flows.ingest.verdict import Verdict
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.sources import watch
from vault.sources.dropped import Drop
from vault.sources.store import Source
from vault.sources.watched import MAX_PARTS, Line, cut

MAX_A_SECOND: Final = 500  # lines a process lays down; more scroll past anybody
UNREADABLE: Final = "(unreadable)"
_NAMED: Final = frozenset({"track", "page", "screen"})


async def tell(vault: Vault, source: Source, verdicts: Sequence[Verdict], rejected: Iterable[Rejected]) -> None:
    """Lay down the verdicts of a body, if somebody watches its source."""
    if not await _watched(vault, source):
        return
    lines = [(one.index, _unread(vault.catalogue, one)) for one in rejected]
    lines += [(one.item.index, _line(vault.catalogue, one)) for one in verdicts]
    await _lay_down(vault, source, [line for _, line in sorted(lines, key=lambda pair: pair[0])])


async def tell_refused(vault: Vault, source: Source, code: str, hint: str = "") -> None:
    """Lay down that a whole body was refused. `hint`: the sentence of ours that answered it."""
    if await _watched(vault, source):
        await _lay_down(vault, source, [Line("(body)", code=code, said=hint or None)])


async def sweep(vault: Vault) -> int:
    """Remove what nobody looks at any more. A step of the worker."""
    async with vault.database.hot() as connection:
        return await watch.sweep(connection, vault.clock.now())


async def _watched(vault: Vault, source: Source) -> bool:
    known, now = vault.watching, vault.clock.now()
    if not known.at <= now < known.at + watch.LOOK:  # also when the clock went back
        known.at = now  # before the read: the others of this moment go by what is known
        try:
            async with vault.database.hot() as connection:
                known.sources = await watch.sources(connection, now)
        except VaultError as error:  # the message is durable: the answer must not depend on this
            vault.log.warning("watch.failed", code=error.reason)
    return source.source_id in known.sources


async def _lay_down(vault: Vault, source: Source, lines: list[Line]) -> None:
    now = vault.clock.now()
    body = cut(lines, _room(vault, now))
    vault.watching.lines += len(body.lines)
    try:
        async with vault.database.hot() as connection:
            await watch.tell(connection, source.source_id, uuid7(now), now, body)
    except VaultError as error:
        vault.log.warning("watch.failed", code=error.reason)


def _room(vault: Vault, now: Micros) -> int:
    """How many lines may still be laid down in this second."""
    known = vault.watching
    if now // SECOND != known.second:
        known.second, known.lines = now // SECOND, 0
    return MAX_A_SECOND - known.lines


def _line(catalogue: Catalogue, verdict: Verdict) -> Line:
    message, dropped = verdict.item.message, verdict.dropped
    whole = verdict.noted[-1:] if dropped is not None and dropped.code != "duplicate" else ()
    parts = tuple(one for one in verdict.noted if one not in whole)
    return Line(
        "consent" if verdict.item.act is not None else message.type,
        shown_name(catalogue, message.type, message.name),
        None if dropped is None else dropped.code,
        verdict.purposes if dropped is None else catalogue.mask(dropped.purposes),
        parts[:MAX_PARTS],
        max(0, len(parts) - MAX_PARTS),
    )


def shown_name(catalogue: Catalogue, type_: str, name: str | None) -> str | None:
    """The name of a message as a watcher may see it; None for one that has none."""
    if type_ not in _NAMED or (name is None and type_ != "track"):
        return None
    event = catalogue.event(type_, name or "")
    if event is not None and event.sensitivity == "special":
        return SENSITIVE
    return fit_name(name) if name is not None else UNFIT


def _unread(catalogue: Catalogue, one: Rejected) -> Line:
    if one.type is None:
        return Line(UNREADABLE, code=one.code)
    return Line(one.type, shown_name(catalogue, one.type, one.name), one.code)


def drop_of(catalogue: Catalogue, one: Rejected) -> Drop:
    """How a message that could not be read is counted: by what it calls itself, where that is known."""
    if one.type is None:
        return Drop("event", UNREADABLE, one.code)
    return Drop(one.type, shown_name(catalogue, one.type, one.name) or one.type, one.code)
