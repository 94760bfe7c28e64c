"""Five times more than the vault can do: how much it still does, how long the admitted wait, and who is sent away.

    python -m bench.overload [--messages 20] [--times 5] [--seconds 20]

On a vault of its own: first as much as it can take from a few clients that wait for their answers (the maximum), then so
many times more arrivals a second, whether or not answers come. Meanwhile choices, requests of people, feed pages and health
are asked for at an even pace, each a small share of that. The load comes from this machine, too, so it takes part of what
the vault could have. The last line is JSON. Ends with 0 if no choice and no request of a person was refused while tracking
calls were.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from vault.cli.demo_stage import Secrets, furnish
from vault.config import load
from vault.storage import embedded

CLI = [sys.executable, "-c", "from vault.cli.main import main; main()"]
HOST = "127.0.0.1"
CLIENTS = 8
PEOPLE = 2_000
CONNECTIONS = 2_000  # at once; an arrival that finds none free is counted as unsent
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


class Tally:
    """What came back, by status, with the seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {}
        self.codes: Counter[str] = Counter()

    def note(self, status: int, seconds: float, body: bytes) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        if status >= 400:
            found = re.search(rb'"code":"([a-z_]+)"', body)
            self.codes[f"{status} {found[1].decode() if found else '?'}"] += 1

    def count(self, status: int) -> int:
        return len(self.seconds.get(status, ()))

    @property
    def good(self) -> list[float]:
        return [one for status, some in self.seconds.items() if status < 300 for one in some]

    @property
    def refused(self) -> int:
        return sum(len(some) for status, some in self.seconds.items() if status == 429 or status >= 500)


def share(values: list[float], part: float) -> float:
    """In milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 1) if ordered else float("nan")


class Sender:
    """Connections that stay open, one request at a time each. As little work as can be: it runs beside what it measures."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.open = 0
        self.unsent = 0

    async def ask(self, request: bytes, tally: Tally) -> None:
        started = time.perf_counter()
        try:
            reader, writer = self.idle.pop() if self.idle else await self._opened()
        except OSError:
            self.unsent += 1
            return
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.open -= 1
            tally.note(599, time.perf_counter() - started, b"")
            return
        tally.note(int(head[9:12]), time.perf_counter() - started, body)
        self.idle.append((reader, writer))

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.open >= CONNECTIONS:
            raise OSError
        self.open += 1
        return await asyncio.open_connection(HOST, self.port)

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()


