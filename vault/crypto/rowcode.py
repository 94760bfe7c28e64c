"""Codes of rows that decide something by themselves: who writes to the database and holds no key makes none of them.

A code is over every column that decides, each by its kind, so that no two rows have the same bytes; NULL is a value, too:
clearing `revoked_at` is an edit like any other. Why, and which rows: ADR 0126.
"""

from typing import Final
from uuid import UUID

from vault.crypto.mac import mac, same_code

SOURCE: Final = "row-source/1"
DESTINATION_TOKEN: Final = "row-dest-token/1"  # noqa: S105 (a label)
STAFF: Final = "row-staff/1"
STAFF_TOKEN: Final = "row-staff-token1"  # noqa: S105 (a label; 16 letters are all there is)
IDENTITY: Final = "row-identity/1"
_NUMBER: Final = 8

Value = bytes | int | str | UUID | None


def row_code(key: bytes, label: str, *columns: Value) -> bytes:
    """The code of a row; `key` is the one named `rows`."""
    return mac(key, label, *[_bytes(column) for column in columns])


def vouched(stored: bytes | None, key: bytes, label: str, *columns: Value) -> bool:
    """Did somebody with the key write this row?"""
    return stored is not None and same_code(stored, row_code(key, label, *columns))


def _bytes(column: Value) -> bytes:
    if column is None:
        return b""
    if isinstance(column, bytes):
        return b"b" + column
    if isinstance(column, int):  # a truth value too
        return b"n" + int(column).to_bytes(_NUMBER, "big", signed=True)
    return b"s" + column.encode() if isinstance(column, str) else b"u" + column.bytes
