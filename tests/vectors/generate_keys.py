"""Writes wraps.json, state.json, journal.json, tags.json and keystore.json from the pages in docs/formats alone.

A second implementation: `struct`, `hmac`, `hashlib` and one AES-GCM call, and nothing of the vault. All keys and ids are
fixed, so that a run gives the committed bytes again. Run: python tests/vectors/generate_keys.py
"""

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
SOURCE = "written from the page with struct, hmac, hashlib and AESGCM of cryptography 50.0.2, not with the vault"
RIGHTS = 63
SUBJECT = bytes.fromhex("018f0000000070008000000000000ada")
OTHER = bytes.fromhex("018f0000000070008000000000000b0b")
EPOCHS = {0: {1: b"\x10" * 32, 2: b"\x11" * 32}, 5: {1: b"\x15" * 32}, RIGHTS: {3: b"\x1f" * 32}}
KEY = bytes(range(32))


def framed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    out = block = b""
    counter = 0
    while len(out) < length:
        counter += 1
        block = hmac.digest(key, block + info + bytes((counter,)), "sha512")
        out += block
    return out[:length]


def keyed(size: int, label: str, *parts: bytes, key: bytes = KEY) -> bytes:
    return hashlib.blake2b(framed(*parts), digest_size=size, key=key, person=label.encode()).digest()


def wrapping_key(epoch_key: bytes, subject: bytes, purpose: int, epoch: int) -> bytes:
    place = struct.pack(">16sBH", subject, purpose, epoch)
    return hashlib.blake2b(place, digest_size=32, key=epoch_key, person=b"K2").digest()


# --- wraps ----------------------------------------------------------------------------------------------------------


def compartment(
    compartment_id: bytes,
    purposes: int,
    generation: int,
    data_key: bytes,
    epochs: dict[int, int],
    subject: bytes = SUBJECT,
) -> dict[str, Any]:
    place = struct.pack(">16s16sQH", compartment_id, subject, purposes, generation)
    both = hashlib.blake2b(place, digest_size=64, key=data_key, person=b"C2").digest()
    field_key, commitment = both[:32], both[32:]
    wraps = []
    for purpose, epoch in sorted(epochs.items()):
        key = wrapping_key(EPOCHS[purpose][epoch], subject, purpose, epoch)
        context = b"W2" + place + commitment + struct.pack(">BH", purpose, epoch)
        wraps.append((purpose, epoch, AESGCM(key).encrypt(commitment[:12], data_key, context)))
    return {
        "id": compartment_id,
        "purposes": purposes,
        "generation": generation,
        "commitment": commitment,
        "wraps": wraps,
        "field_key": field_key,
    }


def row(*compartments: dict[str, Any], form: int = 2) -> bytes:
    out = bytes((form,))
    for one in compartments:
        out += struct.pack(
            ">16sQH32sB",
            one["id"],
            one["purposes"],
            one["generation"],
            one["commitment"],
            one.get("n", len(one["wraps"])),
        )
        out += b"".join(struct.pack(">BH", purpose, epoch) + blob for purpose, epoch, blob in one["wraps"])
    return out


def shown(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "compartment_id": one["id"].hex(),
        "purposes": one["purposes"],
        "generation": one["generation"],
        "commitment": one["commitment"].hex(),
        "wraps": [[p, e] for p, e, _ in one["wraps"]],
        "field_key": one["field_key"].hex(),
    }


