"""The keys that this process holds, opened in memory: fetched by name from the key store, and from nowhere else.

Promises: a process gets only the names that it was opened for (design section 2, promise 2); a key of an unknown epoch
is asked for once more in the store and then refused, no other key is tried (threats A14); nothing here prints, pickles
or copies a key. CPython cannot wipe memory: a key may live on in a freed page until the process ends (docs/threat-model.md).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from vault.clock import SECOND, Clock, Micros, SystemClock, isoformat
from vault.crypto.keyservice import LATER, PENDING
from vault.crypto.signing import ALGORITHM, Signer
from vault.errors import NotFound, Unavailable
from vault.ids import random_bytes
from vault.keys import names as named
from vault.keys.keystore import KEY_BYTES, Held, KeyStore

ALL: Final = ("*",)  # one-process mode: every name
GRACE: Final = 60 * SECOND  # what was read before a destruction may still be about to be opened: no read takes so long


class Keyring:
    """Opened keys by name and version. Made by bootstrap, once a process."""

    def __init__(self, keystore: KeyStore, *, beside_database: bool = True, clock: Clock | None = None) -> None:
        """Holds nothing until `open`. `beside_database`: a copy of the database's disk holds the key store, too."""
        self._store = keystore
        self._clock: Clock = clock or SystemClock()
        self._beside = beside_database
        self._allowed: tuple[str, ...] = ()
        self._held: dict[str, dict[int, Held]] = {}
        self._epochs: dict[int, dict[int, bytes]] = {}
        self._newest: dict[int, tuple[int, bytes]] = {}
        self._signers: dict[str, Signer] = {}
        self._turn = 0
        self._stamp: object = None  # of the store, when it was last looked at
        self._stamps: dict[str, object] = {}  # of each name that is held
        self._wanted: set[str] = set()  # names that somebody needed where nothing may wait for the key service
        self._fading: dict[str, tuple[Micros, dict[int, Held]]] = {}  # destroyed elsewhere, and when that was seen

    # --- what is held -----------------------------------------------------------------------------------------------

    def open(self, names: Iterable[str] = ALL) -> None:
        """Lets this process hold these names and no others, and fetches those that exist. A name may end in `*`.

        The key service has the last word: what it does not open to this process is not held.
        """
        self._allowed = tuple(names)
        for held in (self._held, self._epochs, self._newest, self._signers, self._stamps, self._fading):
            held.clear()
        self._stamp, self._turn = self._store.stamp, self._store.turn
        wanted = [name for name in self._store.names() if self._may(name) and not name.startswith(named.PASSING)]
        stamps = {name: self._store.stamp_of(name) for name in wanted}
        for name, versions in self._store.opened(wanted).items():
            self._hold(name, versions, stamps[name])
        if not self._store.instant and self._allowed != ALL:
            for name in wanted:
                purpose = named.purpose_of(name)
                if purpose is not None and name not in self._held and self._store.seals(name):
                    self.epoch(purpose)  # which it has to make: not when somebody waits for it

    @property
    def stale(self) -> bool:
        """True if there is something to `refresh`, or was wanted where nothing may wait for a key service."""
        return bool(self._wanted) or self._store.stamp != self._stamp

    def fetch_wanted(self) -> None:
        """`refresh`, and what somebody met who could not wait. Waits itself, so call it in a thread. Raises `Unavailable`."""
        self.refresh()
        for name in list(self._wanted):
            purpose = named.purpose_of(name)
            if name in self._stamps:
                self._look_again(name)
            elif self._store.opens(name):
                self._fetch(name)
            elif purpose is not None:
                self.epoch(purpose)
            self._wanted.discard(name)

    def refresh(self) -> None:
        """Learns what other processes made and destroyed in the store since the last look. Costs one `stat` when nothing.

        What was destroyed goes a minute after it was first missed: a reader who has the rows of before must be able to
        open them, or would call them forged. Raises `Unavailable` where a key service that is elsewhere has to open what a
        rotation made: nobody goes on by the keys of before. Other new keys are fetched when there is time (`stale`).
        """
        if self._fading:
            self._fade()
        stamp = self._store.stamp
        if stamp == self._stamp:
            return
        turn = self._store.turn  # before the keys are looked at: whoever knows a turn knows the keys that it made
        for name in list(self._stamps):
            if self._store.stamp_of(name) != self._stamps[name]:
                try:
                    self._look_again(name)
                except Unavailable as error:
                    if error.reason not in LATER or turn != self._turn:
                        raise
                    self._wanted.add(name)
        self._stamp, self._turn = stamp, turn

    @property
    def turn(self) -> int:
        """How many rotations the keys that are held take account of: stated with everything that is made by them."""
        return self._turn

    def ensure(self, purposes: Iterable[int], kinds: Iterable[str]) -> list[str]:
        """Makes what a vault with these purposes and identifier kinds needs and never had; answers the new names.

        Raises `Unavailable` if one of them was made once and is missing now.
        """
        made = self._store.ensure(named.needed(purposes, kinds), self._clock.now())
        for name in made:
            if self._may(name):
                self._fetch(name)
        return made

    def holds(self, purpose: int, epoch: int | None = None) -> bool:
        """True if this process can open compartments for `purpose` (or RIGHTS), of `epoch` if one is named.

        A process that may only seal keys of that name holds those epochs that it made itself, and no others.
        """
        held = self._epochs.get(purpose)
        if held is None:
            return False
        return epoch is None or epoch in held or named.epochs(purpose) in self._held

    @property
    def protection(self) -> str:
        """`none` when whoever copies the database's disk copies the key store with it, else `separate`."""
        return "none" if self._beside else "separate"

    # --- epoch keys -------------------------------------------------------------------------------------------------

    def epoch(self, purpose: int) -> tuple[int, bytes]:
        """The newest epoch of a purpose and its key. Raises `Unavailable` if it is not held.

        Where keys of that name can be sealed and not opened (a writer, and `rights`), the first call makes an epoch for
        this process alone. The store keeps it for those who can open it; it ends here with the process.
        """
        found = self._newest.get(purpose)
        if found is None:
            name = named.epochs(purpose)
            with self._wanting(name):
                if self._store.opens(name):
                    self._versions(name)
                    return self._newest[purpose]
                self._check(name)
                key = random_bytes(KEY_BYTES)
                stamp = self._store.stamp_of(name)
                epoch = self._store.add(name, key, self._clock.now())
            self._stamps[name] = stamp  # an older one: what the store has of that name is looked at once more
            self._epochs[purpose] = {epoch: key}
            found = self._newest[purpose] = (epoch, key)
        return found

    def epoch_key(self, purpose: int, epoch: int) -> bytes:
        """The key of one epoch. Raises `Unavailable` if it is not held, whatever the reason."""
        keys = self._epochs.get(purpose)
        key = keys.get(epoch) if keys is not None else None
        return key if key is not None else self.key_version(named.epochs(purpose), epoch)

    # --- all other keys ---------------------------------------------------------------------------------------------

    def key(self, name: str) -> bytes:
        """The newest key of that name. Raises `Unavailable` if it is not held."""
        versions = self._versions(name)
        return versions[max(versions)].key

    def renewed(self, name: str) -> bytes:
        """As `key`, read from the store: for a key that another process may replace while this one runs."""
        versions = self._fetch(name)
        return versions[max(versions)].key

    def newest_version(self, name: str) -> int:
        """The number of the newest key of that name. Raises `Unavailable` if none is held."""
        return max(self._versions(name))

    def key_version(self, name: str, version: int) -> bytes:
        """One version of a key; another process may have made it just now. Raises `Unavailable` if it is not held."""
        held = self._versions(name).get(version) or self._fetch(name).get(version)
        if held is None:
            raise Unavailable("a key of that version is not held here")
        return held.key

    def signer(self, use: str) -> Signer:
        """The newest signing key of a use. Raises `Unavailable` if it is not held."""
        signer = self._signers.get(use)
        if signer is None:
            signer = self._signers[use] = Signer(use, self.key(named.signing(use)))
        return signer

    def public_keys(self, uses: Iterable[str] = named.SIGNING_USES) -> list[dict[str, Any]]:
        """Every public key that signed for these uses and is kept: {use, key_id, algorithm, public, valid_from, valid_until?}."""
        listed = []
        for use in uses:
            versions = sorted(self._versions(named.signing(use)).items())
            ends: list[Micros | None] = [held.made_at for _, held in versions[1:]]
            for (_, held), until in zip(versions, [*ends, None], strict=True):
                listed.append(_public(Signer(use, held.key), held.made_at, until))
        return listed

    # --- making and destroying --------------------------------------------------------------------------------------

    def make(self, name: str) -> int:
        """Makes a new random key (a first one, or the next version); durable when this returns. Answers its version."""
        self._check(name)
        version = self._store.add(name, random_bytes(KEY_BYTES), self._clock.now())
        if not name.startswith(named.PASSING):
            self._fetch(name)
        return version

    def turn_to(self, name: str) -> int:
        """As `make`, and closes the older versions to everything new: the first step of a rotation. Answers the version."""
        self._check(name)
        self._store.renew(name)
        version = self._store.turn_to(name, random_bytes(KEY_BYTES), self._clock.now())
        self._fetch(name)
        self.refresh()
        return version

    def oldest(self, name: str) -> int:
        """The first version of a name that takes new wraps; 0 before its first rotation."""
        return self._store.oldest(name)

    def destroy(self, name: str, version: int | None = None) -> None:
        """Destroys a key, or one version of it, in the store and here. Other processes drop it when they reopen."""
        self._check(name)
        self._store.destroy(name, version)
        left = {number: held for number, held in self._held.get(name, {}).items() if number != version}
        if version is None or not left:
            self._forget(name)
        else:
            self._hold(name, left, self._store.stamp_of(name))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _versions(self, name: str) -> dict[int, Held]:
        return self._held.get(name) or self._fetch(name)

    def _fetch(self, name: str) -> dict[int, Held]:
        """Reads one name anew from the store."""
        self._check(name)
        stamp = self._store.stamp_of(name)
        try:
            with self._wanting(name):
                versions = self._store.held(name, self._held.get(name, {}))
        except NotFound:
            raise Unavailable("a key that is needed is not in the key store") from None
        if not name.startswith(named.PASSING):
            self._hold(name, versions, stamp)
        return versions

    def _hold(self, name: str, versions: dict[int, Held], stamp: object) -> None:
        """The keys of that name from now on. Each table changes in one go: readers are in other threads, too."""
        self._stamps[name] = stamp
        self._held[name] = versions
        purpose = named.purpose_of(name)
        if purpose is not None:
            newest = max(versions)
            _, faded = self._fading.get(name, (0, {}))
            self._epochs[purpose] = {epoch: held.key for epoch, held in {**faded, **versions}.items()}
            self._newest[purpose] = (newest, versions[newest].key)
        self._signers.pop(name.removeprefix(named.signing("")), None)

    @contextmanager
    def _wanting(self, name: str) -> Iterator[None]:
        """Remembers a name whose key has to be waited for, so that `fetch_wanted` gets it."""
        try:
            yield
        except Unavailable as error:
            if error.reason == PENDING and not name.startswith(named.PASSING):
                self._wanted.add(name)
            raise

    def _look_again(self, name: str) -> None:
        """What the store has of a name now. An epoch that is this process's own goes once a rotation closed it."""
        if name not in self._held and not self._store.opens(name):
            purpose = named.purpose_of(name)
            own = self._newest.get(purpose) if purpose is not None else None
            stamp = self._store.stamp_of(name)
            if own is not None and own[0] < self._store.oldest(name):
                self._forget(name)
            else:
                self._stamps[name] = stamp
            return
        before = self._held.get(name, {})
        try:
            versions = self._fetch(name)
        except Unavailable as error:
            if error.reason in LATER:
                raise
            self._forget(name)
            return
        gone = {version: held for version, held in before.items() if version not in versions}
        if gone:
            self._fading[name] = (self._clock.now(), {**self._fading.get(name, (0, {}))[1], **gone})
            self._fetch(name)

    def _fade(self) -> None:
        now = self._clock.now()
        for name in [name for name, (since, _) in self._fading.items() if not since <= now < since + GRACE]:
            del self._fading[name]
            self._fetch(name)

    def _forget(self, name: str) -> None:
        self._held.pop(name, None)
        self._stamps.pop(name, None)
        purpose = named.purpose_of(name)
        if purpose is not None:
            self._epochs.pop(purpose, None)
            self._newest.pop(purpose, None)
        self._signers.pop(name.removeprefix(named.signing("")), None)

    def _may(self, name: str) -> bool:
        return any(
            name.startswith(allowed[:-1]) if allowed.endswith("*") else name == allowed for allowed in self._allowed
        )

    def _check(self, name: str) -> None:
        if not self._may(name):
            raise Unavailable("this process may not hold the key that is needed")

    def __repr__(self) -> str:
        return f"Keyring({len(self._held)} names)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring does not leave its process; open the key store where the keys are needed")


def _public(signer: Signer, made_at: Micros, until: Micros | None) -> dict[str, Any]:
    listed: dict[str, Any] = {
        "use": signer.use,
        "key_id": signer.key_id,
        "algorithm": ALGORITHM,
        "public": signer.public.hex(),
        "valid_from": isoformat(made_at),
    }
    return listed if until is None else {**listed, "valid_until": isoformat(until)}
