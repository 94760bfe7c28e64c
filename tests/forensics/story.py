"""Erased means erased: a person is planted in a vault, lives, is backed up and erased; then everything that is left is searched.

Each step says in plain words what it does and what came of it. What a search must not find is looked for in clear, UTF-16,
hex and base64 at every alignment; and each search first finds what was put there on purpose, so that one that finds nothing
is known to look. Threats A15, D5, D16, section 4.3.
"""

import base64
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.e2e.house import Door, House, awaited
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

CONTROL: Final = "this text stands in clear on purpose: control-quartz-1"
SHOWN: Final = 12  # hits that are told one by one

Say = Callable[[str], None]


class Story:
    """One run. `findings` is what should not be; empty is what is hoped for."""

    def __init__(self, house: House, thief: Path, say: Say) -> None:
        """`thief`: a folder outside the vault's, for what somebody took away."""
        self.house, self.thief, self._say = house, thief, say
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

    def run(self) -> dict[str, Any]:
        """All of it; answers what the last line says."""
        house = self.house
        self.step(
            "A vault is made. Its database copies each piece of its log to an archive, as one that is backed up does."
        )
        secrets = house.furnish()
        log = stage.archive_the_log(house)
        house.environ["PROFILE_VAULT_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        temporary = house.folder / "tmp"
        temporary.mkdir()
        house.environ["TMPDIR"] = str(temporary)
        with refusing_receiver() as receiver:
            with house.serving("--log-level", "debug") as door:
                self._control(door)
                self._lives(door, secrets, receiver)
                ref = answer_access(house, door, secrets.officer)
                self.told("an officer answered an access request; a second archive lies sealed, not fetched")
                door.settled()
                self._look_for_keys()
                self.step("The power fails: vault and database die at once, in the middle of everything.")
                stage.lose_power(house, door)
            with house.serving("--log-level", "debug") as door:
                door.settled()
                self.told("both are up again, and everything that was acknowledged is there")
                self._rotate("An epoch ends while the person is there: their keys are wrapped anew.")
                base, taken = self._back_up(log)
                self._everywhere(door, "before the erasure")
                self._erase(door, secrets, ref)
                self._everywhere(door, "after the erasure")
                self._wipe(taken)
                self._destroy_epochs()
                self._others(door)
        self._try(base, taken)
        self.figures["seconds"] = round(time.monotonic() - self._started, 1)
        self.figures["findings"] = self.findings
        self.figures["ok"] = not self.findings
        return self.figures

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

    def _lives(self, door: Door, secrets: Any, receiver: Any) -> None:
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

    def _look_for_keys(self) -> None:
        self._keys |= store_keys(self.house) | data_keys(self.house)

    def _rotate(self, words: str) -> None:
        self.step(words)
        done = self.house.ask("keys", "rotate", "--all")
        self.told(f"{done['wraps']} wrapped keys were made anew under {len(done['epochs'])} new epochs")
        self._look_for_keys()

    def _back_up(self, log: Path) -> tuple[Path, attempt.Taken]:
        self.step("Everything is backed up: the database's files, a dump, its log. A thief copies the key store, too.")
        house = self.house
        rows = house.sql("SELECT subject_id, wraps FROM keys.subject_key")
        self.before = {row["subject_id"]: row["wraps"] for row in rows}
        people = [UUID(str(subject)) for subject in self.before]
        base = stage.base_backup(house)
        (house.folder / stage.BACKUPS / "dump.sql").write_bytes(stage.dump(house))
        house.sql("SELECT pg_switch_wal()")
        pieces = len(list(log.iterdir()))
        shutil.copytree(house.keyring, self.thief / "keyring")
        shutil.copy(house.key_file, self.thief / "root.key")
        taken = attempt.take(house.sql, people)
        self.told(
            f"{len(people)} people, {taken.wraps} wrapped keys, {len(taken.rows['events'])} events, {pieces} pieces of log"
        )
        found, _ = Search({}, taken.blobs).files(house.data)
        self.some(found, "their wrapped keys are found in the live database's files", "/base/")
        return base, taken

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

    def _wipe(self, taken: attempt.Taken) -> None:
        self.step("Sweep: the database's dead rows and its log of writes are written over.")
        done = self.house.ask("erasures", "wipe")
        self.told(f"{done['tables']} tables vacuumed, {done['segments']} pieces of log written over")
        found, size = Search({}, taken.blobs).files(self.house.data)
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
        copy = self.thief / "keys-backup.tar"
        done = self.house.ask("keys", "rotate", "--all")
        self.house.ask("keys", "backup", str(copy))
        gone = 0
        for name, newest in done["epochs"].items():
            for epoch in range(1, int(newest)):
                if self.house.run("keys", "destroy", name, str(epoch), "--json", check=False).returncode == 0:
                    gone += 1
        copy.unlink()
        self.told(f"{gone} old epoch keys are destroyed; the copy of the keys that was made for it, too")

    def _try(self, base: Path, taken: attempt.Taken) -> None:
        self.step("The thief puts the old backup up on a server of their own, and tries every key that still exists.")
        people = [UUID(str(subject)) for subject in self.before]
        with stage.put_up(base, self.thief / "server") as sql:
            old = attempt.take(sql, people)
        self.expect(
            old.blobs == taken.blobs,
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