def wraps() -> dict[str, Any]:
    full = compartment(b"\xa1" * 16, 0b100001, 1, b"\xd1" * 32, {0: 1, 5: 1, RIGHTS: 3})
    later = compartment(b"\xa2" * 16, 0b000001, 2, b"\xd2" * 32, {0: 2, RIGHTS: 3})
    bare = compartment(b"\xa3" * 16, 0, 1, b"\xd3" * 32, {RIGHTS: 3})
    fewer = {**full, "wraps": [full["wraps"][0], full["wraps"][2]]}
    forged = compartment(b"\xa1" * 16, 0b100001, 1, b"\xdd" * 32, {0: 1, 5: 1, RIGHTS: 3})
    whole = row(full, later, bare)
    zero_key_wrap = (
        0,
        1,
        AESGCM(wrapping_key(EPOCHS[0][1], SUBJECT, 0, 1)).encrypt(
            full["commitment"][:12],
            b"\xdd" * 32,
            b"W2"
            + struct.pack(">16s16sQH", full["id"], SUBJECT, 0b100001, 1)
            + full["commitment"]
            + struct.pack(">BH", 0, 1),
        ),
    )
    opens = [
        {
            "name": "three compartments",
            "bytes": whole.hex(),
            "compartments": [shown(one) for one in (full, later, bare)],
        },
        {
            "name": "one wrap taken away, the others byte for byte",
            "bytes": row(fewer).hex(),
            "compartments": [shown(fewer)],
        },
        {"name": "no compartments", "bytes": "02", "compartments": []},
    ]

    def changed(**parts: Any) -> dict[str, Any]:
        return {**full, **parts}

    kept = full["wraps"]
    malformed = {
        "empty": b"",
        "format 0": row(full, form=0),
        "format 1": row(full, form=1),
        "format 3": row(full, form=3),
        "only half a head": whole[:30],
        "one byte short": whole[:-1],
        "one byte more": whole + b"\x00",
        "a zero head behind": whole + bytes(59),
        "count says one more": row(changed(n=4)),
        "count says one less": row(changed(n=2)),
        "count 0": row(changed(n=0, wraps=[])),
        "count 255": row(changed(n=255)),
        "wraps out of order": row(changed(wraps=kept[::-1])),
        "a wrap twice": row(changed(wraps=[kept[0], *kept])),
        "no rights wrap": row(changed(wraps=kept[:2])),
        "a purpose outside the set": row(changed(wraps=[kept[0], (1, 1, bytes(48)), kept[2]])),
        "purpose 64": row(changed(wraps=[*kept, (64, 1, bytes(48))])),
        "mask bit 63": row(changed(purposes=1 << 63 | 0b100001)),
        "generation 32768": row(changed(generation=1 << 15)),
        "an id twice": row(full, {**later, "id": full["id"]}),
        "a place twice": row(
            full,
            {**later, "purposes": 0b100001, "generation": 1, "wraps": [later["wraps"][0], kept[1], later["wraps"][1]]},
        ),
        "text": b'{"wraps":[]}',
        "no format": whole[1:],
        "zeros": bytes(200),
        "ones": b"\xff" * 200,
        **{f"cut at {at}": whole[:at] for at in (2, 17, 25, 27, 59, 61, 62, 110, 111, 162, 163, 212, 214, 271)},
    }
    refused = {
        "a wrap of another data key": (row(changed(wraps=[zero_key_wrap, *kept[1:]])), 0),
        "all of another data key": (row(changed(wraps=forged["wraps"])), 0),
        "another commitment": (row(changed(commitment=forged["commitment"])), 0),
        "a purpose added to the set": (row(changed(purposes=0b100011)), 0),
        "a generation raised": (row(changed(generation=2)), 0),
        "another compartment id": (row(changed(id=b"\xa9" * 16)), RIGHTS),
        "a wrap of generation 2 on generation 1": (row({**later, "generation": 1}), 0),
        "two wraps that traded places": (row(changed(wraps=[(0, 1, kept[1][2]), (5, 1, kept[0][2]), kept[2]])), 5),
        "an epoch relabelled": (row(changed(wraps=[(0, 2, kept[0][2]), *kept[1:]])), 0),
        "a tag of zeros": (row(changed(wraps=[(0, 1, kept[0][2][:32] + bytes(16)), *kept[1:]])), 0),
        "a wrap of zeros": (row(changed(wraps=[(0, 1, bytes(48)), *kept[1:]])), 0),
        "a wrap that was taken away": (row(fewer), 5),
        "a wrap of another person": (
            row(compartment(b"\xa1" * 16, 0b100001, 1, b"\xd1" * 32, {0: 1, 5: 1, RIGHTS: 3}, OTHER)),
            0,
        ),
    }
    return {
        "page": "docs/formats/wraps.md",
        "source": SOURCE,
        "subject": SUBJECT.hex(),
        "epoch_keys": {str(p): {str(e): k.hex() for e, k in keys.items()} for p, keys in EPOCHS.items()},
        "valid": opens,
        "malformed": [
            {"name": n, "bytes": b.hex(), "expected": "unreadable when parsed"} for n, b in malformed.items()
        ],
        "refused": [
            {"name": n, "bytes": b.hex(), "purpose": p, "expected": "parses; unreadable when opened"}
            for n, (b, p) in refused.items()
        ],
    }


# --- state ----------------------------------------------------------------------------------------------------------


