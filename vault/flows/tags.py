"""The keyed tags of an identifier: the one that finds a person, and the one that stays when the person is erased.

Two keys, so that neither tells of the other: a tombstone cannot be looked up in `identity`, nor an old copy of `identity`
in the tombstones. Holds no identifier; `normal` is the normal form that `identity.identifiers.normalise` made.
"""

from typing import Final

from vault.crypto.blind import tag
from vault.keys import names
from vault.keys.keyring import Keyring

_FINDS: Final = "identity/1"
_TOMBSTONE: Final = "tombstone/1"
_ACCOUNT: Final = "account/1"


def identity_tag(keyring: Keyring, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the index key of the kind: the key of `identity` and `identifier` rows."""
    return finding_tag(keyring.key(names.index(kind_name)), kind_name, normal)


def finding_tag(index_key: bytes, kind_name: str, normal: bytes) -> bytes:
    """As `identity_tag`, with the index key of the kind at hand."""
    return tag(index_key, _FINDS, kind_name.encode(), normal)


def account_tag(index_key: bytes, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the index key of the kind that names accounts: the key of `membership` rows. Finds no person."""
    return tag(index_key, _ACCOUNT, kind_name.encode(), normal)


def tombstone_tag(keyring: Keyring, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the tombstone key: the key of a `tombstone` row."""
    return tag(keyring.key(names.TOMBSTONE), _TOMBSTONE, kind_name.encode(), normal)
