"""Plays the attacks and judges each: it failed only if the door had answered before, and what it wanted did not happen.

A judgement says what was seen, in words. An attack on one person's rows fails when nothing of that person is answered any
more, everybody else is, strangers see no difference from an unknown address, and the log accuses that person and nobody else.
An attack that no single read can notice fails when the audit names it, or the vault does not start.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from tests.attack.attacks import ATTACKS, Attack
from tests.attack.scene import TOOL, Attacker, Scene, address

PERSONAL: Final = (
    "subject", "keys.subject_key", "compartment", "event", "ledger", "identifier", "link", "disclosure", "audit_salt",
)  # fmt: skip
BYSTANDER: Final = "bystander"
WHOLE: Final = "klara"  # who is put back whole
STRANGER: Final = "nobody-knows-me"


class Played(NamedTuple):
    """One attack as it went. `why` is empty if it failed as it should."""

    threats: str
    title: str
    did: list[str]  # SQL
    answered: list[str]
    record: str
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether the attacker went away with nothing."""
        return not self.why


class NotAsItShould(Exception):
    """What the attack was to be stopped by did not stop it; or the door had not answered before."""


def must(condition: object, otherwise: str) -> None:
    """Raises `NotAsItShould`."""
    if not condition:
        raise NotAsItShould(otherwise)


def play(scene: Scene, attacks: Sequence[Attack] = ATTACKS) -> Iterator[Played]:
    """These attacks on rows of one person, and the three that no read notices."""
    with scene.open():
        _everybody_arrives(scene, attacks)
        for attack in attacks:
            yield _on_rows(scene, attack)
        yield _judged(scene, "A6, A20", "put back a whole person, consistent in itself", _whole_person)
        yield _judged(scene, "F1", "edit the audit log", _edited_log)
    yield _judged(scene, "A6, D6", "put back the whole database", _whole_database)


def _everybody_arrives(scene: Scene, attacks: Sequence[Attack]) -> None:
    """All are there, all were looked up once; then the attacker keeps a copy of yesterday, and the day goes on."""
    scene.arrive(BYSTANDER, WHOLE, *(attack.victim for attack in attacks))
    scene.sql("CREATE SCHEMA yesterday")
    for table in PERSONAL:
        scene.sql(f"CREATE TABLE yesterday.{table.rpartition('.')[2]} AS SELECT * FROM {table}")
    for attack in attacks:
        scene.change(attack.victim, firstName="Renamed")


def _on_rows(scene: Scene, attack: Attack) -> Played:
    attacker, answered, record, why = Attacker(scene), [], "", ""
    name = attack.victim
    try:
        before = scene.asked(name)
        must(before.is_success and address(name) in before.text, "the door had not answered before: nothing is shown")
        must(address(name) in scene.feed(), "the feed did not hold the person before: nothing is shown")
        if attack.withdraws:
            scene.withdraw(name)
            must(not scene.asked(name).is_success, "the withdrawal itself did not close the door")
        must(not scene.accusations(name), "the person was accused before anything was done to them")
        attack.act(attacker, scene, scene.people[name])
        must(attacker.said, "nothing was done")
        after, unknown, feed = scene.asked(name), scene.asked(STRANGER), scene.feed()
        answered.append(f"lookup of {address(name)}: {after.status_code}, as for an address that nobody has")
        must(not after.is_success and address(name) not in after.text, "the lookup still answered the value")
        must(_outward(after) == _outward(unknown), "an outsider sees that this person differs from an unknown one")
        must(address(name) not in feed, "the feed still handed the value out")
        answered.append(f"the whole feed of {TOOL}: {len(feed)} people, and not this one")
        must(address(BYSTANDER) in feed, "somebody else lost their data over it")
        must(scene.asked(BYSTANDER).is_success, "somebody else is not answered any more")
        accused = scene.accusations(name)
        must(accused, "the failure is not on record")
        must(not scene.accusations(BYSTANDER), "the log accuses somebody to whom nothing was done")
        record = f"audit log, entry {accused[0]}: integrity:check:failed, naming this person behind a salt"
    except NotAsItShould as failure:
        why = str(failure)
    return Played(attack.threats, attack.title, attacker.said, answered, record, why)


def _outward(answer: object) -> tuple[object, ...]:
    """What an outsider can compare: status and body, without what is random in each."""
    response = answer
    return (response.status_code, response.content)  # type: ignore[attr-defined]


Journey = Callable[[Scene, Attacker, list[str]], str]


