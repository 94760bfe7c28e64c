"""A journal moves from a folder to a database and back: byte for byte, never in two places, never in none."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from vault.clock import Micros
from vault.errors import Conflict, Unavailable
from vault.journal.head import AuditHead
from vault.journal.journal import Journal
from vault.journal.moving import move
from vault.journal.narrowing import Restriction
from vault.journal.opening import open_journal

KEY = bytes(range(32))
ROOT = b"\x07" * 32
Open = Callable[..., Journal]


def narrowings(count: int) -> list[Restriction]:
    return [Restriction(Micros(n), UUID(int=n)) for n in range(1, count + 1)]


def entries(journal: Journal) -> list[int]:
    return [entry.narrowing.at for entry in journal.read()]


@pytest.fixture(params=["to the server", "to the folder"])
def ways(request: pytest.FixtureRequest, tmp_path: Path, empty_url: str) -> Iterator[tuple[Open, Open]]:
    """What opens the old place, and the new one."""
    made: list[Journal] = []

    def opens(place: Path | str) -> Open:
        def opened(**options: bool) -> Journal:
            made.append(open_journal(place, KEY, **options))
            return made[-1]

        return opened

    places = [tmp_path / "journal", empty_url]
    old, new = places if request.param == "to the server" else reversed(places)
    yield opens(old), opens(new)
    for journal in made:
        journal.close()


def test_a_moved_journal_is_the_same_and_nothing_starts_or_writes_at_the_old_place(
    ways: tuple[Open, Open], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vault.journal.moving.BATCH", 2)
    old, new = ways
    writer, mover = old(), old(shut=True)
    writer.append_now(narrowings(5))
    writer.write_head(3, ROOT)
    writer.keep_policy(ROOT, b"{}")
    assert move(mover, new(shut=True)) == writer.head
    there = new(begin=False)
    assert there.verify() == writer.head
    assert entries(there) == [1, 2, 3, 4, 5]
    assert there.read_head() == AuditHead(3, ROOT)
    assert there.policy(ROOT) == b"{}"
    for attempt in (
        lambda: writer.append_now(narrowings(1)),
        lambda: old(begin=False),
        old,
    ):
        with pytest.raises(Unavailable):
            attempt()
    assert there.append_now(narrowings(1)) == 6


def test_a_journal_moves_back_over_its_own_beginning(ways: tuple[Open, Open]) -> None:
    old, new = ways
    old().append_now(narrowings(2))
    move(old(shut=True), new(shut=True))
    new(begin=False).append_now(narrowings(3))
    end = move(new(shut=True), old(shut=True))
    again = old(begin=False)
    assert (end.number, again.verify()) == (5, end)
    assert again.append_now(narrowings(1)) == 6
    with pytest.raises(Unavailable):
        new(begin=False)


@pytest.mark.parametrize("step", ["payloads", "append_shut", "verify", "read_head", "reopen"])
def test_a_move_that_stops_anywhere_leaves_one_place_or_none_and_goes_on_when_asked_again(
    ways: tuple[Open, Open], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """SystemExit stands for the power that fails: what undoes a mere error is not run either."""
    old, new = ways
    old().append_now(narrowings(3))
    source, target = old(shut=True), new(shut=True)

    def stop(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        on = target if step in {"append_shut", "reopen"} else source
        if step == "verify":  # the second of the target: all is copied, nothing is open
            patched.setattr(target, "verify", _nth(target.verify, 3, stop))
        else:
            patched.setattr(on, step, stop)
        if step != "reopen":
            patched.setattr(source, "reopen", lambda: None)
        with pytest.raises(SystemExit):
            move(source, target)
    for opened in (old, new):
        with pytest.raises(Unavailable):
            opened(begin=False)
    assert move(old(shut=True), new(shut=True)).number == 3
    assert entries(new(begin=False)) == [1, 2, 3]
    with pytest.raises(Unavailable):
        old(begin=False)


def _nth(whole: Callable[[], object], number: int, stop: Callable[[], None]) -> Callable[[], object]:
    seen = 0

    def called() -> object:
        nonlocal seen
        seen += 1
        if seen == number:
            stop()
        return whole()

    return called


def test_a_move_that_fails_leaves_the_journal_where_it_was(
    ways: tuple[Open, Open], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = ways
    old().append_now(narrowings(3))
    source, target = old(shut=True), new(shut=True)

    def refused(_: object) -> int:
        raise Unavailable("no room")

    monkeypatch.setattr(target, "append_shut", refused)
    with pytest.raises(Unavailable, match="cannot answer"):
        move(source, target)
    assert old(begin=False).append_now(narrowings(1)) == 4


@pytest.mark.parametrize("there", [1, 4])
def test_a_place_with_another_journal_or_a_longer_one_is_refused_and_nothing_changes(
    ways: tuple[Open, Open], there: int
) -> None:
    old, new = ways
    old().append_now(narrowings(3))
    other = [Restriction(Micros(9), UUID(int=9))] if there == 1 else narrowings(there)
    new().append_now(other)
    with pytest.raises(Conflict):
        move(old(shut=True), new(shut=True))
    assert old(begin=False).append_now(narrowings(1)) == 4
    assert new(begin=False).verify().number == there
