"""The CDNOW purchases through the whole vault, checked against a computation of their own from the file.

    python -m bench.cdnow CDNOW_master.txt events.ndjson [--kill]

`events.ndjson` is what `to_events.py` makes of the purchases. The expected figures are computed here from the purchases
alone, by the rules that its header states; nothing is asked of the vault that it also had to compute. With `--kill` the
first import is killed half-way, by SIGKILL, and started again. Ends with 0 if everything agrees; the last line is JSON.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from vault.config import load
from vault.storage import embedded

PORT = 8765
CLI = [sys.executable, "-c", "from vault.cli.main import main; main()"]


def share(customer: str, what: str) -> int:
    return hashlib.sha256(f"{what}:{customer}".encode()).digest()[0] * 100 // 256


class Expected:
    """What each destination must see, from the purchases alone."""

    def __init__(self, purchases: Path) -> None:
        spent: dict[str, Decimal] = {}
        count: Counter[str] = Counter()
        for line in purchases.read_text().splitlines()[1:]:
            customer, _, _, paid = line.split()
            spent[customer] = spent.get(customer, Decimal(0)) + Decimal(paid)
            count[customer] += 1
        self.messages = len(spent) + sum(count.values())
        self.lifetime = Counter((spent[c].normalize(), count[c]) for c in spent if share(c, "analytics") < 70)
        self.total = sum((value * n for (value, _), n in self.lifetime.items()), Decimal(0))
        self.emails: set[str] = set()
        self.best: set[str] = set()
        for customer, dollars in spent.items():
            withdrew = share(customer, "withdraws") < 10 and count[customer] >= 3
            self.messages += withdrew
            if share(customer, "advertising") < 40 and not withdrew:
                email = f"c{customer}@example.com"
                self.emails.add(email)
                if dollars >= 200:
                    self.best.add(hashlib.sha256(email.encode()).hexdigest())
        self.hashes = {hashlib.sha256(email.encode()).hexdigest() for email in self.emails}


def cli(data_dir: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([*CLI, *arguments, "--json"], env=environment(data_dir), capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def environment(data_dir: Path) -> dict[str, str]:
    return {**os.environ, "PROFILE_VAULT_DATA_DIR": str(data_dir)}


def killed_half_way(data_dir: Path, events: Path, after: float) -> None:
    process = subprocess.Popen([*CLI, "import", str(events), "--source", "shop", "--json"], env=environment(data_dir))
    time.sleep(after)
    if process.poll() is not None:
        raise SystemExit("the import was over before it could be killed: use a smaller --kill")
    process.send_signal(signal.SIGKILL)
    process.wait()


def _ready() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{PORT}/readyz").is_success
    except httpx.HTTPError:
        return False


@contextmanager
def serving(data_dir: Path) -> Any:
    command = [*CLI, "serve", "--port", str(PORT), "--log-level", "error"]
    process = subprocess.Popen(command, env=environment(data_dir))
    try:
        while not _ready():
            if process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def feed(name: str, token: str) -> list[dict[str, Any]]:
    """Every line of a first read, numbers exact."""
    lines: list[dict[str, Any]] = []
    with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        query: dict[str, str] = {}
        while True:
            page = client.get(f"http://127.0.0.1:{PORT}/v1/destinations/{name}/profiles", params=query)
            *found, last = [json.loads(line, parse_float=Decimal) for line in page.raise_for_status().text.splitlines()]
            lines += found
            query = {"cursor": last["cursor"]}
            if not last["more"]:
                return lines


def profiles(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["op"] == "upsert"]


def check(data_dir: Path, expected: Expected, tokens: dict[str, str]) -> dict[str, Any]:
    """Read all feeds; raises AssertionError where they differ from what the file says. Answers the figures."""
    with serving(data_dir):
        started = time.monotonic()
        lines = {name: profiles(feed(name, token)) for name, token in tokens.items()}
        seconds = time.monotonic() - started
    warehouse, ads, mail = lines["warehouse"], lines["ad-platform"], lines["email-tool"]
    seen = Counter((Decimal(x["traits"]["lifetime_value"]).normalize(), x["traits"]["order_count"]) for x in warehouse)
    if seen != expected.lifetime:
        raise AssertionError("the warehouse does not see the lifetime values of the file")
    if sorted(x["traits"]["email"] for x in ads) != sorted(expected.hashes):
        raise AssertionError("the ad platform does not see the hashes of those who allow advertising")
    if {x["traits"]["email"] for x in ads if "best_customers" in x["audiences"]} != expected.best:
        raise AssertionError("best_customers are not those who spent 200 or more")
    if sorted(x["traits"]["email"] for x in mail) != sorted(expected.emails):
        raise AssertionError("the e-mail tool does not see those who allow marketing")
    if "@" in json.dumps([x["traits"] | x["identifiers"] for x in ads]) or any(x["identifiers"] for x in warehouse):
        raise AssertionError("somebody sees an identifier in clear that must not")
    return {
        "warehouse": len(warehouse),
        "lifetime_value": str(sum((Decimal(x["traits"]["lifetime_value"]) for x in warehouse), Decimal(0))),
        "ad_platform": len(ads),
        "best_customers": sum("best_customers" in x["audiences"] for x in ads),
        "email_tool": len(mail),
        "support_desk": len(lines["support-desk"]),
        "feeds_seconds": round(seconds, 1),
        "digest": hashlib.sha256(json.dumps(lines, sort_keys=True, default=str).encode()).hexdigest()[:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("purchases", type=Path)
    parser.add_argument("events", type=Path)
    parser.add_argument("--kill", type=float, default=0.0, help="kill the first import after so many seconds")
    arguments = parser.parse_args()
    expected = Expected(arguments.purchases)
    data_dir = load(environ={}).data_dir.with_name("acceptance-cdnow")
    embedded.remove(data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.with_name(data_dir.name + ".key").unlink(missing_ok=True)
    cli(data_dir, "sources", "add", "shop", "--class", "server")
    names = ("warehouse", "ad-platform", "email-tool", "support-desk")
    tokens = {name: cli(data_dir, "destinations", "token", name)["token"] for name in names}
    if arguments.kill:
        killed_half_way(data_dir, arguments.events, arguments.kill)
    first = cli(data_dir, "import", str(arguments.events), "--source", "shop")
    if first["stored"] + first["duplicates"] != expected.messages or first["dropped"]:
        raise AssertionError("the import did not take all messages")
    figures = check(data_dir, expected, tokens)
    second = cli(data_dir, "import", str(arguments.events), "--source", "shop")
    if second["stored"] or second["duplicates"] != expected.messages:
        raise AssertionError("the second import changed something")
    again = check(data_dir, expected, tokens)
    if again["digest"] != figures["digest"]:
        raise AssertionError("the feeds are not the same after the second import")
    figures |= {"messages": expected.messages, "first_import": first, "second_import": second, "ok": True}
    embedded.remove(data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.with_name(data_dir.name + ".key").unlink(missing_ok=True)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
