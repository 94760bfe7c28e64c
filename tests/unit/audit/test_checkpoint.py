"""Signed heads, against the note format's own rules (threats F2, F4)."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from vault.audit.checkpoint import Checkpoint, check_follows, origin_of, read, sign, verifier_key
from vault.crypto.signing import Signer
from vault.errors import Conflict, Unreadable
from vault.merkle import consistency_proof, grow, leaf_hash, root

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/checkpoint.json").read_text())
SIGNER = Signer("audit", bytes(range(32)))
STRANGER = Signer("audit", bytes(32))
ORIGIN = origin_of("00112233aabbccdd")
ONE = Checkpoint(ORIGIN, 7, hashlib.sha256(b"root").digest())


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_signed_head_comes_back(size: int, top: bytes) -> None:
    made = Checkpoint(ORIGIN, size, top)
    assert read(sign(made, SIGNER), [SIGNER.public], ORIGIN) == made


def test_a_note_is_what_the_standard_says_it_is() -> None:
    """Read here line by line, with another library's verification."""
    text, line = sign(ONE, SIGNER).split("\n\n")
    assert text.split("\n") == [ORIGIN, "7", base64.b64encode(ONE.root).decode()]
    dash, name, blob = line.rstrip("\n").split(" ")
    assert (dash, name) == ("—", ORIGIN)
    data = base64.b64decode(blob)
    assert data[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + SIGNER.public).digest()[:4]
    Ed25519PublicKey.from_public_bytes(SIGNER.public).verify(data[4:], f"{text}\n".encode())


def test_the_verifier_key_names_the_same_key() -> None:
    name, number, key = verifier_key(ORIGIN, SIGNER.public).split("+", 2)
    assert name == ORIGIN
    assert base64.b64decode(key) == b"\x01" + SIGNER.public
    assert len(number) == 8


@given(st.data())
def test_any_changed_letter_makes_a_note_unreadable(data: st.DataObject) -> None:
    note = sign(ONE, SIGNER)
    place = data.draw(st.integers(0, len(note) - 1))
    letter = data.draw(st.characters(codec="utf-8"))
    changed = note[:place] + letter + note[place + 1 :]
    if changed != note:
        with pytest.raises(Unreadable):
            read(changed, [SIGNER.public], ORIGIN)


def test_lines_of_unknown_signers_are_passed_over() -> None:
    note = sign(ONE, SIGNER)
    witness = base64.b64encode(b"\x01\x02\x03\x04" + bytes(72)).decode()
    cosigned = note + f"— witness.example/w1 {witness}\n"
    assert read(cosigned, [STRANGER.public, SIGNER.public], ORIGIN) == ONE


@pytest.mark.parametrize("publics", [[], [STRANGER.public], [b"short"]])
def test_a_note_of_an_unknown_key_is_unreadable(publics: list[bytes]) -> None:
    with pytest.raises(Unreadable):
        read(sign(ONE, SIGNER), publics, ORIGIN)


def test_a_note_of_another_log_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        read(sign(ONE, SIGNER), [SIGNER.public], origin_of("ffff"))


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_the_text_is_that_of_the_vectors(vector: dict[str, str]) -> None:
    signer = Signer("audit", bytes.fromhex(vector["seed"]))
    made = Checkpoint(vector["origin"], int(vector["size"]), bytes.fromhex(vector["root"]))
    assert sign(made, signer) == vector["note"]
    assert signer.public.hex() == vector["public"]
    assert verifier_key(vector["origin"], signer.public) == vector["verifier_key"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vectors_are_unreadable(vector: dict[str, str]) -> None:
    with pytest.raises(Unreadable):
        read(vector["note"], [bytes.fromhex(vector["public"])], vector["origin"])


def tree(*leaves: bytes) -> tuple[Checkpoint, dict[tuple[int, int], bytes]]:
    nodes = {(node.level, node.position): node.hash for node in grow(0, [leaf_hash(leaf) for leaf in leaves], _none)}
    top = root(len(leaves), lambda level, position: nodes[level, position])
    return Checkpoint(ORIGIN, len(leaves), top), nodes


def _none(level: int, position: int) -> bytes:
    raise AssertionError(f"nothing is stored at {level}, {position}")


def test_f2_a_witness_takes_a_longer_log_and_refuses_a_cut_or_split_one() -> None:
    old, _ = tree(b"a", b"b", b"c")
    new, nodes = tree(b"a", b"b", b"c", b"d", b"e")
    split, _ = tree(b"a", b"b", b"X")
    proof = consistency_proof(3, 5, lambda level, position: nodes[level, position])
    check_follows(old, new, proof)
    check_follows(old, old, [])
    with pytest.raises(Conflict) as refused:
        check_follows(old, split, [])
    assert refused.value.reason == "log_split"
    with pytest.raises(Conflict):
        check_follows(new, old, proof)
    with pytest.raises(Unreadable):
        check_follows(split, new, proof)
    with pytest.raises(Unreadable):
        check_follows(old, Checkpoint("profile-vault/audit/other", 5, new.root), proof)
