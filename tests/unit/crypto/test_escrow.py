"""Shares of the root key: enough give it back, fewer give nothing, and no slip passes (threats H7)."""

import hmac
from collections import Counter
from itertools import combinations
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import MnemonicError, Share, combine_mnemonics

from vault.crypto.escrow import join, split
from vault.errors import Invalid
from vault.ids import random_bytes

# Two of five shares that wallets of several makers test with, and the BIP-32 root key that they all must come to, for the
# passphrase TREZOR: the key is HMAC-SHA-512 of the shared secret, so it shows whether the secret came out right.
PUBLISHED: Final = (
    (
        "hobo romp academic axis august founder knife legal recover alien expect emphasis loan kitchen involve teacher"
        " capture rebuild trial numb spider forward ladle lying voter typical security quantity hawk legs idle leaves gasoline"
    ),
    (
        "hobo romp academic agency ancestor industry argue sister scene midst graduate profile numb paid headset airport"
        " daisy flame express scene usual welcome quick silent downtown oral critical step remove says rhythm venture aunt"
    ),
)
ROOT: Final = (
    "xprv9s21ZrQH143K2o6EXEHpVy8TCYoMmkBnDCCESLdR2ieKwmcNG48ck2XJQY4waS7RUQcXqR9N7HnQbUVEDMWYyREdF1idQqxFHuCfK7fqFni"
)
SPLITS: Final = 64  # each shows 32 bytes
BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def test_the_library_joins_shares_as_other_implementations_do() -> None:
    secret = combine_mnemonics(list(PUBLISHED), b"TREZOR")
    made = hmac.digest(b"Bitcoin seed", secret, "sha512")
    number = 0
    for letter in ROOT:
        number = number * 58 + BASE58.index(letter)
    published = number.to_bytes(82, "big")
    assert published[13:45] == made[32:]  # the chain code
    assert published[46:78] == made[:32]  # the key


@settings(max_examples=15)
@given(st.binary(min_size=32, max_size=32), st.integers(2, 5), st.integers(0, 3))
def test_any_threshold_of_the_shares_gives_the_key_back_and_one_fewer_gives_nothing(
    root: bytes, threshold: int, more: int
) -> None:
    lines = split(root, threshold + more, threshold)
    for some in list(combinations(lines, threshold))[:3]:
        assert join(some) == root
        with pytest.raises(Invalid):
            join(some[:-1])
    assert join(lines) == root
    with pytest.raises(Invalid):
        join([lines[0]] * threshold)


def test_h7_one_share_of_two_is_the_same_noise_whatever_the_key() -> None:
    """Interpolation through one point: for every value of a byte of the key there is just one line through the share."""
    counts: dict[bytes, Counter[int]] = {}
    for root in (bytes(32), b"\xff" * 32):
        seen: Counter[int] = Counter()
        for _ in range(SPLITS):
            share = Share.from_mnemonic(split(root, 3, 2)[0])
            seen.update(share.value)
        counts[root] = seen
    for seen in counts.values():
        expected = SPLITS * 32 / 256
        chi = sum((seen[value] - expected) ** 2 / expected for value in range(256))
        assert chi < 400  # 255 degrees of freedom: more than that comes once in 10 million runs


def test_shares_of_two_sets_and_miswritten_ones_are_refused() -> None:
    root = random_bytes(32)
    first, second = split(root, 3, 2), split(root, 3, 2)
    with pytest.raises(Invalid):
        join([first[0], second[1]])
    words = first[1].split()
    for at in (0, 3, 10, len(words) - 1):
        wrong = [*words]
        wrong[at] = "academic" if words[at] != "academic" else "acid"
        with pytest.raises(Invalid):
            join([first[0], " ".join(wrong)])
    with pytest.raises(Invalid):
        join(["", "not words of the list"])
    with pytest.raises(MnemonicError):
        Share.from_mnemonic("academic acid")


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (3, 1), (2, 3), (17, 2)])
def test_numbers_that_would_protect_nothing_are_refused(shares: int, threshold: int) -> None:
    with pytest.raises(Invalid):
        split(bytes(32), shares, threshold)
