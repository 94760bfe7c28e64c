"""What a thief of the database learns from its tags: nothing by counting, nothing by guessing (threats A17, A18)."""

import hashlib
import hmac
from collections import Counter
from uuid import UUID

from tests.worlds import World, identify, order
from vault.crypto.blind import Tagger
from vault.flows.tags import identity_tag
from vault.identity.identifiers import normalise

VALUES = 100_000
FIRST_BYTES = 256


def zipf(count: int) -> list[bytes]:
    """Addresses as often as the words of a language: the first in a tenth of all, most of them once."""
    found: list[bytes] = []
    rank = 1
    while len(found) < count:
        found += [f"person-{rank}@planted.example".encode()] * max(1, count // (12 * rank))
        rank += 1
    return found[:count]


def test_a17_the_same_values_in_two_namespaces_have_no_tag_in_common_and_no_shape() -> None:
    """10^5 Zipf values: no match between two kinds, and the tags of either are spread evenly."""
    values = zipf(VALUES)
    emails, phones = (
        Tagger(bytes((number,)) * 32, "identity/1", kind) for number, kind in ((1, b"email"), (2, b"phone"))
    )
    one, other = Counter(map(emails.tag, values)), Counter(map(phones.tag, values))
    assert one.keys().isdisjoint(other.keys())
    same_key = Tagger(bytes((1,)) * 32, "identity/1", b"phone")  # even where two kinds had one key
    assert one.keys().isdisjoint(map(same_key.tag, set(values)))
    for tags in (one, other):
        assert len(tags) == len(set(values))
        expected = len(tags) / FIRST_BYTES
        spread = sum((count - expected) ** 2 / expected for count in Counter(tag[0] for tag in tags).values())
        assert spread < 340  # chi-square with 255 degrees of freedom: p = 0.0003


async def test_a17_what_many_people_share_is_nowhere_stored_alike(world: World) -> None:
    """One city, one tier, one amount: no column of any table has the same bytes for two people, so nothing can be counted."""
    for number in range(12):
        about = {"email": f"u{number}@planted.example", "firstName": "Maria", "loyaltyTier": "gold", "city": "Graz"}
        await world.send(identify(f"u-{number}", **about), order(f"u-{number}", 20))
    await world.settle()
    columns = await world.rows(
        "SELECT c.table_schema, c.table_name, c.column_name FROM information_schema.columns c WHERE data_type = 'bytea'"
        " AND table_schema IN ('public', 'keys') AND EXISTS (SELECT FROM information_schema.columns s"
        " WHERE s.table_name = c.table_name AND s.table_schema = c.table_schema AND s.column_name = 'subject_id')"
    )
    assert len(columns) > 10
    for schema, table, column in columns:
        shared = await world.rows(
            f"SELECT {column} FROM {schema}.{table} WHERE octet_length({column}) > 0"  # noqa: S608 - names of the schema
            f" GROUP BY {column} HAVING count(DISTINCT subject_id) > 1"
        )
        # what a disclosure was of (which fields, for which purpose) is in clear by design: numbers of policies
        assert not shared or (table, column) in {("disclosure", "detail"), ("disclosure_state", "fields")}, (
            table,
            column,
        )


async def test_a18_a_dictionary_finds_nobody_without_the_key(world: World) -> None:
    """A stolen dump, and every address in the world: hashed in any way that needs no key, none is there."""
    known = [f"person-{number}@planted.example" for number in range(5)]
    for number, address in enumerate(known):
        await world.send(identify(f"u-{number}", email=address))
    rows = await world.rows(
        "SELECT tag FROM identity UNION ALL SELECT tag FROM identifier UNION ALL SELECT tag FROM tombstone"
    )
    stolen = {row[0] for row in rows}
    kind = world.vault.catalogue.identifiers["email"]
    dictionary = [
        normalise(kind, address) for address in (*known, *(f"other-{n}@planted.example" for n in range(2000)))
    ]
    salts = [b"", b"email", b"identity/1", kind.name.encode(), world.vault.incarnation.encode()]
    for value in dictionary:
        assert value is not None
        guesses = set()
        for name in ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"):
            for salt in salts:
                for text in (value, salt + value, salt + b"\x00" + value):
                    guesses.add(hashlib.new(name, text, usedforsecurity=False).digest()[:16])
                    guesses.add(hmac.digest(salt, value, "sha256")[:16])
        assert guesses.isdisjoint(stolen)
    with_key = {identity_tag(world.vault.keyring, "email", value) for value in dictionary if value is not None}
    assert len(with_key & stolen) == len(known)  # the control: whoever has the key finds them all
    assert UUID(int=0) not in {UUID(bytes=tag) for tag in stolen}
