"""A watcher of one source: what became of each message since it began, in words, with the lines that would have kept it.

Reads what `vault.flows.watch` lays down in other processes; decides nothing, opens no value, knows no person.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from vault.clock import Micros, isoformat
from vault.flows.trail import accusing
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.policy import history, version
from vault.sources import store, watch
from vault.sources.dropped import Drop, parts_of
from vault.sources.remedies import CODES, FOLDER, remedy
from vault.sources.store import Source
from vault.sources.suggestions import Suggester
from vault.sources.watch import Told
from vault.sources.watched import Line

if TYPE_CHECKING:
    from uuid import UUID

Json = dict[str, Any]

RENEW: Final = watch.LIFE // 3  # a late one or two still reach the next
_REFUSED: Final = "The whole body was refused, with this code."
_REFUSED_REMEDY: Final = "correct it in the app that sends it, or in what lies between"


class Follower:
    """Looks on from `begin` to `end`. `step` is to be called every so often, at least every few seconds."""

    def __init__(self, vault: Vault, source: Source, suggester: Suggester) -> None:
        """Use `begin`."""
        self._vault = vault
        self._source = source
        self._suggester = suggester
        self._watcher = uuid7(vault.clock.now())
        self._seen: dict[UUID, Micros] = {}
        self._renewed = Micros(0)

    @classmethod
    async def begin(cls, vault: Vault, name: str) -> "Follower":
        """Begin to look on. Processes that take messages know of it within `watch.LOOK`. Raises `NotFound`."""
        async with accusing(vault), vault.database.begin() as connection:
            source = await store.get(connection, name, vault.rows_key)
            given = await version.numbers_given(connection)
        suggester = Suggester(vault.catalogue, given or history.given([vault.catalogue.files]))
        follower = cls(vault, source, suggester)
        async with vault.database.hot() as connection:
            await watch.sweep(connection, vault.clock.now())
            follower._seen = await watch.standing(connection, source.source_id)
        await follower._renew()
        return follower

    async def step(self) -> list[Json]:
        """What came since the last step, oldest first; says again that somebody looks on."""
        if not self._renewed <= self._vault.clock.now() < self._renewed + RENEW:
            await self._renew()
        async with self._vault.database.hot() as connection:
            told = await watch.read(connection, self._source.source_id, self._seen)
        self._seen.update({one.body_id: one.at for one in told})
        self._seen = watch.forget(self._seen)
        return [line for one in told for line in self._lines(one)]

    async def end(self) -> None:
        """Look on no more: what is told from now on is told to others, or to nobody."""
        async with self._vault.database.hot() as connection:
            await watch.end(connection, self._source.source_id, self._watcher)

    async def _renew(self) -> None:
        self._renewed = self._vault.clock.now()
        async with self._vault.database.hot() as connection:
            await watch.renew(connection, self._source.source_id, self._watcher, self._renewed)
            await watch.sweep(connection, self._renewed)

    # --- in words ---------------------------------------------------------------------------------------------------

    def _lines(self, told: Told) -> Iterable[Json]:
        at = isoformat(told.at)
        for line in told.body.lines:
            yield {"at": at, **self._line(line)}
        if told.body.more:
            yield {"at": at, "verdict": "not_shown", "count": told.body.more}

    def _line(self, line: Line) -> Json:
        names = list(self._vault.catalogue.names(line.purposes))
        parts = [self._part(one) for one in line.parts]
        rest: Json = {"parts": parts} | ({"more_parts": line.more_parts} if line.more_parts else {})
        if line.code is None:
            also = {"not_agreed": self._not_agreed(line)}
            return {"type": line.type, "name": line.name, "verdict": "stored", "stored_for": names, **also, **rest}
        why = self._why(Drop(line.type, line.name or line.type, line.code))
        if line.said is not None:
            why |= {"reason": line.said, "remedy": _REFUSED_REMEDY}
        return {"type": line.type, "name": line.name, "verdict": "dropped", "needs": names, **why, **rest}

    def _not_agreed(self, line: Line) -> list[str]:
        """The purposes that the policies collect this event for, and that the person had not agreed to."""
        event = self._vault.catalogue.event(line.type, line.name or "")
        return [] if event is None else list(self._vault.catalogue.names(event.purposes & ~line.purposes))

    def _part(self, drop: Drop) -> Json:
        return {"type": parts_of(drop.type)[0], "name": drop.name, **self._why(drop)}

    def _why(self, drop: Drop) -> Json:
        """Code, reason, remedy; and the lines that would keep it, where lines would."""
        code = CODES.get(drop.reason)
        told: Json = {
            "code": drop.reason,
            "reason": code.meaning if code is not None else _REFUSED,
            "remedy": remedy(drop) if code is not None else _REFUSED_REMEDY,
        }
        found = self._suggester.suggest(drop)
        return told if found is None else {**told, "file": f"{FOLDER}/{found.file}", "lines": list(found.lines)}
