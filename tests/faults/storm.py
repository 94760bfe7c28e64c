"""Random kills under a mix of everything: `python -m tests.faults.storm --kills 500 --seed 1`.

Clients in threads of their own send orders, link devices, choose, read feeds, ask for access and erase; each knows what it
did (the model) and, as in Jepsen, what became of it: an answer (ok), a refusal (fail), or silence (unknown). What is
unknown is asked again with the same messageId until it is known. Meanwhile processes are killed at random: servers, the
worker, the database server, one of its backends. In between and at the end everything is read again by `oracle.check`,
and the people must be what the model says: nothing acknowledged lost, no effect twice, nobody erased back.

`--scenario import`: 20,000 events in batches as the Segment SDKs send them, the server killed 20 times.
"""

import argparse
import random
import sys
import threading
import time
import traceback
from decimal import Decimal
from typing import Final

from tests.faults.client import PUSHED
from tests.faults.judging import judge, turned_over
from tests.faults.recipient import taken
from tests.faults.street import PATIENCE, Street, awaited, printed, street
from tests.faults.townsfolk import AT, Model, Person, Worker
from tests.worlds import order

KINDS: Final = ("server", "server", "worker", "postmaster", "backend", "backend", "rotation", "rotation")


def storm(kills: int, seed: int, clients: int, every: int, pace: int, minutes: float) -> int:
    """The mix: so many kills, or as many as come in so many minutes. Answers the exit code."""
    end_at = time.monotonic() + minutes * 60
    drawn = random.Random(seed)
    model, end = Model(), threading.Event()
    with street(2) as town:
        secrets = town.house.furnish()
        town.house.ask("destinations", "webhook", PUSHED, f"{town.hooks}/storm")
        town.open()
        town.turn(on=True)
        workers = [Worker(n, town, secrets, model, random.Random(seed * 1000 + n), end) for n in range(clients)]
        for worker in workers:
            worker.start()
        done = 0
        while done < kills and not model.findings and time.monotonic() < end_at:
            enough = model.counts["ok"] + drawn.randint(0, 2 * pace)
            awaited("answers between two kills", lambda enough=enough: model.counts["ok"] >= enough or model.findings)
            time.sleep(drawn.random() / 20)
            if town.kill(drawn, KINDS) is None:
                continue
            done += 1
            if done % 10 == 0:
                print(f"{done} kills, {model.counts}, {town.kills}", file=sys.stderr, flush=True)
            if done % every == 0 and done < kills:
                _check(town, model, workers)
        end.set()
        for worker in workers:
            worker.join(PATIENCE + 60)
            if worker.is_alive():
                model.found("a client hangs")
        town.ready()
        town.settled()
        town.turn(on=False)
        town.rest()
        judge(town, model)
        ended = turned_over(town, model, drawn)
        orders = sum(len(person.orders) for person in model.people.values())
        erased = sum(person.erased for person in model.people.values())
        return printed(
            {"scenario": "mix", "kills": done, "findings": len(model.findings), "seed": seed, "killed": town.kills,
             "operations": model.counts, "people": len(model.people), "orders": orders, "erased": erased,
             "pages": len(model.told), "turns": town.turning_told(), "deliveries": len(taken(town.folder, "storm")),
             "checked": model.checked, "ended": ended}
        )  # fmt: skip


def _check(town: Street, model: Model, workers: list[Worker]) -> None:
    """Everybody pauses; what is there is read again and judged; everybody goes on."""
    for worker in workers:
        worker.pause.set()
    for worker in workers:
        awaited("a client to pause", lambda one=worker: one.idle.is_set())
    town.ready()
    town.turn(on=False)
    judge(town, model)
    town.turn(on=True)
    for worker in workers:
        worker.idle.clear()
        worker.pause.clear()


def import_(kills: int, seed: int, events: int) -> int:
    """20,000 events over HTTP, the server killed 20 times. Answers the exit code."""
    drawn = random.Random(seed)
    model, end = Model(), threading.Event()
    with street(1, worker=False) as town:
        secrets = town.house.furnish()
        town.open()
        sender = Worker(0, town, secrets, model, drawn, end)
        users = [f"imported-{number}" for number in range(events // 20)]
        for user in users:
            model.people[user] = Person()
        sent = []
        for number in range(events):
            user, amount = users[number % len(users)], Decimal(drawn.randint(1, 9999)) / 100
            name = f"n-{number}"
            model.people[user].orders[name] = amount
            sent.append(order(user, float(amount), id=name, order_id=name, at=AT))
        batches = [sent[start : start + 100] for start in range(0, events, 100)]
        marks = sorted(drawn.sample(range(len(batches)), kills))
        done = 0
        senders = [Worker(n, town, secrets, model, random.Random(seed * 1000 + n), end) for n in range(4)]
        waiting = list(enumerate(batches))
        lock = threading.Lock()

        def work(one: Worker) -> None:
            nonlocal done
            while True:
                with lock:
                    if not waiting:
                        return
                    number, batch = waiting.pop(0)
                    strike = number in marks
                if strike:
                    timer = threading.Timer(drawn.random() / 10, lambda: _strike(town, drawn))
                    timer.start()
                try:
                    one.batch(*batch)
                except Exception:
                    model.found(traceback.format_exc(limit=-4))
                if strike:
                    timer.join()
                    done += 1

        threads = [threading.Thread(target=work, args=(one,)) for one in senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del sender
        town.ready()
        town.settled()
        stored = town.house.stored()
        if stored != events:
            model.found(f"{stored} events are there instead of {events}")
        town.rest()
        judge(town, model)
        return printed(
            {"scenario": "import", "kills": sum(town.kills.values()), "findings": len(model.findings), "seed": seed,
             "events": stored, "operations": model.counts}
        )  # fmt: skip


def _strike(town: Street, drawn: random.Random) -> None:
    """The server dies; if it is just being started again, as soon as it is there."""
    awaited("a server to kill", lambda: town.kill(drawn, ("server",)))


def main() -> int:
    """Ends with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--scenario", choices=["mix", "import"], default="mix")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--every", type=int, default=50, help="kills between two full readings")
    parser.add_argument("--pace", type=int, default=10, help="answers between two kills, in the mean")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then no more kills; the end is judged")
    parser.add_argument("--events", type=int, default=20_000, help="for the import")
    options = parser.parse_args()
    if options.scenario == "import":
        return import_(20 if options.kills is None else options.kills, options.seed, options.events)
    return storm(
        500 if options.kills is None else options.kills,
        options.seed,
        options.clients,
        options.every,
        options.pace,
        options.minutes,
    )


if __name__ == "__main__":
    raise SystemExit(main())
