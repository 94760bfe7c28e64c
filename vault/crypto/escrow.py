"""The root key in shares, as SLIP-39 has them: lines of words, of which so many give the key back and fewer give nothing.

Each line names its set, its own number and how many are needed, and carries a checksum: a slip of the pen shows. The library
is the reference implementation (ADR 0112); it draws its random bytes from the operating system. Shows nothing of itself.
"""

from collections.abc import Sequence
from typing import Final

from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics

from vault.crypto.derive import KEY_BYTES
from vault.errors import Invalid

MOST: Final = 16  # of SLIP-39
LEAST: Final = 2  # of one share nothing must follow
ITERATIONS: Final = 0  # the key is random, not a passphrase: nothing is gained by stretching it


def split(root: bytes, shares: int, threshold: int) -> list[str]:
    """So many lines, any `threshold` of which give `root` back. Raises `Invalid` (`bad_shares`) for numbers that cannot be."""
    if len(root) != KEY_BYTES:
        raise ValueError("a root key has 32 bytes")
    if not LEAST <= threshold <= shares <= MOST:
        raise Invalid(
            f"From {LEAST} to {MOST} shares, and a threshold of at least {LEAST} and at most all.", code="bad_shares"
        )
    (lines,) = generate_mnemonics(1, [(threshold, shares)], root, iteration_exponent=ITERATIONS)
    return list(lines)


def join(lines: Sequence[str]) -> bytes:
    """The root key. Raises `Invalid` (`bad_shares`) for too few, for one that was miswritten, or for shares of two sets."""
    try:
        known = {share.index: line for line in lines for share in (Share.from_mnemonic(line),)}
        needed = Share.from_mnemonic(lines[0]).member_threshold
        root = bytes(combine_mnemonics(list(known.values())[:needed]))
    except (MnemonicError, IndexError, ValueError):
        root = b""
    if len(root) != KEY_BYTES:
        raise Invalid(
            "These lines give no key back: too few, one is miswritten, or they are of different sets. Each is one line of"
            " words; the first three are the same in all of one set.",
            code="bad_shares",
        )
    return root
