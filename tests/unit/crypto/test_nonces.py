"""No (key, nonce) pair comes twice, whatever forks: a nonce is drawn at the call, from the operating system (threats A9)."""

import os

import pytest

from vault.crypto.aead import NONCE_BYTES, Aead

WORKERS = 64
EACH = 1_000_000 // WORKERS  # a million seals of one hot key between them
CHECKED_TOGETHER = 20  # processes at once: each keeps its nonces in memory until it hands them over


def seals(pipe: int, cipher: Aead) -> None:
    """What a forked worker does: it seals under the key that it was born with, and hands over the nonces."""
    try:
        with os.fdopen(pipe, "wb") as out:
            encrypt = cipher.encrypt
            out.write(b"".join([encrypt(b"", b"")[:NONCE_BYTES] for _ in range(EACH)]))
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a9_workers_forked_after_import_never_share_a_nonce() -> None:
    """64 of them, a million seals of one hot key."""
    cipher = Aead(bytes(32))
    cipher.encrypt(b"", b"")  # warm: whatever state there were would be inherited by all
    seen: set[bytes] = set()
    for start in range(0, WORKERS, CHECKED_TOGETHER):
        pipes = []
        for _ in range(min(CHECKED_TOGETHER, WORKERS - start)):
            reads, writes = os.pipe()
            if not (child := os.fork()):
                os.close(reads)
                seals(writes, cipher)
            os.close(writes)
            pipes.append((child, reads))
        for child, reads in pipes:
            with os.fdopen(reads, "rb") as handed:
                nonces = handed.read()
            assert os.waitpid(child, 0)[1] == 0
            assert len(nonces) == EACH * NONCE_BYTES
            seen.update(nonces[at : at + NONCE_BYTES] for at in range(0, len(nonces), NONCE_BYTES))
    assert len(seen) == WORKERS * EACH
