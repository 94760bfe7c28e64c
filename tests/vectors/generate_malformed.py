"""Writes malformed.json: sealed envelopes that look nearly right, each with what must come of it (threats A12, A19).

A second implementation, from the pages in docs/formats alone: `struct`, `hashlib` and AES-GCM, and nothing of the vault.
Keys, ids and nonces are fixed, so that a run gives the committed bytes again. Run: python tests/vectors/generate_malformed.py
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
FIELD_KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
COMPARTMENT = bytes(range(0xA0, 0xB0))
SUBJECT = bytes.fromhex("019aa3b0000070008000000000000001")
OTHER_SUBJECT = bytes.fromhex("019aa3b0000070008000000000000002")
REQUEST = bytes.fromhex("019aa3b0000070008000000000000a0a")
EVENT_KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
INCARNATION = bytes.fromhex("0123456789abcdef0123456789abcdef")
POLICY = bytes.fromhex("a1b2c3d4e5f60718")
PURPOSES, GENERATION = 1 << 6 | 1 << 1, 1
FIELD, VERSION, SOURCE, AUTHORITY, SAID_AT = 3, 7, 2, 3, 1_795_465_242_000_000
KIND = 5
NONCE = b"\x07" * 12
TAG = 16

Envelope = dict[str, Any]


def framed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


# --- what a value is bound to -----------------------------------------------------------------------------------------


def place(label: bytes, **change: Any) -> list[bytes]:
    known: dict[str, Any] = {
        "compartment": COMPARTMENT,
        "subject": SUBJECT,
        "purposes": PURPOSES,
        "generation": GENERATION,
    }
    at = known | change
    return [
        label, at["compartment"], at["subject"], struct.pack(">Q", at["purposes"]), struct.pack(">H", at["generation"]),
    ]  # fmt: skip


def head(**change: Any) -> bytes:
    known: dict[str, Any] = {"field": FIELD, "version": VERSION, "source": SOURCE, "key": EVENT_KEY, "authority": AUTHORITY,
                             "said_at": SAID_AT}  # fmt: skip
    at = known | change
    return struct.pack(">HIH16sBQ", at["field"], at["version"], at["source"], at["key"], at["authority"], at["said_at"])


def sealed(plaintext: bytes, context: bytes, key: bytes = FIELD_KEY, nonce: bytes = NONCE) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def value(bound: bytes | None = None, key: bytes = FIELD_KEY, nonce: bytes = NONCE, **change: Any) -> bytes:
    bound = head() if bound is None else bound
    return sealed(b'"ada@planted.example"', framed(*place(b"F1", **change), bound), key, nonce)


def fields(blob: bytes | None = None, *, form: int = 1, count: int = 1, length: int | None = None) -> bytes:
    blob = value() if blob is None else blob
    size = len(blob) if length is None else length
    return bytes((form, count)) + head() + struct.pack(">H", size) + blob


def event(
    form: int = 1, plaintext: bytes = b'{"messageId":"m"}', key: bytes = FIELD_KEY, nonce: bytes = NONCE, **at: Any
) -> bytes:
    event_key, kind = at.pop("event_key", EVENT_KEY), at.pop("kind", KIND)
    context = framed(*place(b"E1", **at), event_key, struct.pack(">I", kind))
    return bytes((form,)) + sealed(plaintext, context, key, nonce)


def boxed(
    label: str, plaintext: bytes, form: int = 1, key: bytes = FIELD_KEY, request: bytes = REQUEST, nonce: bytes = NONCE
) -> bytes:
    return bytes((form,)) + sealed(plaintext, framed(label.encode(), request), key, nonce)


CASE = json.dumps(
    {
        "request_id": "019aa3b0-0000-7000-8000-000000000a0a", "made_at": SAID_AT,
        "members": ["019aa3b0-0000-7000-8000-000000000001"], "tags": [base64.b64encode(b"t" * 16).decode()],
        "recipients": [], "salt": base64.b64encode(b"s" * 16).decode(), "reply": None,
    },
    separators=(",", ":"),
).encode()  # fmt: skip


def casefile(plaintext: bytes = CASE, **change: Any) -> bytes:
    return boxed("casefile/1", plaintext, **change)


def archive(**change: Any) -> bytes:
    return boxed("archive/1", b"PK\x05\x06" + bytes(18), **change)


def cursor(
    *, form: int = 1, destination: int = 3, flags: int = 1, key: bytes = FIELD_KEY, label: str = "cursor/1"
) -> bytes:
    body = struct.pack(">BI16s8sQB", form, destination, INCARNATION, POLICY, 41, flags)
    code = hashlib.blake2b(framed(body), digest_size=32, key=key, person=label.encode()).digest()
    return base64.urlsafe_b64encode(body + code).rstrip(b"=")


# --- what can be wrong with any of them -------------------------------------------------------------------------------


def everywhere(good: bytes, front: int, again: Callable[..., bytes]) -> list[tuple[str, bytes]]:
    """Of bytes that begin with a format and `front` bytes before the nonce. `again` makes them under another key or form."""
    body = good[front:]
    nonce, cipher, tag = body[:12], body[12:-TAG], body[-TAG:]
    start = good[:front]

    def flipped(at: int) -> bytes:
        return good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]

    return [
        ("no bytes", b""),
        ("the format alone", good[:1]),
        ("format 0", b"\x00" + good[1:]),
        ("format 2, sealed as such", again(form=2)),
        ("format 255", b"\xff" + good[1:]),
        ("a byte left over", good + b"\x00"),
        ("no tag", start + nonce + cipher),
        ("a tag of 1 byte", start + nonce + cipher + tag[:1]),
        ("a byte missing: a tag of 15 bytes", start + nonce + cipher + tag[:15]),
        ("a tag alone", start + tag),
        ("nonce and tag, no ciphertext", start + nonce + tag),
        ("no nonce", start + cipher + tag),
        ("a nonce of 1 byte", start + nonce[:1] + cipher + tag),
        ("a nonce of 8 bytes, sealed with it", again(nonce=b"\x07" * 8)),
        ("a nonce of 16 bytes, sealed with it", again(nonce=b"\x07" * 16)),
        ("first bit of the nonce", flipped(front)),
        ("first bit of the ciphertext", flipped(front + 12)),
        ("last bit of the tag", flipped(len(good) - 1)),
        ("another key", again(key=OTHER_KEY)),
    ]  # fmt: skip


def of_fields() -> list[tuple[str, bytes]]:
    good = value()

    def again(form: int = 1, **change: Any) -> bytes:
        return fields(value(**change), form=form)

    cut = [
        ("a length of 0", 0),
        ("a length of 27", 27),
        ("a length of 65,535", 0xFFFF),
        ("a length one too high", len(good) + 1),
    ]
    return [
        *everywhere(fields(), 2 + 35, again),
        *[(name, fields(length=length)) for name, length in cut],
        ("a count of 0 and a field", fields(count=0)),
        ("a count of 2 and one field", fields(count=2)),
        ("a count of 255", fields(count=255)),
        ("heads alone", fields()[: 2 + 35]),
        ("the same field twice", bytes((1, 2)) + 2 * (head() + struct.pack(">H", len(good))) + 2 * good),
        ("sealed as an event", fields(event()[1:])),
        ("of another subject", fields(value(subject=OTHER_SUBJECT))),
        ("of another compartment", fields(value(compartment=COMPARTMENT[::-1]))),
        ("of more purposes", fields(value(purposes=PURPOSES | 1 << 7))),
        ("of another generation", fields(value(generation=2))),
        ("of another field", fields(value(head(field=4)))),
        ("of an older version", fields(value(head(version=6)))),
        ("of another source", fields(value(head(source=1)))),
        ("of more authority", fields(value(head(authority=4)))),
        ("said at another time", fields(value(head(said_at=SAID_AT + 1)))),
        ("of another message", fields(value(head(key=EVENT_KEY[::-1])))),
    ]


def of_events() -> list[tuple[str, bytes]]:
    return [
        *everywhere(event(), 1, event),
        ("an empty plaintext", event(plaintext=b"")),
        ("sealed as a field", b"\x01" + value()),
        ("of another subject", event(subject=OTHER_SUBJECT)),
        ("of more purposes", event(purposes=PURPOSES | 1 << 7)),
        ("of another generation", event(generation=2)),
        ("of another message", event(event_key=EVENT_KEY[::-1])),
        ("of another kind", event(kind=6)),
    ]


def of_cases() -> list[tuple[str, bytes]]:
    return [
        *everywhere(casefile(), 1, casefile),
        ("of another request", casefile(request=REQUEST[::-1])),
        ("sealed as an archive", boxed("archive/1", CASE)),
        ("no JSON", casefile(plaintext=b"case")),
        ("JSON of another kind", casefile(plaintext=b"[]")),
        ("another request within", casefile(plaintext=CASE.replace(b"0a0a", b"0a0b"))),
        ("a member missing", casefile(plaintext=CASE.replace(b'"salt"', b'"pepper"'))),
    ]


def of_archives() -> list[tuple[str, bytes]]:
    return [
        *everywhere(archive(), 1, archive),
        ("of another request", archive(request=REQUEST[::-1])),
        ("sealed as a case file", boxed("casefile/1", b"PK")),
    ]


def of_cursors() -> list[tuple[str, bytes]]:
    good = cursor()
    return [
        ("no letters", b""),
        ("a letter missing", good[:-1]),
        ("a letter left over", good + b"A"),
        ("padded", good + b"=="),
        ("a letter of the other alphabet", good[:40] + b"+" + good[41:]),
        ("spare bits", good[:-1] + bytes((good[-1] ^ 1,))),
        ("format 0", cursor(form=0)),
        ("format 2", cursor(form=2)),
        ("flags that nobody has", cursor(flags=2)),
        ("another destination", cursor(destination=4)),
        ("another key", cursor(key=OTHER_KEY)),
        ("the code of something else", cursor(label="state/1")),
        ("first letter of the number", good[:44] + bytes((good[44] ^ 1,)) + good[45:]),
        ("a line break", good[:47] + b"\n" + good[48:]),
    ]


def malformed() -> dict[str, Any]:
    groups = {
        "fields": (fields(), of_fields()),
        "event": (event(), of_events()),
        "casefile": (casefile(), of_cases()),
        "archive": (archive(), of_archives()),
        "cursor": (cursor(), of_cursors()),
    }
    return {
        "source": "written from docs/formats with struct, hashlib and AESGCM of cryptography 50.0.2, not with the vault",
        "key": FIELD_KEY.hex(),
        "compartment_id": COMPARTMENT.hex(),
        "subject": SUBJECT.hex(),
        "purposes": PURPOSES,
        "generation": GENERATION,
        "request": REQUEST.hex(),
        "event_key": EVENT_KEY.hex(),
        "kind": KIND,
        "destination": 3,
        "incarnation": INCARNATION.hex(),
        "envelopes": [
            {"format": form, "name": name, "bytes": data.hex(), "expected": expected}
            for form, (good, bad) in groups.items()
            for name, data, expected in [("well formed", good, "valid"), *((n, d, "unreadable") for n, d in bad)]
        ],
    }


if __name__ == "__main__":
    (HERE / "malformed.json").write_text(json.dumps(malformed(), indent=1) + "\n")
