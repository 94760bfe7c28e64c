"""Erased means erased: a person is planted in a vault, lives, is backed up and erased; then everything that is left is searched.

Each step says in plain words what it does and what came of it. What a search must not find is looked for in clear, UTF-16,
hex and base64 at every alignment; and each search first finds what was put there on purpose, so that one that finds nothing
is known to look. Threats A15, D5, D16, section 4.3.
"""

import asyncio
import base64
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.e2e.house import Door, House, awaited, bearer
from tests.forensics import attempt, stage
from tests.forensics.person import (
    CANARIES,
    answer_access,
    choose,
    erase,
    ingest,
    offer_wrongly,
    read_everywhere,
    refusing_receiver,
)
from tests.forensics.remains import data_keys, left_behind, store_keys
from tests.forensics.search import Hit, Search
from vault.bootstrap import open_vault
from vault.config import load
from vault.flows.epochs import destroy_epoch

CONTROL: Final = "this text stands in clear on purpose: control-quartz-1"
SHOWN: Final = 12  # hits that are told one by one

Say = Callable[[str], None]
Beside = Callable[[Door, Any], None]


class Story:
    """One run. `findings` is what should not be; empty is what is hoped for."""

    def __init__(self, house: House, thief: Path, say: Say, *, short: bool = False) -> None:
        """`thief`: a folder outside the vault's, for what somebody took away.

        `short`: the power stays on, no log is archived, and backups lie with the thief, so that less is searched.
        """
        self.house, self.thief, self._say, self._short = house, thief, say, short
        self.findings: list[str] = []
        self.figures: dict[str, Any] = {}
        self.before: dict[Any, bytes] = {}
        self._step = 0
        self._started = time.monotonic()

    # --- telling ------------------------------------------------------------------------------------------------------

    def step(self, words: str) -> None:
        """What happens now."""
        self._step += 1
        self._say(f"\n{self._step:2}. {words}")

    def told(self, words: str) -> None:
        """What came of it."""
        self._say(f"    {words}")

    def expect(self, right: bool, good: str, bad: str) -> None:
        """One claim."""
        if right:
            self.told(f"as it must be: {good}")
        else:
            self.findings.append(bad)
            self.told(f"FINDING: {bad}")

    def none(self, hits: Sequence[Hit], what: str) -> None:
        """A search that must find nothing."""
        places = sorted({f"{hit.needle} as {hit.form} in {hit.place}" for hit in hits})
        self.expect(not hits, f"no {what} anywhere", f"{what}: {'; '.join(places[:SHOWN])}")

    def some(self, hits: Sequence[Hit], what: str, *places: str) -> None:
        """A control: a search that must find something, in each of these places."""
        missed = [place for place in places if not any(place in hit.place for hit in hits)]
        self.expect(bool(hits) and not missed, what, f"the search is blind: not {what}: {missed}")

    # --- the story ----------------------------------------------------------------------------------------------------

    def run(self, beside: Beside = lambda _door, _secrets: None) -> dict[str, Any]:
        """All of it; answers what the last line says. `beside`: looked at once the person is erased."""
        house = self.house
        self.step(
            "A vault is made. Its database copies each piece of its log to an archive, as one that is backed up does."
        )
        secrets = house.furnish()
        backups = self.thief / stage.BACKUPS if self._short else house.folder / stage.BACKUPS
        backups.mkdir()
        if not self._short:
            stage.archive_the_log(house)
        house.environ["PROFILE_VAULT_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        temporary = house.folder / "tmp"
        temporary.mkdir()
        house.environ["TMPDIR"] = str(temporary)
        with refusing_receiver() as receiver:
            with house.serving("--log-level", "debug") as door:
                if not self._short:
                    self._control(door)
                ref = self._lives(door, secrets, receiver)
                if self._short:
                    self._ends(door, secrets, ref, backups, beside)
                else:
                    self.step("The power fails: vault and database die at once, in the middle of everything.")
                    stage.lose_power(house, door)
            if not self._short:
                with house.serving("--log-level", "debug") as door:
                    door.settled()
                    self.told("both are up again, and everything that was acknowledged is there")
                    self._rotate("An epoch ends while the person is there: their keys are wrapped anew.")
                    self._ends(door, secrets, ref, backups, beside)
        self._try()
        self.figures["seconds"] = round(time.monotonic() - self._started, 1)
        self.figures["findings"] = self.findings
        self.figures["ok"] = not self.findings
        return self.figures

    def _ends(self, door: Door, secrets: Any, ref: str, backups: Path, beside: Beside) -> None:
        self._back_up(backups)
        if not self._short:
            self._everywhere(door, "before the erasure")
        self._erase(door, secrets, ref)
        beside(door, secrets)
        self._everywhere(door, "after the erasure")
        self._wipe()
        self._destroy_epochs()
        self._others(door)
        self._certified(door, secrets)

    def _control(self, door: Door) -> None:
        self.step("Is the search blind? A text is put into the database in clear, and looked for everywhere.")
        self.house.sql("INSERT INTO instance (name, value) VALUES ('canary', $1)", CONTROL)
        self.house.sql("SELECT pg_switch_wal()")
        archive = self.house.folder / stage.BACKUPS / "log"
        awaited("a piece of the log in the archive", lambda: any(archive.iterdir()))
        hits = left_behind(self.house, door, Search({"control": CONTROL}, {}))
        self.some(hits, "it is found in tables, log, archive and dump", "/base/", "pg_wal", "backups/log", "dump")
        root = bytes.fromhex(self.house.key_file.read_text())
        found, _ = Search({}, {"root": root}).files(self.house.folder)
        self.some(found, "the root key is found in its own file, the one exception by name", self.house.key_file.name)

    def _lives(self, door: Door, secrets: Any, receiver: Any) -> str:
        self.step(
            f"A person with {len(CANARIES)} planted values lives here: a shop's SDK, curl and a file send what they do."
        )
        hook = self.house.ask("destinations", "webhook", "email-tool", receiver.url)["secret"]
        doors = {f"token {name}": token for name, token in secrets.tokens.items()}
        doors |= {"write key": secrets.write_key, "officer's token": secrets.officer, "webhook secret": hook}
        self._values = CANARIES | doors
        self._keys = {"webhook secret, raw": base64.b64decode(hook.removeprefix("whsec_"))}
        ingest(self.house, door, secrets.write_key)
        choose(door, secrets.write_key)
        self.told("they withdrew one consent, with evidence")
        offer_wrongly(door, secrets)
        self.told("every door was offered their values in ways that fail, so that errors were logged")
        read_everywhere(door, secrets)
        self.told("four recipients read what they may")
        name = CANARIES["first name"].encode()
        awaited("a refused webhook", lambda: any(name in one for one in receiver.bodies))
        self.told("a webhook was pushed, refused, and thrown back in the answer; it is tried again and again")
        ref = answer_access(self.house, door, secrets.officer)
        self.told("an officer answered an access request; a second archive lies sealed, not fetched")
        door.settled()
        self._look_for_keys()
        return ref

    def _look_for_keys(self) -> None:
        """Every key that there is now: none of them may ever lie anywhere as it is."""
        self._keys |= store_keys(self.house) | data_keys(self.house)

    def _rotate(self, words: str) -> None:
        self.step(words)
        done = self.house.ask("keys", "rotate", "--all")
        self.told(f"{done['wraps']} wrapped keys were made anew under {len(done['epochs'])} new epochs")
        self._look_for_keys()

    def _back_up(self, backups: Path) -> None:
        self.step("Everything is backed up: the database's files, a dump, its log. A thief copies the key store, too.")
        house = self.house
        rows = house.sql("SELECT subject_id, wraps FROM keys.subject_key")
        self.before = {row["subject_id"]: row["wraps"] for row in rows}
        people = [UUID(str(subject)) for subject in self.before]
        self._base = stage.base_backup(house, backups)
        (backups / "dump.sql").write_bytes(stage.dump(house))
        house.sql("SELECT pg_switch_wal()")
        pieces = len(list(backups.glob("log/*")))
        shutil.copytree(house.keyring, self.thief / "keyring")
        shutil.copy(house.key_file, self.thief / "root.key")
        taken = self._taken = attempt.take(house.sql, people)
        self.told(
            f"{len(people)} people, {taken.wraps} wrapped keys, {len(taken.rows['events'])} events, {pieces} pieces of log"
        )
        found, _ = Search({}, taken.blobs).files(house.data)
        self.some(found, "their wrapped keys are found in the live database's files", "/base/")

    def _everywhere(self, door: Door, when: str) -> None:
        self.step(
            f"Search of everything {when}: data, log, archive, backups, dump, logs, figures, temporary and core files."
        )
        search = Search(self._values, self._keys)
        hits = left_behind(self.house, door, search)
        self.none(hits, f"planted value and no key ({len(self._values)} values, {len(self._keys)} keys)")
        cores = [path for path in self.house.folder.rglob("core*") if path.is_file() and path.stat().st_size > 1 << 20]
        self.expect(not cores, "no core file was written", f"{len(cores)} core files")

    def _erase(self, door: Door, secrets: Any, ref: str) -> None:
        self.step("The person asks to be erased. An officer presses the button once.")
        self.certificate = erase(self.house, door, secrets.officer, ref)
        told = self.house.ask("erasures", "verify", str(self.certificate))
        self.request = str(told["request"])
        self.told(
            f"keys destroyed at {told['destroyed_at']}; the certificate holds, and lists {len(told['due'])} recipients as due"
        )
        scan = self.house.ask("erasures", "scan", self.request)
        self.figures["scan"] = {"residue": len(scan["residue"]), "looked_at": scan["looked_at"]}
        self.expect(
            scan["residue"] == [], "the independent scan finds nothing left", f"the scan found {scan['residue']}"
        )
        self._look_for_keys()
        self.expect(
            any(name.startswith("case-") for name in self._keys)
            and any(name.startswith("data key") for name in self._keys),
            f"{len(self._keys)} keys are known by now, the case's among them",
            "keys that must be looked for are not known",
        )

    def _wipe(self) -> None:
        self.step("Sweep: the database's dead rows and its log of writes are written over.")
        done = self.house.ask("erasures", "wipe")
        self.told(f"{done['tables']} tables vacuumed, {done['segments']} pieces of log written over")
        found, size = Search({}, self._taken.blobs).files(self.house.data)
        self.none(found, f"wrapped key of the person in the {size:,} bytes of the live vault")

    def _others(self, door: Door) -> None:
        """Whoever is still there opens as before: what law keeps."""
        ids = [UUID(str(row["subject_id"])) for row in self.house.sql("SELECT subject_id FROM subject")]
        taken = attempt.take(self.house.sql, ids)
        live = attempt.try_all(taken, attempt.keys_in(self.house.keyring, self.house.key_file))
        cases = len(taken.rows["archives"]) + len(taken.rows["cases"])
        right = live.opened - cases == taken.wraps > 0 and live.reads(CANARIES["amount"])
        self.expect(
            right,
            "what law keeps (order, amount, date) opens under the new epoch",
            f"of {taken.wraps} wrapped keys and {cases} sealed files that are left, {live.opened} open",
        )
        door.http.get("/readyz").raise_for_status()

    def _destroy_epochs(self) -> None:
        self.step("The epochs of that time end: what is left is wrapped anew, then the old epoch keys are destroyed.")
        done = self.house.ask("keys", "rotate", "--all")
        old = [(name, epoch) for name, newest in done["epochs"].items() for epoch in range(1, int(newest))]
        refused = self.house.run("keys", "destroy", old[0][0], str(old[0][1]), "--json", check=False)
        self.expect(
            refused.returncode == 1 and "epoch_in_backups" in refused.stderr,
            "while a backup of the data may still be kept, the vault refuses to destroy what it needs, with the date",
            "an epoch that a backup needs could be destroyed",
        )
        self.house.environ["PROFILE_VAULT_DATA_BACKUP_DAYS"] = "0"
        self.house.environ["PROFILE_VAULT_KEYRING_BACKUP_DAYS"] = "0"
        self.told("the operator says that no backup is kept any longer; what the thief has, nobody knows of")
        asyncio.run(self._destroy(old))
        self.told(f"{len(old)} old epoch keys are destroyed")

    async def _destroy(self, old: Sequence[tuple[str, int]]) -> None:
        """What `keys destroy` does, for all of them in one process."""
        async with open_vault(load(environ=self.house.environ)) as vault:
            for name, epoch in old:
                await destroy_epoch(vault, name, epoch)

    def _certified(self, door: Door, secrets: Any) -> None:
        self.house.ask("erasures", "scan", self.request)
        path = f"/v1/requests/{self.request}/certificate"
        document = door.http.get(path, headers=bearer(secrets.officer)).raise_for_status().json()["document"]
        after = document["backups"]["unreadable_after"]
        self.figures["backups_unreadable_after"] = after
        self.expect(
            after is not None,
            f"revision {document['revision']} of the certificate says that no backup opens after {after}",
            "the certificate does not say from when no backup opens",
        )

    def _try(self) -> None:
        self.step("The thief puts the old backup up on a server of their own, and tries every key that still exists.")
        people = [UUID(str(subject)) for subject in self.before]
        with stage.put_up(self._base, self.thief / "server") as sql:
            old = attempt.take(sql, people)
        self.expect(
            old.blobs == self._taken.blobs,
            f"all {old.wraps} wrapped keys are in the backup",
            "the backup is not that of then",
        )
        now = attempt.try_all(old, attempt.keys_in(self.house.keyring, self.house.key_file))
        self.figures["attempt"] = {"keys": now.keys, "tries": now.tries, "opened": now.opened}
        self.expect(
            now.opened == 0,
            f"{now.tries:,} tries with {now.keys} keys, and nothing opens",
            f"{now.opened} of the person's keys open with a key that still exists",
        )
        then = attempt.try_all(old, attempt.keys_in(self.thief / "keyring", self.thief / "root.key"))
        self.figures["control"] = {
            "keys": then.keys,
            "tries": then.tries,
            "opened": then.opened,
            "read": len(then.read),
        }
        self.expect(
            then.opened > 0 and then.reads(CANARIES["e-mail"]) and then.reads(CANARIES["order"]),
            f"the same attempt with the key store of before opens {then.opened} and reads {len(then.read)} values",
            "the attempt is blind: it opens nothing with the right keys either",
        )