def _judged(scene: Scene, threats: str, title: str, journey: Journey) -> Played:
    attacker, answered, record, why = Attacker(scene), list[str](), "", ""
    try:
        record = journey(scene, attacker, answered)
    except NotAsItShould as failure:
        why = str(failure)
    return Played(threats, title, attacker.said, answered, record, why)


def _whole_person(scene: Scene, attacker: Attacker, answered: list[str]) -> str:
    """She withdrew; all her rows of yesterday are put back together. No single read can tell."""
    subject = scene.people[WHOLE]
    must(scene.asked(WHOLE).is_success, "the door had not answered before: nothing is shown")
    scene.withdraw(WHOLE)
    must(not scene.asked(WHOLE).is_success, "the withdrawal itself did not close the door")
    before = _named(
        scene
    )  # a start compares what is new in the journal, and would undo the attack: it has been compared
    must(("narrowing", str(subject)) not in before, "she was named before anything was done to her")
    for table in PERSONAL:
        attacker.do(f"DELETE FROM {table} WHERE subject_id = $1", subject)
        old = table.rpartition(".")[2]
        attacker.do(f"INSERT INTO {table} SELECT * FROM yesterday.{old} WHERE subject_id = $1", subject)
    deceived = scene.asked(WHOLE).is_success
    answered.append("a single read is deceived" if deceived else "the lookup stays closed")
    status, said = scene.verified("--state")
    must(status == 1 and not said["ok"], "the state audit found nothing")
    found = {(one["check"], one["subject"]) for one in said["state"]["findings"]} - before
    must(("narrowing", str(subject)) in found, "the state audit does not name the person who was put back")
    must(("leaves", None) in found, "the log does not miss what was taken with her")
    answered.append("`profile-vault audit verify --state` ends with 1 and names her: the journal has her withdrawal")
    return f"state audit: person {subject}, `narrowing`; the worker's slow sweep looks for the same for ever"


def _named(scene: Scene) -> set[tuple[str, str | None]]:
    _, said = scene.verified("--state")
    return {(one["check"], one["subject"]) for one in said["state"]["findings"]}


def _edited_log(scene: Scene, attacker: Attacker, answered: list[str]) -> str:
    status, said = scene.verified()
    must(status == 0 and said["ok"], "the log was not whole before: nothing is shown")
    number = scene.sql("SELECT max(number) / 2 FROM audit")[0][0]
    leaf = scene.sql("SELECT leaf FROM audit WHERE number = $1", number)[0][0]
    attacker.do(
        "UPDATE audit SET leaf = overlay(leaf PLACING '9' FROM octet_length(leaf) - 10) WHERE number = $1", number
    )
    status, said = scene.verified()
    scene.sql("UPDATE audit SET leaf = $2 WHERE number = $1", number, leaf)
    must(status == 1 and not said["ok"], "the edit was not noticed")
    answered.append(f"`profile-vault audit verify` ends with 1: {said['problem']}")
    must(said["first_bad"] is not None and said["first_bad"] <= number, "the place is not named")
    return f"signed heads of the log name the place: entry {said['first_bad']} or after, before the next head"


def _whole_database(scene: Scene, attacker: Attacker, answered: list[str]) -> str:
    """Dumped with PostgreSQL's own tools, used for a day, and put back with them."""
    dump = scene.house.folder / "yesterday.dump"
    _tool(scene, "pg_dump", "--format=custom", f"--file={dump}", "vault")
    attacker.said.append("pg_dump vault; (a day goes by); DROP DATABASE vault; pg_restore")
    with scene.open():  # the day
        scene.withdraw(BYSTANDER)
        must(not scene.asked(BYSTANDER).is_success, "the withdrawal itself did not close the door")
    _tool(scene, "dropdb", "--force", "vault")
    _tool(scene, "createdb", "vault", "--owner=vault")
    _tool(scene, "pg_restore", "--dbname=vault", str(dump))
    done = scene.command("serve", "--port", "0")
    said = " ".join(done.stderr.split())
    must(done.returncode != 0, "the vault started on the old database")
    must("audit_behind_head" in said, f"it did not start, yet for another reason: {said[-300:]}")
    answered.append(
        "`profile-vault serve` does not start: the database is older than the audit head beside the journal"
    )
    return "nothing is served; the head of the log lies outside the database"


def _tool(scene: Scene, name: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, as the owner of the database."""
    program = scene.programs / name
    done = subprocess.run(
        [program, *arguments, f"--host={scene.house.socket}", "--username=vault"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    must(done.returncode == 0, f"{name} failed: {done.stderr[-300:]}")
