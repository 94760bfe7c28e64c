"""Policy versions: check a folder, run its examples, apply it as one immutable version, read the live one back.

Promises: only what checks as a whole and whose examples hold is applied; numbers go up by one and never back (threats
E17); a version read from the database is the one that was applied, byte for byte, or it is `Unreadable`.
Must not know: keys, the journal, persons. Whoever applies also journals and audits it, in the same transaction.
"""

from collections.abc import Callable, Mapping

import msgspec

from vault.canonical import canonical_json
from vault.catalogue.load import Catalogue, digest_of, load
from vault.catalogue.toml import Problems
from vault.clock import Micros
from vault.errors import Conflict, PolicyError, Unreadable
from vault.policy import history, store
from vault.policy.examples import Result, run_examples
from vault.policy.gate import Gate
from vault.policy.staff import StaffGate


class Version(msgspec.Struct, frozen=True):
    """One applied policy version."""

    number: int  # from 1
    digest: bytes  # SHA-256 over the files: vault.catalogue.load.digest_of


class Named(msgspec.Struct, frozen=True):
    """The versions that the journal knows, outside the database."""

    applied: Mapping[int, bytes]  # number to digest: these are live or were
    intended: Mapping[int, frozenset[bytes]]  # about to be committed; a crash may have come before or after

    @property
    def newest(self) -> int:
        """The number of the newest that is known to be committed; 0 before the first."""
        return max(self.applied, default=0)

    def knows(self, number: int, digest: bytes) -> bool:
        """May a row say this? What the journal never heard of, nobody applied."""
        if number > self.newest:
            return digest in self.intended.get(number, frozenset())
        return self.applied.get(number) == digest


class Checked(msgspec.Struct, frozen=True):
    """A policies folder that holds together, compiled."""

    catalogue: Catalogue
    gate: Gate
    staff_gate: StaffGate


def check(files: Mapping[str, str]) -> Checked:
    """The folder as a whole. Raises `PolicyError` with every problem of the first layer that has any."""
    catalogue = load(files)
    problems: list[str] = []
    try:
        gate = Gate.compile(catalogue)
    except PolicyError as error:
        problems.extend(error.problems)
    try:
        staff_gate = StaffGate.compile(catalogue)
    except PolicyError as error:
        problems.extend(error.problems)
    if problems:
        raise PolicyError(problems)
    return Checked(catalogue, gate, staff_gate)


def run_tests(checked: Checked) -> tuple[Result, ...]:
    """Every example of `tests/` with its outcome. Raises `PolicyError` for one that cannot be understood."""
    return run_examples(checked.catalogue, checked.gate, checked.staff_gate)


async def apply(connection: store.Connection, files: Mapping[str, str], applied_by: str, now: Micros) -> Version:
    """Make `files` the live version, in the caller's transaction; the live one again changes nothing.

    Raises `PolicyError` (it does not hold together, an example fails, or it changes what no version may), or `Conflict`
    (an older version again, or someone else applied one meanwhile).
    """
    checked = check(files)
    failed = [
        f"{r.place}: {r.claim}: {r.fault}; correct the example or the policy" for r in run_tests(checked) if r.fault
    ]
    if failed:
        raise PolicyError(failed)
    rows = await store.newest_first(connection)
    digest = checked.catalogue.digest
    if rows and rows[0][1] == digest:
        return Version(rows[0][0], digest)
    if any(row[1] == digest for row in rows):
        raise Conflict(
            "These files were an earlier version; change a comment to make them a new one.", code="old_policy"
        )
    problems = Problems()
    history.compare(files, [_files(row) for row in rows], problems)
    if problems:
        raise PolicyError(problems.lines)
    number = rows[0][0] + 1 if rows else 1
    await store.add(connection, number, digest, canonical_json(dict(files)), applied_by, now)
    return Version(number, digest)


async def live(connection: store.Connection, named: Named | None = None) -> tuple[Version, dict[str, str]] | None:
    """The live version and its files; None before the first.

    With `named` the rows are exactly the versions that the journal names, each under its number: none is added, changed or
    taken away. Raises `Unreadable` if they are not, or if the stored files are not those that were applied.
    """
    rows = await store.newest_first(connection)
    if named is not None:
        numbers = [row[0] for row in reversed(rows)]
        whole = numbers == list(range(1, len(rows) + 1)) and len(rows) >= named.newest
        if not whole or not all(named.knows(row[0], row[1]) for row in rows):
            raise Unreadable("The policy versions are not those of the journal.")
    if not rows:
        return None
    return Version(rows[0][0], rows[0][1]), _files(rows[0])


async def put_back(
    connection: store.Connection, named: Named, files_of: Callable[[bytes], bytes | None], now: Micros
) -> list[int]:
    """Adds the versions that the journal names and the table lost, from `files_of` their digest; answers their numbers.

    Raises `Conflict` (code `policy_lost`) for one whose files nobody has.
    """
    have = len(await store.newest_first(connection))
    numbers = list(range(have + 1, named.newest + 1))
    for number in numbers:
        digest = named.applied.get(number, b"")
        files = files_of(digest)
        if files is None or digest_of(_decoded(files)) != digest:
            raise Conflict(
                f"Version {number} of the policies is newer than the database, and the journal's folder lacks its files:"
                f" start once with `policies` naming the folder as it was then (digest {digest.hex()[:16]}).",
                code="policy_lost",
            )
        await store.add(connection, number, digest, files, "journal", now)
    return numbers


async def numbers_given(connection: store.Connection) -> dict[str, set[int]]:
    """Every number that a version ever gave, by what it is unique among: none of them is free."""
    return history.given([_files(row) for row in await store.newest_first(connection)])


def _files(row: store.Row) -> dict[str, str]:
    """The files of a stored version, checked against its digest."""
    files = _decoded(row[2])
    if digest_of(files) != row[1]:
        raise Unreadable("A stored policy version is not the one that was applied.")
    return files


def _decoded(files: bytes) -> dict[str, str]:
    try:
        return msgspec.json.decode(files, type=dict[str, str])
    except msgspec.MsgspecError:
        raise Unreadable("A stored policy version cannot be read.") from None
