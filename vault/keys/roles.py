"""What a process is for, and the keys that this needs: the table of docs/reference/keys.md as code.

A role is a set of doors (HTTP), of duties (loops of the worker), and, where it releases values, of purposes. Promises: a
role that releases values has no key of another purpose, and none of `rights`; a writer may seal for `rights` and cannot
open it; only the desk opens it. What no door or duty needs, no role gets.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from vault.catalogue.numbers import RIGHTS
from vault.crypto.keyservice import lock_of
from vault.errors import ConfigError
from vault.keys import names

INGEST: Final = "ingest"
FEED: Final = "feed"
DESK: Final = "desk"
DOORS: Final = (INGEST, FEED, DESK)

CHANGES: Final = "changes"
AUDIT: Final = "audit"
WEBHOOKS: Final = "webhooks"
REQUESTS: Final = "requests"
DUE: Final = "due"
DUTIES: Final = (CHANGES, AUDIT, WEBHOOKS, REQUESTS, DUE)

DUTIES_OF: Final = {INGEST: (DUE,), FEED: (), DESK: (REQUESTS,)}
"""The loops that need the keys of a door anyway: its processes run them."""

RELEASING: Final = frozenset((FEED, WEBHOOKS))

_WRITER: Final = (
    names.STATE, names.EVENT, names.DEDUP, names.TOMBSTONE, names.PSEUDONYM, names.index("*"), names.signing("receipt"),
    names.ROWS,
)  # fmt: skip
_DESK: Final = (
    names.STATE, names.EVENT, names.TOMBSTONE, names.PSEUDONYM, names.REFERENCE, names.SALT, names.REQUEST, names.ROWS,
    names.index("*"), names.signing("*"), "case-*", "archive-*", names.epochs(RIGHTS),
)  # fmt: skip
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    INGEST: _WRITER,
    FEED: (names.STATE, names.PSEUDONYM, names.CURSOR, names.ROWS, names.index("*")),
    DESK: _DESK,
    CHANGES: (),
    AUDIT: (names.signing("audit"),),
    WEBHOOKS: (names.STATE, names.PSEUDONYM, names.CURSOR, names.webhook("*")),
    REQUESTS: _DESK,
    DUE: _WRITER,
}
_ALL_PURPOSES: Final = frozenset((INGEST, DESK, REQUESTS, DUE))
_SEALS_RIGHTS: Final = frozenset((INGEST, DUE))


class ProcessRole(msgspec.Struct, frozen=True):
    """What one process does. Without `purposes`, a releasing role serves all."""

    doors: tuple[str, ...] = DOORS
    duties: tuple[str, ...] = DUTIES
    purposes: tuple[str, ...] = ()

    @property
    def parts(self) -> frozenset[str]:
        """Doors and duties together."""
        return frozenset((*self.doors, *self.duties))

    @property
    def whole(self) -> bool:
        """True for one-process mode: everything, for every purpose."""
        return self.parts == EVERYTHING.parts and not self.purposes

    @property
    def releases(self) -> bool:
        """True if values leave the vault by this process."""
        return not self.parts.isdisjoint(RELEASING)

    def check(self) -> None:
        """Raises `ConfigError` for a role that would undo the separation: writers and desk beside a release door."""
        if self.whole or not self.releases:
            if self.purposes and not self.whole:
                raise ConfigError("`--purposes` is for what releases values: the door feed and the duty webhooks")
            return
        if self.parts & _ALL_PURPOSES:
            raise ConfigError(
                "a process that releases values (feed, webhooks) cannot also write or answer requests: those hold every"
                " purpose's keys; run it apart, or run everything in one process"
            )
        if not self.purposes:
            raise ConfigError("a process that releases values (feed, webhooks) names its `--purposes`")

    def numbers(self, known: dict[str, int]) -> tuple[int, ...]:
        """The numbers of the purposes whose keys this role holds. Raises `ConfigError` for an unknown name."""
        if self.all_purposes:
            return tuple(known.values())
        unknown = sorted(set(self.purposes) - known.keys())
        if unknown:
            raise ConfigError(f"there is no purpose {unknown[0]}; purposes.toml has {', '.join(sorted(known))}")
        return tuple(known[name] for name in self.purposes)

    def names(self, purposes: Iterable[int]) -> tuple[str, ...]:
        """The key names that this role may hold or make, given the numbers of its purposes. A name may end in `*`."""
        wanted = [names.JOURNAL, *(names.epochs(number) for number in purposes)]
        wanted += ["purpose-*"] if self.all_purposes else []  # those of purposes that the policies had once, too
        wanted += [name for part in self.parts for name in _NEEDS[part]]
        if self.seals_rights:
            wanted.append(names.epochs(RIGHTS))
        return tuple(sorted(set(wanted)))

    @property
    def all_purposes(self) -> bool:
        """True for those who write and those who answer requests: they hold the keys of every purpose."""
        return not self.parts.isdisjoint(_ALL_PURPOSES)

    @property
    def seals_rights(self) -> bool:
        """True if it wraps for `rights`."""
        return not self.parts.isdisjoint(_SEALS_RIGHTS)

    def locks(self, purposes: Iterable[int]) -> tuple[frozenset[str], frozenset[str]]:
        """The key service's own keys for `names`: those to open, and those to seal under only."""
        wanted = self.names(purposes)
        opened = {lock for name in wanted for lock in _locks(name) if not lock.endswith("*")}
        if not self.parts & {DESK, REQUESTS}:
            opened.discard(names.epochs(RIGHTS))
        sealed = {names.epochs(RIGHTS)} if self.seals_rights else set()
        return frozenset(opened), frozenset(sealed) - opened


def _locks(name: str) -> list[str]:
    if name == names.signing("*"):
        return [names.signing(use) for use in names.SIGNING_USES]
    return [lock_of(name)]


EVERYTHING: Final = ProcessRole()
