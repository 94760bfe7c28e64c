"""The archive that answers an access or portability request: one zip with data.json, a readable page, and CSV tables.

Promises: every value is escaped for the place it stands in (threats G19, G25); no name in the zip and no time of the zip
tells anything of the person (G26); the page loads nothing and runs nothing. Sealed under a key of the request's own, which
is destroyed with the archive. Knows JSON values, not what they mean. Bytes: docs/formats/archive.md.
"""

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.canonical import framed
from vault.clock import DAY
from vault.crypto.aead import seal, unseal
from vault.errors import Unreadable

FORMAT: Final = 1
KEPT: Final = 7 * DAY  # then it is gone, fetched or not (design section 10)
DATA: Final = "data.json"
PAGE: Final = "index.html"

_CONTEXT: Final = b"archive/1"
_encoder: Final = msgspec.json.Encoder(decimal_format="number")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment: file times tell nothing
# What spreadsheets take for a formula, with the full-width letters that some of them fold (ASVS 1.2.10).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%", "'")
_ONE_LINE: Final = 3  # members of what is shown within a line
_HEADINGS: Final = {"dpv": "Purpose in the Data Privacy Vocabulary"}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "h1{font-size:1.6rem}h2{font-size:1.2rem;border-bottom:1px solid #bbb;margin-top:2rem}"
    "div{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "th,td{border:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top;overflow-wrap:break-word;max-width:24rem}"
    "th{background:#f2f2f2}td.more{padding-left:2rem;max-width:none}"
    "ul{margin:0;padding-left:1.2rem}dt{font-weight:600}dd{margin:0 0 .5rem 1rem}"
    "@media print{body{max-width:none;margin:0;font-size:10pt}div{overflow:visible}h2{break-after:avoid}tr{break-inside:avoid}}"
)
_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode() + "'"
)


class Table(msgspec.Struct, frozen=True):
    """One CSV file: a plain name of our own, a head and rows of text."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        return f"Table({self.name}, {len(self.rows)} rows)"


def pack(title: str, answer: Mapping[str, Any], tables: Sequence[Table] = ()) -> bytes:
    """The zip. `answer` is the whole answer as JSON values; its top-level keys are the headings of the page."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, DATA, msgspec.json.format(_encoder.encode(answer), indent=2))
        _add(archive, PAGE, page(title, answer).encode())
        for table in tables:
            _add(archive, f"{table.name}.csv", csv_bytes(table))
    return content.getvalue()


def seal_archive(key: bytes, request_id: UUID, archive: bytes) -> bytes:
    """The sealed bytes of a zip under its request's own key."""
    return bytes((FORMAT,)) + seal(key, archive, _context(request_id))


def open_archive(key: bytes, request_id: UUID, sealed: bytes) -> bytes:
    """The zip of this request. Raises `Unreadable` for anything else."""
    if not sealed or sealed[0] != FORMAT:
        raise Unreadable
    return unseal(key, memoryview(sealed)[1:], _context(request_id))


# --- the page -------------------------------------------------------------------------------------------------------


def page(title: str, answer: Mapping[str, Any]) -> str:
    """A page of plain HTML: a heading for each key, tables for lists, nothing that loads or runs."""
    sections = [f"<section><h2>{_heading(key)}</h2>{_block(value)}</section>" for key, value in answer.items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def _block(value: Any) -> str:
    if isinstance(value, Mapping):
        if not value:
            return "<p>None.</p>"
        return "<dl>" + "".join(f"<dt>{_heading(k)}</dt><dd>{_block(v)}</dd>" for k, v in value.items()) + "</dl>"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return "<p>None.</p>"
        if all(isinstance(row, Mapping) for row in value):
            return _table(value)
        return "<ul>" + "".join(f"<li>{_block(one)}</li>" for one in value) + "</ul>"
    return f"<span>{escape(_text(value))}</span>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row each. What is itself a table stands below its row, over the whole width: beside it nobody could read either."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    below = [column for column in columns if any(_is_table(row.get(column)) for row in rows)]
    beside = [column for column in columns if column not in below]
    head = "".join(f"<th>{_heading(column)}</th>" for column in beside)
    body = ""
    for row in rows:
        body += "<tr>" + "".join(f"<td>{_cell(row[c]) if c in row else ''}</td>" for c in beside) + "</tr>"
        for column in below:
            if row.get(column):
                more = f"<strong>{_heading(column)}</strong>{_block(row[column])}"
                body += f'<tr><td class="more" colspan="{len(beside)}">{more}</td></tr>'
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _is_table(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return any(isinstance(one, Mapping) and not _is_small(one) for one in value)


def _is_small(value: Mapping[str, Any]) -> bool:
    """Few enough words to stand in one line."""
    plain = not any(isinstance(one, (Mapping, list, tuple)) for one in value.values())
    return plain and len(value) <= _ONE_LINE


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and value and _is_small(value):
        return ", ".join(f"{escape(str(key))}: {escape(_text(one))}" for key, one in value.items() if one is not None)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(one, str) for one in value):
            return escape(", ".join(value)) or "-"
        return "<ul>" + "".join(f"<li>{_cell(one)}</li>" for one in value) + "</ul>"
    return _block(value)


def _heading(key: Any) -> str:
    text = _HEADINGS.get(str(key), str(key)).replace("_", " ")
    return escape(text[:1].upper() + text[1:])


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else _encoder.encode(value).decode()


# --- CSV ------------------------------------------------------------------------------------------------------------


def csv_bytes(table: Table) -> bytes:
    """RFC 4180 in UTF-8, every cell quoted, none of them a formula."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(table.head)
    writer.writerows([safe_cell(cell) for cell in row] for row in table.rows)
    return text.getvalue().encode()


def safe_cell(text: str) -> str:
    """The text, behind an apostrophe where a spreadsheet would run it. `plain_cell` takes the apostrophe off again."""
    return "'" + text if text.lstrip(' \u00a0\u3000"').startswith(_FORMULA) else text


def plain_cell(cell: str) -> str:
    """What `safe_cell` was given."""
    return cell.removeprefix("'")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    archive.writestr(entry, content)


def _context(request_id: UUID) -> bytes:
    return framed(_CONTEXT, request_id.bytes)
