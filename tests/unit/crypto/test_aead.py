"""Sealing: NIST's vectors through our function, one error for every cause, fresh nonces across forks."""

import ast
import copy
import os
import pickle
from pathlib import Path

import cryptography_vectors
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vault.crypto
from vault.crypto import aead
from vault.crypto.aead import NONCE_BYTES, OVERHEAD_BYTES, Aead, seal, unseal
from vault.errors import Unavailable, Unreadable

KEY = bytes(range(32))
WORKERS = 64
SEALED_EACH = 1_000_000 // WORKERS  # a million of one hot key (threats A9)


def nist(name: str) -> list[dict[str, str]]:
    """The cases of a NIST CAVP file with 96-bit nonces and 128-bit tags, which are the only ones we make."""
    cases: list[dict[str, str]] = []
    sizes: dict[str, str] = {}
    with cryptography_vectors.open_vector_file(f"ciphers/AES/GCM/{name}", "r") as file:
        for line in file:
            text = line.strip()
            if text.startswith("["):
                left, _, right = text.strip("[]").partition(" = ")
                sizes[left] = right
            elif text.startswith("Count"):
                cases.append({"sizes": f"{sizes['IVlen']}/{sizes['Taglen']}"})
            elif text == "FAIL":
                cases[-1]["FAIL"] = ""
            elif " =" in text and not text.startswith("#"):
                left, _, right = text.partition(" =")
                cases[-1][left] = right.strip()
    return [case for case in cases if case["sizes"] == "96/128"]


@pytest.mark.parametrize("name", ["gcmDecrypt256.rsp", "gcmEncryptExtIV256.rsp"])
def test_nist_vectors_open_or_fail_as_stated(name: str) -> None:
    cases = nist(name)
    assert len(cases) > 300
    for case in cases:
        sealed = bytes.fromhex(case["IV"] + case["CT"] + case["Tag"])
        if "FAIL" in case:
            with pytest.raises(Unreadable):
                unseal(bytes.fromhex(case["Key"]), sealed, bytes.fromhex(case["AAD"]))
        else:
            plain = unseal(bytes.fromhex(case["Key"]), sealed, bytes.fromhex(case["AAD"]))
            assert plain == bytes.fromhex(case["PT"])


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_what_was_sealed_opens(plaintext: bytes, context: bytes) -> None:
    sealed = seal(KEY, plaintext, context)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert Aead(KEY).decrypt(memoryview(sealed), context) == plaintext


@given(st.binary(max_size=40), st.binary(max_size=20), st.data())
def test_any_flipped_bit_is_unreadable(plaintext: bytes, context: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plaintext, context))
    bit = data.draw(st.integers(min_value=0, max_value=len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable):
        unseal(KEY, bytes(sealed), context)


@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 27])
def test_a12_what_is_too_short_for_nonce_and_tag_is_unreadable(length: int) -> None:
    with pytest.raises(Unreadable):
        unseal(KEY, seal(KEY, b"", b"")[:length], b"")


def test_a19_every_cause_gives_the_same_error() -> None:
    sealed = seal(KEY, b"value", b"here")
    attempts = [(bytes(32), sealed, b"here"), (KEY, sealed, b"there"), (KEY, sealed[:-1], b"here"), (KEY, b"", b"here")]
    told = set()
    for key, blob, context in attempts:
        with pytest.raises(Unreadable) as caught:
            unseal(key, blob, context)
        told.add((str(caught.value), caught.value.reason, caught.value.__cause__, caught.value.__suppress_context__))
    assert len({entry[:3] for entry in told}) == 1


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 64])
def test_only_256_bit_keys_are_taken(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Aead(bytes(length))


def test_a9_forked_workers_never_draw_a_nonce_twice() -> None:
    cipher = Aead(KEY)  # opened before the fork, as a server's preloaded key would be
    pipes = []
    for _ in range(WORKERS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "wb") as out:
                for _ in range(SEALED_EACH):
                    out.write(cipher.encrypt(b"", b"")[:NONCE_BYTES])
            os._exit(0)
        os.close(writer)
        pipes.append((child, reader))
    nonces: list[bytes] = []
    for child, reader in pipes:
        with os.fdopen(reader, "rb") as source:
            drawn = source.read()
        nonces += [drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)]
        assert os.waitpid(child, 0)[1] == 0
    assert len(nonces) == WORKERS * SEALED_EACH
    assert len(set(nonces)) == len(nonces)


def test_a9_no_module_here_could_draw_from_a_weak_source() -> None:
    vault_folder = Path(next(iter(vault.crypto.__path__))).parent
    for folder in ("crypto", "keys", "state", "journal"):
        for path in (vault_folder / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                module = node.module if isinstance(node, ast.ImportFrom) else None
                assert not {"random", "uuid1", "uuid4", *([module] if module == "random" else [])} & {*names, module}, (
                    path
                )


def test_a10_a_key_that_sealed_its_fill_seals_no_more() -> None:
    cipher = Aead(KEY)
    cipher._sealed = aead.MAX_SEALED - 1
    last = cipher.encrypt(b"last", b"")
    with pytest.raises(Unavailable):
        cipher.encrypt(b"one too many", b"")
    assert cipher.decrypt(last, b"") == b"last"


def test_an_opened_key_shows_nothing_and_does_not_travel() -> None:
    cipher = Aead(KEY)
    assert repr(cipher) == "Aead(...)"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(cipher)
    with pytest.raises(TypeError, match="does not leave"):
        copy.copy(cipher)