def state_body(**changes: Any) -> bytes:
    parts: dict[str, Any] = {
        "form": 1,
        "key_version": 1,
        "version": 9,
        "granted": 0b1100,
        "refused": 0b0010,
        "blocked": 0b10000,
        "objected": 0b100000,
        "flags": 1 | 8 | 16,
        "root": OTHER,
        "claimed": OTHER,
        "members": 2,
        "count": 3,
        "head": b"\x77" * 32,
        "keys_version": 4,
        "held": b"\x66" * 16,
        "events": 12,
        "n_expiries": 2,
        "n_marks": 2,
        "expiries": struct.pack(">BQBQ", 2, 1_900_000_000_000_000, 3, 1_800_000_000_000_000),
        "marks": struct.pack(">QHI16sQHI16s", 4, 1, 7, b"\x01" * 16, 4, 2, 1, b"\x02" * 16),
        "more": b"",
    } | changes
    names = (
        "form",
        "key_version",
        "version",
        "granted",
        "refused",
        "blocked",
        "objected",
        "flags",
        "root",
        "claimed",
        "members",
        "count",
        "head",
        "keys_version",
        "held",
        "events",
        "n_expiries",
        "n_marks",
    )
    fixed = struct.pack(">BHQQQQQB16s16sII32sI16sQBH", *(parts[name] for name in names))
    return b"".join((fixed, parts["expiries"], parts["marks"], parts["more"]))


def state() -> dict[str, Any]:
    def sealed(body: bytes, subject: bytes = SUBJECT) -> bytes:
        return body + keyed(32, "state/1", subject, body)

    good = sealed(state_body())
    fresh = sealed(
        state_body(
            version=0,
            granted=0,
            refused=0,
            blocked=0,
            objected=0,
            flags=0,
            root=SUBJECT,
            claimed=bytes(16),
            members=0,
            count=0,
            head=bytes(32),
            keys_version=0,
            held=bytes(16),
            events=0,
            n_expiries=0,
            n_marks=0,
            expiries=b"",
            marks=b"",
        )
    )
    one = struct.pack(">BQ", 2, 5)
    mark = struct.pack(">QHI16s", 4, 1, 7, b"\x01" * 16)
    malformed = {
        "empty": b"",
        "a code alone": good[-32:],
        "one byte short": good[:-1],
        "one byte more": good + b"\x00",
        "of another subject": sealed(state_body(), OTHER),
        "a code of zeros": good[:-32] + bytes(32),
        "an edited mask": good[:18] + bytes((good[18] ^ 1,)) + good[19:],
        "the code of an older row": state_body(refused=0) + good[-32:],
        "true code, format 0": sealed(state_body(form=0)),
        "true code, format 2": sealed(state_body(form=2)),
        "true code, another key version": sealed(state_body(key_version=2)),
        "true code, mask bit 63": sealed(state_body(blocked=1 << 63)),
        "true code, granted and refused": sealed(state_body(refused=0b0100)),
        "true code, unknown flag": sealed(state_body(flags=1 | 8 | 16 | 32)),
        "true code, claimed without flag": sealed(state_body(flags=1)),
        "true code, flag without claimed": sealed(state_body(claimed=bytes(16))),
        "true code, end of a choice not granted": sealed(state_body(expiries=struct.pack(">BQBQ", 0, 5, 3, 5))),
        "true code, ends out of order": sealed(state_body(expiries=struct.pack(">BQBQ", 3, 5, 2, 5))),
        "true code, an end twice": sealed(state_body(expiries=one + one)),
        "true code, marks out of order": sealed(
            state_body(marks=struct.pack(">QHI16sQHI16s", 4, 2, 1, bytes(16), 4, 1, 7, bytes(16)))
        ),
        "true code, a mark twice": sealed(state_body(marks=mark + mark)),
        "true code, a mark with bit 63": sealed(
            state_body(marks=mark + struct.pack(">QHI16s", 1 << 63, 1, 1, bytes(16)))
        ),
        "true code, counts one mark more": sealed(state_body(n_marks=3)),
        "true code, counts one end less": sealed(state_body(n_expiries=1)),
        "true code, bytes behind": sealed(state_body(more=b"\x00")),
    }
    return {
        "page": "docs/formats/state.md",
        "source": SOURCE,
        "subject": SUBJECT.hex(),
        "key": KEY.hex(),
        "valid": [
            {
                "name": "one of each",
                "bytes": good.hex(),
                "state": {
                    "version": 9,
                    "granted": 12,
                    "refused": 2,
                    "blocked": 16,
                    "objected": 32,
                    "restricted": True,
                    "fenced": False,
                    "minor": False,
                    "identified": True,
                    "root": OTHER.hex(),
                    "claimed": OTHER.hex(),
                    "members": 2,
                    "ledger_count": 3,
                    "ledger_head": "77" * 32,
                    "keys_version": 4,
                    "holdings": "66" * 16,
                    "event_count": 12,
                    "expiries": [[2, 1_900_000_000_000_000], [3, 1_800_000_000_000_000]],
                    "compartments": [[4, 1, 7, "01" * 16], [4, 2, 1, "02" * 16]],
                },
            },
            {
                "name": "a fresh subject",
                "bytes": fresh.hex(),
                "state": {
                    "version": 0,
                    "granted": 0,
                    "refused": 0,
                    "blocked": 0,
                    "objected": 0,
                    "restricted": False,
                    "fenced": False,
                    "minor": False,
                    "identified": False,
                    "root": SUBJECT.hex(),
                    "claimed": None,
                    "members": 0,
                    "ledger_count": 0,
                    "ledger_head": "00" * 32,
                    "keys_version": 0,
                    "holdings": "00" * 16,
                    "event_count": 0,
                    "expiries": [],
                    "compartments": [],
                },
            },
        ],
        "malformed": [{"name": n, "bytes": b.hex(), "expected": "unreadable"} for n, b in malformed.items()],
    }


