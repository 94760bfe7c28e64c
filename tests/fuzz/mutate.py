"""Valid bodies, bent: bytes flipped, cut, doubled and spliced for the tracking doors; naughty texts at every place of every door.

Every text that is planted holds the canary, so that an echo is seen wherever it comes out.
"""

import gzip
import json
from random import Random
from typing import Any, Final
from urllib.parse import quote

from tests.api.shop import YES
from tests.fuzz.corpus import cases as corpus
from tests.fuzz.naughty import TEXTS
from tests.fuzz.places import Place, places
from tests.fuzz.stage import CANARY, Headers, Stage

TRACKING: Final = ("identify", "track", "page", "screen", "group", "alias", "batch", "import", *"itpsgab")
TOKENS: Final = [
    *(case.text for case in corpus() if case.text and len(case.text) < 6_000),
    *(json.dumps(text).encode() for text in TEXTS.values() if len(text) < 9_000),
    *b'{ } [ ] , : " \\ \x00 \xff \xed\xa0\x80 \\u0000 \\ud800 e 9 - . null NaN -Infinity /* // \xef\xbb\xbf'.split(),
    *(
        b'"%b":' % name.encode()
        for name in ("userId", "anonymousId", "type", "context", "traits", "messageId", "batch", "sentAt")
    ),
]
_CTYPES: Final = (b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"\xff\xfe", b"")
_ENCODINGS: Final = (b"gzip", b"x-gzip", b"identity", b"br", b"gzip, gzip", b"GZIP", b"", b"\xff")


def _seeds() -> list[Any]:
    consent = {"consent": {"categoryPreferences": YES}}
    who = {"userId": f"u-{CANARY}", "anonymousId": f"a-{CANARY}", "timestamp": "2026-11-23T20:20:42.123+00:00"}
    track = {
        **who,
        "type": "track",
        "event": "Order Completed",
        "properties": {"order_id": CANARY, "revenue": 12.50, "currency": "USD", "products": [{"name": CANARY}]},
        "context": consent | {"externalIds": [{"id": CANARY, "type": "user_id", "collection": "users"}], "ip": CANARY},
    }
    identify = {
        **who,
        "type": "identify",
        "traits": {"email": f"{CANARY}@example.com", "firstName": CANARY, "age": 30, "address": {"city": CANARY}},
        "context": consent,
    }
    change = {
        **who,
        "type": "track",
        "event": "Segment Consent Preference Updated",
        "properties": {},
        "context": consent,
    }
    others = [
        {**who, "type": "page", "name": CANARY, "category": None, "properties": {"url": CANARY}},
        {**who, "type": "group", "groupId": CANARY, "traits": {"name": CANARY}},
        {"type": "alias", "previousId": f"a-{CANARY}", "userId": f"u-{CANARY}"},
    ]
    alone = [track, identify, change, *others]
    return [*alone, {"batch": alone, "sentAt": "2026-11-23T20:20:42.5Z", "writeKey": CANARY, "context": consent}] * 2


def fuzz(stage: Stage, cases: int, seed: int) -> None:
    """Half the cases bend bytes, half put texts where texts stand."""
    random = Random(seed)  # noqa: S311 - the same cases again for the same seed
    seeds = _seeds()
    for number in range(cases // 2):
        _bend(stage, random, random.choice(seeds), number)
    spots = places()
    texts = list(TEXTS.items())
    for number in range(cases - cases // 2):
        _plant(stage, random, spots[number % len(spots)], random.choice(texts), number)


# --- bytes --------------------------------------------------------------------------------------------------------------


def _bend(stage: Stage, random: Random, seed: Any, number: int) -> None:
    body = bytearray(_again(seed, number))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
        _BENDS[random.randrange(len(_BENDS))](random, body)
    raw = bytes(body)
    headers: Headers = [(b"content-type", random.choice(_CTYPES))]
    if random.random() < 0.2:
        headers.append((b"content-encoding", random.choice(_ENCODINGS)))
        if random.random() < 0.7:
            packed = bytearray(gzip.compress(raw, random.choice((1, 9))))
            if random.random() < 0.5:
                _BENDS[random.randrange(len(_BENDS))](random, packed)
            raw = bytes(packed)
    who = random.choice(("server", "server", "client", "client", "nobody", "officer", ""))
    stage.ask("POST", f"/v1/{random.choice(TRACKING)}", headers, raw, who=who, label=f"bent {number}")


def _again(seed: Any, number: int) -> bytes:
    """The seed with messageIds of its own: what was seen before is not looked at."""
    if "batch" in seed:
        seed = {**seed, "batch": [{**one, "messageId": f"m-{number}-{i}"} for i, one in enumerate(seed["batch"])]}
    else:
        seed = {**seed, "messageId": f"m-{number}"}
    return json.dumps(seed, ensure_ascii=bool(number % 2), separators=(",", ":") if number % 3 else None).encode()


def _place(random: Random, body: bytearray) -> int:
    return random.randrange(len(body) + 1)


def _flip(random: Random, body: bytearray) -> None:
    if body:
        body[random.randrange(len(body))] ^= 1 << random.randrange(8)


def _cut(random: Random, body: bytearray) -> None:
    start = _place(random, body)
    del body[start : start + random.choice((1, 1, 2, 10, 1000))]


def _insert(random: Random, body: bytearray) -> None:
    at = _place(random, body)
    body[at:at] = random.choice(TOKENS)


def _overwrite(random: Random, body: bytearray) -> None:
    at = _place(random, body)
    token = random.choice(TOKENS)
    body[at : at + len(token)] = token


def _double(random: Random, body: bytearray) -> None:
    start = _place(random, body)
    body[start:start] = body[start : start + random.choice((1, 8, 64, 512))] * random.choice((1, 2, 40))


def _value(random: Random, body: bytearray) -> None:
    """One whole value becomes another: what stands between a colon and the next comma or bracket."""
    colons = [at for at, byte in enumerate(body) if byte == ord(":")]
    if colons:
        start = random.choice(colons) + 1
        end = next((at for at in range(start, len(body)) if body[at] in b",}]"), len(body))
        body[start:end] = random.choice(TOKENS)


def _noise(random: Random, body: bytearray) -> None:
    at = _place(random, body)
    body[at:at] = random.randbytes(random.choice((1, 2, 4, 100)))


_BENDS: Final = (_flip, _cut, _insert, _overwrite, _double, _value, _value, _value, _noise)


# --- texts --------------------------------------------------------------------------------------------------------------


def _plant(stage: Stage, random: Random, place: Place, named: tuple[str, str], number: int) -> None:
    who, method, target, content_type, body = place
    name, text = named
    planted = random.choice((text + CANARY, CANARY + text, text)) if len(text) > 2 else text + CANARY
    quoted = quote(planted.encode("utf-8", "surrogatepass"), safe=random.choice(("", "/:;,@", ":@")))
    raw = b""
    if body is not None:
        escaped = json.dumps(planted, ensure_ascii=random.random() < 0.5 or "\ud800" in planted)[1:-1]
        raw = json.dumps(body).replace("@", escaped).replace("m#", f"p-{number}").encode()
    header = content_type.replace("@", planted).encode("utf-8", "replace")
    stage.ask(
        method,
        target.replace("@", quoted),
        [(b"content-type", header)] if content_type else [],
        raw,
        who=who,
        label=f"{name} at {target}",
    )
