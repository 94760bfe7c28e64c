"""Promise 1, on the disk of a vault that ran: no planted value and no key anywhere, before and after an erasure.

Threats A15, D5, section 4.3, H5. The person is ingested by the SDK, by curl and by file, read by feeds, webhook and
lookup, answered, and erased; every door is also offered the values in ways that fail. Then everything that was left
behind is searched: data folder with write-ahead log, dump, journal, keyring, logs, figures, and what the operating system
shows of the processes. The same search finds each form where it was put on purpose.
"""

import base64
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.house import Door, House, bearer, upserts
from tests.forensics.person import CANARIES
from tests.forensics.remains import left_behind
from tests.forensics.search import Search, base64_inside
from tests.forensics.story import Story
from vault.cli.demo_stage import Secrets
from vault.keys.compartments import parse_wraps

# --- the claims -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a15_d5_h5_nothing_planted_and_no_key_is_left_behind_and_an_old_backup_opens_no_more(
    house: House,
) -> None:
    """The short form of `make forensics`: no power failure, one search of everything, one rotation."""
    thief = Path(tempfile.mkdtemp(prefix="pv-thief-", dir="/tmp"))
    thief.chmod(0o711)  # the database server's user passes through
    try:
        story = Story(house, thief, print, short=True)

        def beside(door: Door, secrets: Secrets) -> None:
            gone_from_the_tables(house, story.before)
            gone_from_the_doors(door, secrets)

        figures = story.run(beside)
    finally:
        shutil.rmtree(thief)
    assert story.findings == []
    assert figures["attempt"]["tries"] > 1000
    assert figures["control"]["opened"] > figures["attempt"]["opened"] == 0
    verifies(house, story.certificate)


def gone_from_the_tables(house: House, before: dict[Any, bytes]) -> None:
    """No row is left under any of the old ids, and no old wrap under a new one."""
    ids = list(before)
    for table in (
        "subject",
        "keys.subject_key",
        "compartment",
        "event",
        "ledger",
        "identifier",
        "identity",
        "membership",
        "archive",
    ):
        column = "request_id" if table == "archive" else "subject_id"
        assert house.count(f"SELECT count(*) FROM {table} WHERE {column} = ANY($1)", ids) == 0, table  # noqa: S608
    assert house.count("SELECT count(*) FROM archive") == 0
    live = [bytes(row["wraps"]) for row in house.sql("SELECT wraps FROM keys.subject_key")]
    old = [one.blob for row in before.values() for wrapped in parse_wraps(row) for one in wrapped.wraps]
    assert old
    assert not any(blob in row for blob in old for row in live)


def gone_from_the_doors(door: Door, secrets: Secrets) -> None:
    for token, lines in door.feeds(secrets.tokens).items():
        assert not upserts(lines), token
    for one in ("traits", "links"):
        path = f"/v1/spaces/default/collections/accounts/profiles/group_id:{CANARIES['account']}/{one}"
        assert door.http.get(path, headers=bearer(secrets.tokens["support-desk"])).status_code == 404
    for kind, value in (
        ("email", CANARIES["e-mail"]),
        ("user_id", CANARIES["user id"]),
        ("order_id", CANARIES["order"]),
    ):
        find = {"kind": kind, "value": value}
        assert door.http.post("/v1/subjects/find", json=find, headers=bearer(secrets.officer)).status_code == 404
        path = f"/v1/spaces/default/collections/users/profiles/{kind}:{quote(value)}/traits"
        assert door.http.get(path, headers=bearer(secrets.tokens["support-desk"])).status_code == 404


def verifies(house: House, certificate: Path) -> None:
    """Offline, and not any more once a letter was changed; the audit log is whole."""
    told = house.ask("erasures", "verify", str(certificate))
    assert told["signature"] == "holds"
    assert {one["purpose"] for one in told["kept"]} == {"accounting"}
    about = house.run(
        "erasures", "verify", str(certificate), "--about", "email", "--json", stdin=CANARIES["e-mail"] + "\n"
    )
    assert json.loads(about.stdout)["about"] is True
    document = json.loads(certificate.read_bytes())
    document["document"]["destroyed_at"] = "2020-01-01T00:00:00.000Z"
    forged = house.folder / "forged.json"
    forged.write_text(json.dumps(document))
    assert house.run("erasures", "verify", str(forged), check=False).returncode == 1
    assert house.ask("audit", "verify")["ok"] is True


# --- the search itself ------------------------------------------------------------------------------------------------

VALUE, KEY = "zoe.quartzfinch@planted.example", bytes(range(200, 232))


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("url", [False, True])
@pytest.mark.parametrize("needle", [VALUE.encode(), KEY, b"\xff\xfe\xfb\xef\xbe" * 4], ids=["value", "key", "signs"])
def test_the_search_finds_base64_at_every_alignment(tmp_path: Path, needle: bytes, shift: int, *, url: bool) -> None:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    (tmp_path / "planted").write_bytes(os.urandom(500) + b'"' + encode(b"xyz"[:shift] + needle + b"tail") + b'"')
    search = Search({}, {"key": needle})
    hits, _ = search.files(tmp_path)
    assert any(hit.form in {f"base64+{shift}", f"base64url+{shift}"} for hit in hits)


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("raw", VALUE.encode()),
        ("raw", KEY),
        ("utf-16-le", VALUE.encode("utf-16-le")),
        ("utf-16-be", VALUE.encode("utf-16-be")),
        ("hex", VALUE.encode().hex().encode()),
        ("hex", KEY.hex().encode()),
        ("HEX", KEY.hex().upper().encode()),
        ("percent", quote(VALUE).encode()),
        ("base64+0", base64_inside(KEY, 0)),
    ],
)
def test_the_search_finds_every_form_amid_noise(tmp_path: Path, form: str, written: bytes) -> None:
    noise = bytearray(os.urandom(300_000))
    (tmp_path / "clean").write_bytes(noise)
    search = Search({"value": VALUE}, {"key": KEY})
    assert search.files(tmp_path)[0] == []
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "planted").write_bytes(noise[:1000] + b"(" + written + b")" + noise[1000:] + bytes(4096))
    assert form in {hit.form for hit in search.files(tmp_path)[0]}


def test_the_search_looks_at_names_of_files(tmp_path: Path) -> None:
    (tmp_path / f"{VALUE}.txt").touch()
    assert [hit.form for hit in Search({"value": VALUE}, {}).files(tmp_path)[0]] == ["raw"]


def test_the_search_finds_what_is_put_into_the_vault_in_clear(house: House) -> None:
    """The positive control of the whole: one value in a table, and data folder, log of writes and dump all show it."""
    house.furnish()
    with house.serving() as door:
        house.sql("INSERT INTO instance (name, value) VALUES ('canary', $1)", VALUE)
        found = {hit.place for hit in left_behind(house, door, Search({"value": VALUE}, {}))}
    assert "dump" in found
    assert any("pg_wal" in place for place in found)
    assert any("/base/" in place for place in found)
