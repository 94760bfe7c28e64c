"""The ledger's bytes: one form for one meaning, and a chain that shows every change."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros
from vault.consent.ledger import (
    NO_HEAD,
    Authority,
    Choice,
    Decision,
    How,
    chain,
    head_of,
    pack_choice,
    parse_choice,
    read_chain,
)
from vault.errors import Unreadable

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "ledger.json").read_text())
AT = Micros(1_790_000_000_000_000)
GRANT = Choice(
    purpose=6, decision=Decision.GRANTED, how=How.API, authority=Authority.SERVER, said_at=AT, received_at=AT, source=1
)
WITHDRAWAL = msgspec.structs.replace(GRANT, decision=Decision.WITHDRAWN)


def changed(**fields: Any) -> Choice:
    return msgspec.structs.replace(GRANT, **fields)


def ledger(*choices: Choice) -> tuple[list[bytes], bytes]:
    entries = [pack_choice(choice) for choice in choices]
    head = NO_HEAD
    for entry in entries:
        head = chain(head, entry)
    return entries, head


@pytest.mark.parametrize("vector", VECTORS["entries"], ids=lambda vector: vector["name"])
def test_an_entry_has_the_bytes_of_its_page(vector: dict[str, Any]) -> None:
    entry = bytes.fromhex(vector["bytes"])
    choice = parse_choice(entry)
    assert pack_choice(choice) == entry
    for name, value in vector["fields"].items():
        found = getattr(choice, name)
        assert (found.hex() if isinstance(found, bytes) else list(found) if name == "covers" else found) == value


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_bytes_that_no_writer_makes_are_unreadable(vector: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        parse_choice(bytes.fromhex(vector["bytes"]))


def test_the_chain_has_the_heads_of_its_page() -> None:
    head = NO_HEAD
    for vector, expected in zip(VECTORS["entries"], VECTORS["heads"], strict=True):
        head = chain(head, bytes.fromhex(vector["bytes"]))
        assert head.hex() == expected


def test_the_chain_is_sha256_over_framed_parts() -> None:
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ledger/1", NO_HEAD, b"entry"))
    assert chain(NO_HEAD, b"entry") == hashlib.sha256(parts).digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"purpose": 63},
        {"purpose": -1},
        {"said_at": Micros(AT + 1)},  # later than its receipt
        {"said_at": Micros(-1)},
        {"device": b"short"},
        {"event_key": bytes(17)},
        {"about": bytes(15)},
        {"evidence": bytes(31)},
        {"covers": (0,)},
        {"covers": (1 << 16,)},
        {"covers": tuple(range(1, 258))},
        {"notice": "n" * 129},
        {"decision": Decision.DENIED, "ends": AT},  # only a grant ends
        {"decision": Decision.DENIED, "covers": (1,)},
        {"decision": Decision.INVALIDATED, "source": 0},  # would void what people and officers said
    ],
)
def test_an_entry_that_cannot_be_meant_is_not_written(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a choice"):
        pack_choice(changed(**fields))


def test_a_second_spelling_of_an_entry_is_unreadable() -> None:
    entry = pack_choice(GRANT)
    assert entry[:1] == b"\xdc", "an array of 17 has a two-byte length, so a longer one exists"
    with pytest.raises(Unreadable):
        parse_choice(b"\xdd" + len(msgspec.msgpack.decode(entry)).to_bytes(4, "big") + entry[3:])


@pytest.mark.parametrize("flip", range(len(pack_choice(GRANT))))
def test_a20_a_flipped_byte_anywhere_is_found(flip: int) -> None:
    entries, head = ledger(GRANT, WITHDRAWAL)
    entries[0] = bytes(byte ^ (at == flip) for at, byte in enumerate(entries[0]))
    with pytest.raises(Unreadable):
        read_chain(entries, 2, head)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda entries: entries[:1], id="the withdrawal taken out"),
        pytest.param(lambda entries: entries[1:], id="the grant taken out"),
        pytest.param(lambda entries: entries[::-1], id="exchanged"),
        pytest.param(lambda entries: [*entries, entries[0]], id="the grant put in again"),
        pytest.param(lambda _: [], id="emptied"),
    ],
)
def test_a20_an_entry_taken_out_put_in_or_moved_is_found(edit: Callable[[list[bytes]], list[bytes]]) -> None:
    entries, head = ledger(GRANT, WITHDRAWAL)
    assert read_chain(entries, 2, head) == (GRANT, WITHDRAWAL)
    with pytest.raises(Unreadable):
        read_chain(edit(entries), 2, head)


def test_a_ledger_without_entries_has_the_empty_head() -> None:
    assert read_chain([], 0, NO_HEAD) == ()
    with pytest.raises(Unreadable):
        read_chain([], 0, bytes(31) + b"\x01")


def test_a_count_that_does_not_fit_is_found() -> None:
    entries, head = ledger(GRANT)
    with pytest.raises(Unreadable):
        read_chain(entries, 2, head)


def test_person_and_officer_rank_alike_above_server_above_client() -> None:
    assert Authority.PERSON.rank == Authority.OFFICER.rank > Authority.SERVER.rank > Authority.CLIENT.rank


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_the_head_of_many_entries_is_the_chain_over_each(entries: list[bytes]) -> None:
    head = NO_HEAD
    for entry in entries:
        head = chain(head, entry)
    assert head_of(entries) == head