# --- journal --------------------------------------------------------------------------------------------------------


def journal() -> dict[str, Any]:
    magic = b"PVJRNL01"
    entries = [
        ["erasure/1", 1000, OTHER, [SUBJECT, OTHER], [[b"\x07" * 16, 1, 86_400_000_000, False, 4]]],
        ["refusal/1", 1001, SUBJECT, 6, 1, 17, 2],
        ["refusal/1", 1002, SUBJECT, 8, 2, 18, 1],
        ["objection/1", 1003, SUBJECT, 1, 19, 3],
        ["restriction/1", 1004, SUBJECT, 20],
        ["removed-wraps/1", 1005, SUBJECT, [[b"\xa1" * 16, 5], [b"\xa1" * 16, 63]], 20],
        ["policy/1", 1006, 2, b"\x09" * 32],
        ["policy-intent/1", 1007, 3, b"\x0a" * 32],
        ["begun/1", 1008],
    ]
    frames: list[bytes] = []
    before = hashlib.sha256(magic).digest()
    for number, entry in enumerate(entries, start=1):
        payload = msgspec.msgpack.encode(entry)
        body = struct.pack(">IQ32s", len(payload), number, before) + payload
        frames.append(body + keyed(32, "journal/1", body))
        before = hashlib.sha256(frames[-1]).digest()
    whole = magic + b"".join(frames)
    first, second, third = frames[:3]

    def flip(data: bytes, at: int) -> bytes:
        return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]

    malformed = {
        "empty": b"",
        "another magic": b"PVJRNL02" + whole[8:],
        "half a magic": magic[:4],
        "the first frame deleted": magic + second + third,
        "one in the middle deleted": magic + first + third,
        "two swapped": magic + second + first,
        "a frame twice": magic + first + first,
        "text behind": whole + b"x" * 100,
        "length 0": magic + bytes(4) + first[4:],
        "length over a mebibyte": magic + b"\x00\x10\x00\x01" + first[4:],
        "an edited number": magic + flip(first, 11) + second,
        "an edited hash": magic + flip(first, 20) + second,
        "an edited payload": magic + flip(first, 60) + second,
        "an edited code": magic + flip(first, len(first) - 1) + second,
        "an edited last code": whole[:-1] + bytes((whole[-1] ^ 1,)),
    }
    cut = {
        "cut in the last frame": whole[:-20],
        "zeros behind": whole + bytes(64),
        "cut in the front of the last": whole[: -len(frames[-1]) + 10],
    }
    head = struct.pack(">BQ32s", 1, 5, b"\x05" * 32)
    payloads = [msgspec.msgpack.encode(entry).hex() for entry in entries]
    return {
        "page": "docs/formats/journal.md",
        "source": SOURCE,
        "key": KEY.hex(),
        "valid": [{"name": "one of each kind", "bytes": whole.hex(), "numbers": len(entries), "payloads": payloads}],
        "unfinished": [
            {
                "name": n,
                "bytes": b.hex(),
                "numbers": len(entries) - (n != "zeros behind"),
                "expected": "last frame absent",
            }
            for n, b in cut.items()
        ],
        "malformed": [{"name": n, "bytes": b.hex(), "expected": "unreadable"} for n, b in malformed.items()],
        "audit_head": {"size": 5, "root": "05" * 32, "bytes": (head + keyed(32, "audit-head/1", head)).hex()},
    }


# --- tags and key service -------------------------------------------------------------------------------------------


