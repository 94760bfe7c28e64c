"""Houses for tests that run the real processes: one of its own for a test that asks, one for a file that shares."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.house import COMMAND, House


@contextmanager
def _house() -> Iterator[House]:
    assert COMMAND.exists(), "install the project first: pip install --no-deps --editable ."
    # a short path, for the socket; as root, the database server's user may pass through it, and no further
    folder = Path(tempfile.mkdtemp(prefix="pv-e2e-", dir="/tmp"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    house = House(folder)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture
def house() -> Iterator[House]:
    """A vault of this test alone; nothing has been started yet."""
    with _house() as made:
        yield made


@pytest.fixture
def new_house() -> Iterator[Callable[[], House]]:
    """Makes vaults, for tests that compare them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(_house())


@pytest.fixture(scope="module")
def shared_house() -> Iterator[House]:
    """A vault that the tests of one file share."""
    with _house() as made:
        yield made
