"""Claims about a backup whose disk is full: it says so, and leaves nothing that looks like a backup (threats H13)."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worlds import World, identify
from vault.errors import Invalid
from vault.flows import keys_backup
from vault.flows.backup.archive import Kind
from vault.flows.backup.take import back_up

SMALL = 1000  # bytes; each of the three is larger


@contextmanager
def full_disk() -> Iterator[None]:
    """This process, and none of the server's, may write no more than that into one file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["data", "keys", "journal"])
async def test_h13_a_backup_on_a_full_disk_says_so_and_leaves_nothing(world: World, tmp_path: Path, kind: Kind) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    target = tmp_path / "backups"
    with full_disk(), pytest.raises(Invalid) as refused:
        await back_up(world.vault, target, (kind,), lambda _: None)
    assert refused.value.reason == "unwritable_file"
    assert "disk is full" in refused.value.hint
    assert [one for one in target.rglob("*") if one.is_file()] == []
    assert len(await back_up(world.vault, target, (kind,), lambda _: None)) == 1  # the same second, with room


async def test_h13_a_backup_of_the_keys_on_a_full_disk_is_no_wrong_name(world: World, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "keys.tar"
    target.parent.mkdir()
    with full_disk(), pytest.raises(Invalid, match="disk is full"):
        await keys_backup.back_up(world.vault, target)
    with pytest.raises(Invalid, match="Name a new file"):
        await keys_backup.back_up(world.vault, tmp_path / "nowhere" / "keys.tar")
    assert list(target.parent.iterdir()) == []
