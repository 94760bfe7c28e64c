"""The story that the demonstration tells, act by act. Everything goes through the doors; nothing is looked up behind them.

Each act prints what happens and gives back its figures. A claim of the story that does not come true raises `Broken`.
"""

import io
import zipfile
from typing import Any, Final

import segment.analytics.client as segment
from rich.console import Console
from rich.table import Table

from vault.cli.demo_stage import Party, Reader, Secrets, act_id
from vault.errors import VaultError

Figures = dict[str, Any]

# Who they are, what they bought, and what they clicked on the banner. All made up.
CAST: Final[dict[str, dict[str, Any]]] = {
    "ada": {"orders": (129.90, 145.00), "functional": True, "analytics": True, "advertising": True},
    "ben": {"orders": (49.50,), "functional": True, "analytics": True, "advertising": False},
    "cleo": {"orders": (20.00, 12.25), "functional": False, "analytics": False, "advertising": False},
    "dan": {"orders": (310.00,), "functional": False, "analytics": False, "advertising": True},
}
EXPECTED: Final = {"warehouse": 2, "email-tool": 2, "ad-platform": 2, "support-desk": 4}


class Broken(VaultError):
    """The story did not come out as it should: please report it, with the log."""

    code = "demo"
    sentence = "The demonstration did not come out as it should."


def expect(claim: bool, what: str) -> None:  # noqa: FBT001 - a claim is a truth value
    """Raises `Broken` unless the claim is true."""
    if not claim:
        raise Broken(what)


def send_events(console: Console, url: str, secrets: Secrets) -> Figures:
    """Act 1: the app sends what it always sent, with the SDK that it already has."""
    console.rule("1  An app's events arrive through the Segment SDK", align="left")
    client = segment.Client(secrets.write_key, host=url, gzip=True, on_error=_raise)
    sent = 0
    for place, (name, person) in enumerate(CAST.items()):
        categories = {category: person[category] for category in ("functional", "analytics", "advertising")}
        context = {"consent": {"categoryPreferences": categories}}
        traits = {
            "email": f"{name}@example.com",
            "firstName": name.title(),
            "phone": f"+49301234{place}00",
            "shoeSize": 38,
        }
        client.identify(f"user-{name}", traits, context=context)
        sent += 1
        for number, revenue in enumerate(person["orders"]):
            order = {"order_id": f"{name}-{number}", "revenue": revenue, "currency": "USD", "quantity": 1}
            client.track(f"user-{name}", "Order Completed", order, context=context)
            sent += 1
    client.flush()
    client.join()
    console.print(f"{sent} calls of four people, compressed, by segment-analytics-python; only `host` was changed.")
    return {"sent": sent, "people": len(CAST)}


def _raise(error: Exception, _items: object) -> None:
    raise error


def show_feeds(console: Console, readers: dict[str, Reader]) -> Figures:
    """Act 2: four destinations pull, and each sees something else."""
    console.rule("2  Four destinations each pull something different", align="left")
    table = Table("destination", "people", "what it may see of them", box=None)
    for name, reader in readers.items():
        lines = reader.read_until("upsert")
        expect(lines[0]["op"] == "reset", "a first read is a framed snapshot")
        reader.read_until_holding(EXPECTED[name])
        table.add_row(name, str(len(reader.holds)), _seen(reader))
    console.print(table)
    ads = readers["ad-platform"].holds.values()
    expect("@" not in str(list(ads)), "no e-mail address in clear at the ad platform")
    expect(sum("best_customers" in line["audiences"] for line in ads) == 2, "two best customers")
    ids = [set(reader.holds) for reader in readers.values()]
    expect(not set.intersection(*ids), "destinations share no id")
    console.print("Each knows people by ids of its own. Nobody agreed to `shoeSize`, so it was never stored.")
    return {name: len(reader.holds) for name, reader in readers.items()}


def _seen(reader: Reader) -> str:
    line = max(reader.holds.values(), key=lambda one: len(str(one)))
    parts = [f"{name}={_short(value)}" for name, value in line["traits"].items()]
    parts += [f"{kind}: {_short(values)}" for kind, values in line["identifiers"].items()]
    parts += [f"in {audience}" for audience in line["audiences"]]
    return ", ".join(parts)


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def withdraw(console: Console, shop: Party, readers: dict[str, Reader]) -> Figures:
    """Act 3: Ada says no to advertising; the ad platform loses exactly what it must, and nobody else anything."""
    console.rule("3  Ada withdraws her consent to advertising", align="left")
    choice = {"purpose": "advertising", "decision": "withdrawn"}
    answer = shop.post("/v1/consents", {"userId": "user-ada", "messageId": act_id(), "choices": [choice]})
    expect(answer["state"]["advertising"] == "refused", "the state says so at once")
    told = [line for line in readers["ad-platform"].read_until("remove") if line["op"] == "remove"]
    expect(len(told) == 1 and told[0]["reason"] == "withdrawn", "the ad platform must delete one profile")
    expect(len(readers["ad-platform"].holds) == 1, "the ad platform keeps the other")
    for name in ("warehouse", "email-tool", "support-desk"):
        readers[name].read()
        expect(len(readers[name].holds) == EXPECTED[name], f"{name} loses nobody")
    console.print(
        f"Entry {answer['sequence']} of her ledger. The ad platform reads: {told[0]['op']} {told[0]['id']}, withdrawn."
    )
    console.print("The wrap of her keys for advertising is destroyed; warehouse and e-mail tool keep what they may.")
    return {"ad_platform_removed": 1, "ad_platform_left": len(readers["ad-platform"].holds)}


def answer_access(console: Console, desk: Party) -> Figures:
    """Act 4: Ben asks what the vault holds about him."""
    console.rule("4  Ben asks what you have: an access request", align="left")
    ref = desk.post("/v1/subjects/find", {"kind": "email", "value": "ben@example.com"})["ref"]
    request = desk.post(f"/v1/subjects/{ref}/access")["request"]
    desk.request_done(request)
    archive = desk.get(f"/v1/requests/{request}/archive").content
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = opened.namelist()
        text = opened.read(next(name for name in names if name.endswith(".json"))).decode()
    expect("ben@example.com" in text and "warehouse" in text.lower(), "his data and their recipients are in it")
    expect("ada@example.com" not in text, "nobody else is in it")
    console.print(f"One archive of {len(archive):,} bytes: {', '.join(names)}; fetched once, then gone.")
    return {"archive_bytes": len(archive), "files": len(names)}


def erase(console: Console, desk: Party, readers: dict[str, Reader]) -> tuple[Figures, dict[str, Any]]:
    """Act 5: Dan is erased; the answer is a signed certificate. Gives the certificate, too."""
    console.rule("5  Dan asks to be erased", align="left")
    ref = desk.post("/v1/subjects/find", {"kind": "email", "value": "dan@example.com"})["ref"]
    request = desk.post(f"/v1/subjects/{ref}/erasure")["request"]
    done = desk.request_done(request)
    told = [line for line in readers["ad-platform"].read_until("remove") if line["op"] == "remove"]
    expect(told[-1]["reason"] == "erased", "the recipients are told")
    certificate: dict[str, Any] = desk.get(f"/v1/requests/{request}/certificate").json()
    console.print(
        f"His keys are destroyed; the request is {done['state']}: what recipients have not confirmed stays open."
    )
    return {"state": done["state"], "recipients_told": 1}, certificate
