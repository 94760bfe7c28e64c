"""The person of the forensic test: everything that can be known of them is planted, and everything happens to them.

They come by the SDK, by curl and by file; feeds, webhook, lookup and the rights desk read them; every door is also offered
the values in ways that fail. Real processes, by HTTP (`tests.e2e.house`).
"""

import io
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import segment.analytics.client as segment

from tests.e2e.house import HOST, Door, House, bearer, free_port, upserts
from vault.cli.demo_stage import Secrets

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