def tags() -> dict[str, Any]:
    cases = [
        ("identifier/1", [b"email", b"ada@example.com"]),
        ("identifier/1", [b"emaila", b"da@example.com"]),
        ("event/1", []),
        ("x", [b""]),
    ]
    derived = expand(KEY, framed(b"keyservice/1", b"state"), 32)
    return {
        "page": "docs/formats/tags.md",
        "source": SOURCE,
        "key": KEY.hex(),
        "cases": [
            {
                "label": label,
                "parts": [part.hex() for part in parts],
                "tag": keyed(16, label, *parts).hex(),
                "mac": keyed(32, label, *parts).hex(),
            }
            for label, parts in cases
        ],
        "derived": [{"label": "keyservice/1", "parts": [b"state".hex()], "length": 32, "key": derived.hex()}],
    }


def hpke(recipient: bytes, ephemeral: bytes, info: bytes, plaintext: bytes) -> bytes:
    """RFC 9180, base mode, one message: X25519 with HKDF-SHA-256, HKDF-SHA-512, AES-256-GCM. encapsulated | ciphertext."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x03\x00\x02"

    def labelled(hash_name: str, salt: bytes, suite_id: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite_id + label + material, hash_name)

    def drawn(hash_name: str, key: bytes, suite_id: bytes, label: bytes, context: bytes, length: int) -> bytes:
        wanted = struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + context
        return hmac.digest(key, wanted + b"\x01", hash_name)[:length]

    secret = X25519PrivateKey.from_private_bytes(ephemeral)
    sent = secret.public_key().public_bytes_raw()
    agreed = secret.exchange(X25519PublicKey.from_public_bytes(recipient))
    shared = labelled("sha256", bytes(32), kem, b"eae_prk", agreed)
    shared = drawn("sha256", shared, kem, b"shared_secret", sent + recipient, 32)
    context = b"\x00" + labelled("sha512", bytes(64), suite, b"psk_id_hash", b"")
    context += labelled("sha512", bytes(64), suite, b"info_hash", info)
    schedule = labelled("sha512", shared, suite, b"secret", b"")
    key = drawn("sha512", schedule, suite, b"key", context, 32)
    nonce = drawn("sha512", schedule, suite, b"base_nonce", context, 12)
    return sent + AESGCM(key).encrypt(nonce, plaintext, b"")


def keystore() -> dict[str, Any]:
    nonce = b"\x24" * 12

    def plain(version: int, secret: bytes) -> bytes:
        return struct.pack(">I", version) + secret

    def sealed(form: int, name: bytes, key: bytes, plaintext: bytes) -> bytes:
        return bytes((form,)) + nonce + AESGCM(key).encrypt(nonce, plaintext, b"keyservice/%d|" % form + name)

    def file(name: str, entries: dict[int, bytes]) -> dict[str, Any]:
        keys = [{"version": v, "made_at": 5, "sealed": base64.b64encode(one).decode()} for v, one in entries.items()]
        return {"format": 1, "name": name, "keys": keys}

    secrets = {number: bytes((0x40 + number,)) * 32 for number in range(1, 4)}
    lock = expand(KEY, framed(b"keyservice/2", b"rights"), 32)
    private = expand(lock, framed(b"keyservice/3"), 32)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    family = expand(KEY, framed(b"keyservice/2", b"index"), 32)
    forms = {
        1: sealed(1, b"rights", expand(KEY, framed(b"keyservice/1", b"rights"), 32), plain(1, secrets[1])),
        2: sealed(2, b"rights", expand(lock, framed(b"keyservice/2", b"rights"), 32), plain(2, secrets[2])),
        3: b"\x03" + hpke(public, b"\x77" * 32, b"keyservice/3|rights", plain(3, secrets[3])),
    }
    of_family = expand(family, framed(b"keyservice/2", b"index-email"), 32)
    return {
        "page": "docs/formats/keystore.md",
        "source": SOURCE + "; X25519 likewise",
        "root_key": KEY.hex(),
        "secrets": {"rights": lock.hex(), "index": family.hex()},
        "publics": {"rights": public.hex()},
        "files": [
            {"file": file("rights", forms), "keys": {str(number): one.hex() for number, one in secrets.items()}},
            {
                "file": file("index-email", {1: sealed(2, b"index-email", of_family, plain(1, secrets[1]))}),
                "keys": {"1": secrets[1].hex()},
            },
        ],
    }


if __name__ == "__main__":
    for make in (wraps, state, journal, tags, keystore):
        (HERE / f"{make.__name__}.json").write_text(json.dumps(make(), indent=1) + "\n")
