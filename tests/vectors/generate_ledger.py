"""Writes ledger.json from docs/formats/ledger.md alone: MessagePack by hand, SHA-256 of hashlib, nothing of the vault."""

import hashlib
import json
import sys
from pathlib import Path

Value = int | str | bytes | bool | list["Value"] | None


def pack(value: Value) -> bytes:
    """The shortest MessagePack form of a value."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 0x80:
            return bytes([value])
        for lead, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << 8 * size:
                return bytes([lead]) + value.to_bytes(size, "big")
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 | len(text)]) if len(text) < 32 else bytes([0xD9, len(text)])) + text
    if isinstance(value, bytes):
        return bytes([0xC4, len(value)]) + value
    if isinstance(value, list):
        front = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
        return front + b"".join(map(pack, value))
    raise TypeError


FIELDS = (
    "purpose",
    "decision",
    "how",
    "authority",
    "said_at",
    "received_at",
    "source",
    "device",
    "claimed",
    "ends",
    "about",
    "notice",
    "language",
    "evidence",
    "covers",
    "event_key",
)
AT = 1_790_000_000_000_000
PLAIN: dict[str, Value] = {
    "purpose": 6,
    "decision": 2,
    "how": 1,
    "authority": 2,
    "said_at": AT,
    "received_at": AT + 5,
    "source": 1,
    "device": b"",
    "claimed": False,
    "ends": None,
    "about": b"",
    "notice": None,
    "language": None,
    "evidence": b"",
    "covers": [],
    "event_key": b"",
}
ENTRIES: dict[str, dict[str, Value]] = {
    "a stamp's grant": PLAIN | {"ends": AT + 94_608_000_000_000, "device": b"\x11" * 16, "event_key": b"\x22" * 16},
    "a grant by act with everything": PLAIN
    | {
        "how": 3,
        "authority": 3,
        "source": 0,
        "about": b"\x33" * 16,
        "notice": "marketing/2",
        "language": "de",
        "evidence": b"\x44" * 32,
        "covers": [1, 0x4002, 0xC001],
        "ends": AT + 1,
    },
    "a withdrawal": PLAIN | {"decision": 4, "how": 2},
    "an objection by an officer": PLAIN | {"purpose": 3, "decision": 5, "how": 5, "authority": 4, "source": 0},
    "a claimed refusal": PLAIN | {"decision": 3, "how": 3, "authority": 1, "claimed": True, "source": 70000},
    "the end of a grant": PLAIN | {"decision": 6, "how": 8, "authority": 0, "source": 0},
    "an invalidation": PLAIN | {"decision": 7, "how": 5, "authority": 4, "said_at": 0, "source": 9},
    "the last purpose": PLAIN | {"purpose": 62},
}
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no array": pack("choice/1"),
    "another tag": pack(["choice/2", *PLAIN.values()]),
    "no tag": pack(list(PLAIN.values())),
    "a field more": pack(["choice/1", *PLAIN.values(), None]),
    "a byte more": pack(["choice/1", *PLAIN.values()]) + b"\x00",
    "a byte less": pack(["choice/1", *PLAIN.values()])[:-1],
    "the rights purpose": pack(["choice/1", *(PLAIN | {"purpose": 63}).values()]),
    "an unknown decision": pack(["choice/1", *(PLAIN | {"decision": 8}).values()]),
    "an unknown way": pack(["choice/1", *(PLAIN | {"how": 0}).values()]),
    "an unknown authority": pack(["choice/1", *(PLAIN | {"authority": 5}).values()]),
    "said after receipt": pack(["choice/1", *(PLAIN | {"said_at": AT + 6}).values()]),
    "a long device": pack(["choice/1", *(PLAIN | {"device": b"\x11" * 17}).values()]),
    "a refusal that ends": pack(["choice/1", *(PLAIN | {"decision": 3, "ends": AT}).values()]),
    "a number in a longer form": pack(["choice/1", *PLAIN.values()]).replace(b"/1\x06", b"/1\xcc\x06"),
}


def main() -> None:
    """Write the file, or with --check say whether it is what this program writes."""
    entries, heads, head = [], [], bytes(32)
    for name, fields in ENTRIES.items():
        packed = pack(["choice/1", *[fields[field] for field in FIELDS]])
        parts = (b"ledger/1", head, packed)
        head = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
        shown = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
        entries.append({"name": name, "fields": shown, "bytes": packed.hex()})
        heads.append(head.hex())
    text = json.dumps(
        {
            "page": "docs/formats/ledger.md",
            "source": "written from the page with hashlib, not with the vault: tests/vectors/generate_ledger.py",
            "entries": entries,
            "heads": heads,
            "refused": [{"name": name, "bytes": data.hex()} for name, data in REFUSED.items()],
        },
        indent=1,
    )
    path = Path(__file__).with_name("ledger.json")
    if "--check" in sys.argv:
        sys.exit(path.read_text() != text + "\n")
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()
