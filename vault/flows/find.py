"""Finds a person by an identifier for a caller who may, and answers a reference that says nothing and works for that caller only.

A reference is the subject id and its end, sealed under the reference key and bound to the caller (design section 12). No
personal value stands in a path or a log. Each search is audited, those that find nobody too.
"""

import base64
import binascii
import struct
from typing import Final
from uuid import UUID

from vault.audit.entry import Tag
from vault.canonical import framed
from vault.clock import HOUR
from vault.crypto.aead import seal, unseal
from vault.errors import Forged, Gone, Invalid, NotFound, Unreadable
from vault.flows.people.read import owner
from vault.flows.tags import check_turn, identity_tag
from vault.flows.trail import accusing, leave
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.policy.actors import Actor

LIFE: Final = HOUR
MAX_REFERENCE: Final = 120  # characters; ours have 72

_CONTEXT: Final = b"reference/1"
_BODY: Final = struct.Struct(">16sQ")  # subject | end, microseconds since 1970 UTC


async def find(vault: Vault, actor: Actor, kind: str, value: str) -> str:
    """A reference to the person with this identifier, for this caller, for an hour.

    Raises `Invalid` for an unknown kind or a value that is none of that kind, `NotFound` for nobody.
    """
    subject = await _by_identifier(vault, kind, value)
    async with vault.database.begin() as connection:
        await leave(
            vault,
            connection,
            Tag.SUBJECT_PROFILE_FOUND,
            actor.label,
            {"kind": kind, "found": int(subject is not None)},
            subject,
        )
    if subject is None:
        raise NotFound
    return _make(vault, actor, subject)


async def resolve_ref(vault: Vault, actor: Actor, ref: str) -> UUID:
    """The subject of a reference that this caller was given, or of `kind:value` where the kind may stand in a path.

    Raises `NotFound` for anything else, `Gone` for a reference older than an hour.
    """
    kind_name, colon, value = ref.partition(":")
    if colon:
        kind = vault.catalogue.identifiers.get(kind_name)
        found = await _by_identifier(vault, kind_name, value) if kind is not None and kind.opaque else None
        if found is None:
            raise NotFound
        return found
    subject, ends = _read(vault, actor, ref)
    if vault.clock.now() >= ends:
        raise Gone("References work for an hour; find the person again.", code="reference_expired")
    return subject


async def _by_identifier(vault: Vault, kind_name: str, value: str) -> UUID | None:
    kind = vault.catalogue.identifiers.get(kind_name)
    if kind is None:
        raise Invalid("`kind` is one of the kinds in policies/identities.toml.", code="unknown_kind")
    normal = normalise(kind, value)
    if normal is None:
        raise Invalid("`value` is not a value of that kind.", code="unfit_identifier")
    vault.keyring.refresh()
    turn, tag = vault.keyring.turn, identity_tag(vault.keyring, kind.name, normal)
    try:
        async with accusing(vault), vault.database.hot() as connection:
            found = await owner(connection, tag, vault.pointers)
            if found is None:
                await check_turn(connection, turn)
            return found
    except Forged:  # told of in the log; to who asks, nobody is there
        return None


def _make(vault: Vault, actor: Actor, subject: UUID) -> str:
    body = _BODY.pack(subject.bytes, vault.clock.now() + LIFE)
    sealed = seal(vault.keyring.key(names.REFERENCE), body, _context(actor))
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _read(vault: Vault, actor: Actor, ref: str) -> tuple[UUID, int]:
    if len(ref) > MAX_REFERENCE or not ref.isascii():
        raise NotFound
    try:
        sealed = base64.b64decode(ref + "=" * (-len(ref) % 4), altchars=b"-_", validate=True)
        body = unseal(vault.keyring.key(names.REFERENCE), sealed, _context(actor))
    except (binascii.Error, Unreadable):
        raise NotFound from None
    if len(body) != _BODY.size:
        raise NotFound
    subject, ends = _BODY.unpack(body)
    return UUID(bytes=subject), ends


def _context(actor: Actor) -> bytes:
    return framed(_CONTEXT, actor.kind.encode(), actor.id.encode())
