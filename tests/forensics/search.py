"""Looks for planted values and for keys in bytes: in clear, in UTF-16, in hex and in base64, however it was aligned.

`Search.hits(blob)` names each needle and the form that it was found in. What is written as text (hex, base64, percent) is
looked for only in runs of printable bytes, which makes a search of hundreds of megabytes a matter of seconds.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

SHORTEST: Final = 8  # bytes; shorter ones turn up by chance
_TEXT: Final = re.compile(rb"[0-9A-Za-z+/_=%.~-]{10,}")


class Form(NamedTuple):
    """One way a needle may be written."""

    needle: str
    name: str
    pattern: bytes
    as_text: bool  # it stands among printable bytes only


class Hit(NamedTuple):
    """Something was found. Shows where, never what."""

    place: str
    needle: str
    form: str


class Search:
    """Needles in all their forms."""

    def __init__(self, values: Mapping[str, str], keys: Mapping[str, bytes]) -> None:
        """`values` are texts that somebody planted, `keys` raw bytes; each has a name for the report."""
        self.forms = [form for name, value in values.items() for form in _forms(name, value.encode(), text=True)]
        self.forms += [form for name, key in keys.items() for form in _forms(name, key, text=False)]

    def hits(self, blob: bytes, place: str) -> list[Hit]:
        runs = b"\n".join(_TEXT.findall(blob))
        return [Hit(place, f.needle, f.name) for f in self.forms if f.pattern in (runs if f.as_text else blob)]

    def files(self, folder: Path, *, leaving_out: Iterable[Path] = ()) -> tuple[list[Hit], int]:
        """Every hit in every file under `folder`, and how many bytes were looked at. Names of files count, too."""
        found: list[Hit] = []
        size = 0
        left_out = set(leaving_out)
        for path in sorted(folder.rglob("*")):
            place = str(path.relative_to(folder))
            found += self.hits(place.encode(), f"name of {place}")
            if path in left_out or not path.is_file() or path.is_symlink():
                continue
            try:
                blob = path.read_bytes()
            except FileNotFoundError:  # the server removed it meanwhile
                continue
            size += len(blob)
            found += self.hits(blob.rstrip(b"\0"), place)
        return found, size


def _forms(name: str, needle: bytes, *, text: bool) -> list[Form]:
    assert len(needle) >= SHORTEST, f"{name} is too short to be looked for"
    forms = [Form(name, "raw", needle, as_text=False)]
    if text:
        forms += [Form(name, code, needle.decode().encode(code), as_text=False) for code in ("utf-16-le", "utf-16-be")]
        escaped = quote(needle, safe="").encode()
        if escaped != needle:
            forms.append(Form(name, "percent", escaped, as_text=True))
    forms.append(Form(name, "hex", needle.hex().encode(), as_text=True))
    forms.append(Form(name, "HEX", needle.hex().upper().encode(), as_text=True))
    for shift in range(3):
        inner = base64_inside(needle, shift)
        forms.append(Form(name, f"base64+{shift}", inner, as_text=True))
        if (url := inner.translate(bytes.maketrans(b"+/", b"-_"))) != inner:
            forms.append(Form(name, f"base64url+{shift}", url, as_text=True))
    return forms


def base64_inside(needle: bytes, shift: int) -> bytes:
    """The letters of base64 that only `needle` decides, when it stands `shift` bytes after a multiple of three."""
    whole = base64.b64encode(bytes(shift) + needle)
    return whole[-(-shift * 8 // 6) : (shift + len(needle)) * 8 // 6]