def request(method: str, path: str, auth: str, body: Any = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: {auth}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Shop:
    """What the clients of the vault send."""

    def __init__(self, secrets: Secrets, messages: int) -> None:
        self.basic = "Basic " + base64.b64encode(f"{secrets.write_key}:".encode()).decode()
        self.secrets = secrets
        self.messages = messages
        self.sent = 0

    def batch(self) -> bytes:
        self.sent += 1
        events = [
            {
                "type": "track", "event": "Order Completed", "messageId": f"m-{self.sent}-{n}",
                "userId": f"u-{(self.sent * 7919 + n * 104729) % PEOPLE}", "context": AGREED,
                "properties": {"order_id": f"o-{self.sent}-{n}", "revenue": 12.5, "currency": "USD"},
            }
            for n in range(self.messages)
        ]  # fmt: skip
        return request("POST", "/v1/batch", self.basic, {"batch": events})

    def choice(self) -> bytes:
        self.sent += 1
        choice = {"purpose": "marketing", "decision": "withdrawn"}
        body = {"userId": f"u-{self.sent % PEOPLE}", "messageId": f"c-{self.sent}", "choices": [choice]}
        return request("POST", "/v1/consents", self.basic, body)

    def change(self) -> bytes:
        """A change of consent as Segment's tools send it, in a tracking call."""
        self.sent += 1
        preferences = {"functional": True, "analytics": False, "advertising": False}
        body = {
            "event": "Segment Consent Preference Updated", "messageId": f"s-{self.sent}",
            "userId": f"u-{self.sent % PEOPLE}", "context": {"consent": {"categoryPreferences": preferences}},
        }  # fmt: skip
        return request("POST", "/v1/track", self.basic, body)

    def find(self) -> bytes:
        self.sent += 1
        body = {"kind": "user_id", "value": f"u-{self.sent % PEOPLE}"}
        return request("POST", "/v1/subjects/find", f"Bearer {self.secrets.officer}", body)

    def page(self) -> bytes:
        return request(
            "GET", "/v1/destinations/warehouse/profiles?limit=50", f"Bearer {self.secrets.tokens['warehouse']}"
        )


async def at_most(sender: Sender, shop: Shop, seconds: float) -> Tally:
    """A few clients, each with its next call after its answer."""
    tally = Tally()
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            await sender.ask(shop.batch(), tally)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return tally


async def evenly(sender: Sender, make: Any, rate: float, end: float, tally: Tally) -> None:
    """`rate` arrivals a second, come what may; then waits for the last answers."""
    asked: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(sender.ask(make(), tally))
        asked.add(task)
        task.add_done_callback(asked.discard)
        due += 1 / rate
    await asyncio.gather(*asked)


async def measure(port: int, secrets: Secrets, options: argparse.Namespace) -> dict[str, Any]:
    sender, shop = Sender(port), Shop(secrets, options.messages)
    await at_most(sender, shop, 5)  # everybody is known then
    most = await at_most(sender, shop, options.seconds)
    maximum = len(most.good) / options.seconds

    others = {name: Tally() for name in ("choice", "change", "find", "page", "health")}
    tracking = Tally()
    end = time.monotonic() + options.seconds
    health = request("GET", "/readyz", "none")
    await asyncio.gather(
        evenly(sender, shop.batch, maximum * options.times, end, tracking),
        evenly(Sender(port), shop.choice, maximum * 0.05, end, others["choice"]),
        evenly(Sender(port), shop.change, maximum * 0.05, end, others["change"]),
        evenly(Sender(port), shop.find, maximum * 0.02, end, others["find"]),
        evenly(Sender(port), shop.page, maximum * 0.02, end, others["page"]),
        evenly(Sender(port), lambda: health, 2, end, others["health"]),
    )
    after = await at_most(sender, shop, 5)
    sender.close()
    goodput = len(tracking.good) / options.seconds
    return {
        "bench": "overload",
        "messages": options.messages,
        "times": options.times,
        "max_per_second": round(maximum, 1),
        "goodput_per_second": round(goodput, 1),
        "goodput_share": round(goodput / maximum, 3),
        "after_per_second": round(len(after.good) / 5, 1),
        "p50_ms": {"max": share(most.good, 0.5), "admitted": share(tracking.good, 0.5)},
        "p99_ms": {"max": share(most.good, 0.99), "admitted": share(tracking.good, 0.99)},
        "sent_away": tracking.count(503),
        "sent_away_p99_ms": share(tracking.seconds.get(503, []), 0.99),
        "rate_limited": tracking.count(429),
        "unsent": sender.unsent,
        "codes": dict(tracking.codes),
        "refused": {name: one.refused for name, one in others.items()},
        "refused_codes": {name: dict(one.codes) for name, one in others.items() if one.codes},
        "answered": {name: len(one.good) for name, one in others.items()},
        "p99_of_others_ms": {name: share(one.good, 0.99) for name, one in others.items()},
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20, help="messages a batch")
    parser.add_argument("--times", type=float, default=5.0, help="how many times the maximum")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pv-overload-", dir="/tmp"))
    folder.chmod(0o711)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PROFILE_VAULT_")}
    environ |= {"PROFILE_VAULT_DATA_DIR": str(folder / "data"), "PROFILE_VAULT_SOURCE_RATE": "1000000"}
    environ["PROFILE_VAULT_POLICIES"] = str(Path(__file__).resolve().parents[1] / "policies")
    log = folder / "serve.log"
    try:
        secrets = asyncio.run(furnish(load(environ=environ)))
        with log.open("wb") as out:
            server = subprocess.Popen([*CLI, "serve", "--port", "0"], env=environ, stdout=out, stderr=out)
        try:
            port = _port(log, server)
            found = asyncio.run(measure(port, secrets, options))
        finally:
            server.terminate()
            server.wait(30)
    finally:
        embedded.remove(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["sent_away"] and not any(found["refused"][name] for name in ("choice", "change", "find")) else 1


def _port(log: Path, server: "subprocess.Popen[bytes]") -> int:
    """Once it is ready."""
    for _ in range(600):
        if server.poll() is not None:
            break
        told = re.search(r"http://[0-9.]+:(\d+) ", log.read_text("utf-8"))
        if told:
            try:
                if httpx.get(f"http://{HOST}:{told[1]}/readyz").is_success:
                    return int(told[1])
            except httpx.HTTPError:
                pass
        time.sleep(0.1)
    raise SystemExit(log.read_text("utf-8")[-2000:])


if __name__ == "__main__":
    sys.exit(main())
