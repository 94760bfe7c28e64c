"""The attacks, one function each: what somebody who owns the database and holds no key does to one person's rows.

Each is told in the words of its first line. What the vault must answer is not decided here but in `play`.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.attack.scene import MARKETING, Attacker, Scene
from tests.unit.crypto.gcm_two_keys import two_key_ciphertext
from vault.config import load
from vault.crypto.services.chosen import service_of
from vault.crypto.wrap import place_of
from vault.keys import names
from vault.keys.compartments import Wrap, pack_wraps, parse_wraps
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.profile.values import pack_fields, parse_fields

Act = Callable[[Attacker, Scene, UUID], None]
MASK: Final = 1 << MARKETING
ADVERTISING: Final = 7
SUPPORT: Final = 1


class Attack(NamedTuple):
    """One attack. `victim` names the person; `threats` are ids of the catalogue."""

    victim: str
    threats: str
    title: str
    act: Act
    withdraws: bool = False  # the person withdraws first; the attack wants it undone


# --- rows of values ---------------------------------------------------------------------------------------------------


def swap_fields(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    rows = attacker.look("SELECT purposes, generation, fields FROM compartment WHERE subject_id = $1", victim)
    for purposes, generation, fields in rows:
        heads, values = parse_fields(fields)
        turned = [*values[1:], *values[:1]]
        pairs = [(head._replace(length=len(value)), value) for head, value in zip(heads, turned, strict=True)]
        attacker.do(
            "UPDATE compartment SET fields = $4 WHERE subject_id = $1 AND purposes = $2 AND generation = $3",
            victim, purposes, generation, pack_fields(pairs),
        )  # fmt: skip


def move_values(attacker: Attacker, scene: Scene, victim: UUID) -> None:
    attacker.do(
        "UPDATE compartment mine SET fields = theirs.fields, version = theirs.version FROM compartment theirs"
        " WHERE mine.subject_id = $1 AND theirs.subject_id = $2 AND mine.purposes = theirs.purposes"
        " AND mine.generation = theirs.generation",
        victim, scene.people["bystander"],
    )  # fmt: skip


def widen_tag(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    attacker.do("UPDATE compartment SET purposes = purposes | 128 WHERE subject_id = $1 AND purposes & 128 = 0", victim)
    wraps = attacker.look("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", victim)[0][0]
    wide: dict[tuple[int, int], object] = {}
    for one in parse_wraps(wraps):
        wide.setdefault((one.purposes | 128, one.generation), one._replace(purposes=one.purposes | 128))
    attacker.do(
        "UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", victim, pack_wraps(list(wide.values()))  # type: ignore[arg-type]
    )  # fmt: skip


def yesterdays_values(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    attacker.do(
        "UPDATE compartment today SET fields = old.fields, version = old.version FROM yesterday.compartment old"
        " WHERE today.subject_id = $1 AND old.subject_id = $1 AND today.purposes = old.purposes"
        " AND today.generation = old.generation",
        victim,
    )


def forged_row(attacker: Attacker, scene: Scene, victim: UUID) -> None:
    attacker.do(
        "INSERT INTO compartment SELECT $1, purposes, generation + 1, compartment_id, version, fields FROM compartment"
        " WHERE subject_id = $2",
        victim, scene.people["bystander"],
    )  # fmt: skip


# --- choices ----------------------------------------------------------------------------------------------------------


def flip_choice(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    """Bytes 11 to 18 of a state row are what was granted, 19 to 26 what was refused; marketing is the seventh bit."""
    attacker.do(
        "UPDATE subject SET state = set_byte(set_byte(state, 18, get_byte(state, 18) | 64), 26, get_byte(state, 26) & 191)"
        " WHERE subject_id = $1",
        victim,
    )


def delete_withdrawal(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    attacker.do(
        "DELETE FROM ledger WHERE subject_id = $1 AND sequence = (SELECT max(sequence) FROM ledger WHERE subject_id = $1)",
        victim,
    )
    attacker.do(
        "UPDATE subject today SET state = old.state, version = old.version FROM yesterday.subject old"
        " WHERE today.subject_id = $1 AND old.subject_id = $1",
        victim,
    )


# --- keys -------------------------------------------------------------------------------------------------------------


def yesterdays_keys(attacker: Attacker, _scene: Scene, victim: UUID) -> None:
    attacker.do(
        "UPDATE keys.subject_key today SET wraps = old.wraps, version = old.version FROM yesterday.subject_key old"
        " WHERE today.subject_id = $1 AND old.subject_id = $1",
        victim,
    )


def others_keys(attacker: Attacker, scene: Scene, victim: UUID) -> None:
    attacker.do(
        "UPDATE keys.subject_key mine SET wraps = theirs.wraps FROM keys.subject_key theirs"
        " WHERE mine.subject_id = $1 AND theirs.subject_id = $2",
        victim, scene.people["bystander"],
    )  # fmt: skip


def two_keys(attacker: Attacker, scene: Scene, victim: UUID) -> None:
    """This attacker once stole two epoch keys, too: one blob is made that AES-256-GCM opens under both."""
    settings = load(environ=scene.house.environ)
    keyring = Keyring(KeyStore(settings.keyring, service_of(settings)))
    keyring.open((names.epochs(MARKETING), names.epochs(SUPPORT)))
    mixed = []
    for one in parse_wraps(attacker.look("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", victim)[0][0]):
        by_purpose = {wrap.purpose: wrap for wrap in one.wraps}
        if not {MARKETING, SUPPORT} <= by_purpose.keys():
            mixed.append(one)
            continue
        keys, contexts = [], []
        for purpose in (MARKETING, SUPPORT):
            epoch = by_purpose[purpose].epoch
            place = struct.pack(">16sBH", victim.bytes, purpose, epoch)
            stolen = keyring.epoch_key(purpose, epoch)
            keys.append(hashlib.blake2b(place, digest_size=32, key=stolen, person=b"K2").digest())
            where = place_of(one.compartment_id, victim.bytes, one.purposes, one.generation)
            contexts.append(b"W2" + where + one.commitment + struct.pack(">BH", purpose, epoch))
        nonce = one.commitment[:12]
        blob = two_key_ciphertext(keys[0], keys[1], nonce, contexts[0], os.urandom(16), contexts[1])
        opened = {AESGCM(key).decrypt(nonce, blob, context) for key, context in zip(keys, contexts, strict=True)}
        assert len(opened) == 2, "the blob was to open under both keys, and differently"
        planted = tuple(
            Wrap(wrap.purpose, wrap.epoch, blob) if wrap.purpose in {MARKETING, SUPPORT} else wrap for wrap in one.wraps
        )
        mixed.append(one._replace(wraps=planted))
    attacker.do("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", victim, pack_wraps(mixed))


ATTACKS: Final = (
    Attack("anna", "A1", "swap two sealed values of one person", swap_fields),
    Attack("boris", "A2", "give a person the sealed values of another", move_values),
    Attack("clara", "A4", "widen the purpose tag: collected for less, used for advertising", widen_tag),
    Attack("dario", "A5", "put back yesterday's sealed values of a person", yesterdays_values),
    Attack("emma", "A20", "flip a bit: turn a refusal of marketing into consent", flip_choice, withdraws=True),
    Attack("felix", "A7", "delete a withdrawal, and put yesterday's state row back", delete_withdrawal, withdraws=True),
    Attack("greta", "A8", "forge a row: values of another person under a new generation", forged_row),
    Attack(
        "hugo", "A20", "put back yesterday's wrapped keys, from before a withdrawal", yesterdays_keys, withdraws=True
    ),
    Attack("iris", "A13", "give a person the wrapped keys of another", others_keys),
    Attack("jonas", "A11", "plant a wrapped key that two stolen keys open", two_keys),
)
