"""What is interrupted: one script a journey, written so that it can be run again from its start with the same message ids.

`furnish` makes the people that the journeys meet. Each journey ends with the worker's loops run dry, so that numbering,
audit leaves, deliveries and the steps of requests are interrupted like everything else.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.faults.client import PUSHED, Client, Json, Secrets
from tests.faults.stage import ROOT
from tests.worlds import identify, order, preference, track
from vault.catalogue.load import read_folder
from vault.catalogue.numbers import RIGHTS
from vault.cli.policy import _apply as apply
from vault.destinations import store as destinations
from vault.flows import hooks
from vault.flows import rotate as rotation
from vault.flows.epochs import destroy_epoch, standing
from vault.flows.retag import renew_tags
from vault.flows.vault import Vault
from vault.keys.names import epochs, index
from vault.policy import version
from vault.sources import store as sources
from vault.staff import store as staff

AT: Final = "2026-03-01T10:00:00Z"
LATER: Final = "2026-03-01T11:00:00Z"
DESTINATIONS: Final = ("warehouse", "email-tool", "ad-platform", "support-desk")
Journey = Callable[[Client], Awaitable[None]]


async def open_doors(vault: Vault) -> Secrets:
    """A server source, a client source, a token for every destination, an officer."""
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        _, shop = await sources.add(connection, "shop", server=True, now=now, key=vault.rows_key)
        _, app = await sources.add(connection, "app", server=False, now=now, key=vault.rows_key)
        tokens = {
            contract.name: await destinations.add_token(connection, contract.number, now, vault.rows_key)
            for contract in vault.catalogue.contracts.values()
        }
        member = await staff.add(connection, "olivia", "officer", now=now, key=vault.rows_key)
        officer = await staff.add_token(connection, member.staff_id, now=now, key=vault.rows_key)
    return Secrets(shop, app, tokens, officer)


def person(user: str, *, anon: str | None = None, **more: Any) -> list[Json]:
    """Somebody who agreed to everything, with an address of their own and one order."""
    return [
        identify(
            user, anon=anon, email=f"{user}@planted.example", firstName=user.title(), id=f"i-{user}", at=AT, **more
        ),
        order(user, 20, id=f"o-{user}", order_id=f"n-{user}", at=AT),
    ]


async def furnish(client: Client) -> None:
    """ada buys, ben has a device, cleo will be erased, dan will withdraw, eve asks for her data; destinations know them."""
    everyone = [one for user in ("ada", "ben", "cleo", "dan", "eve") for one in person(user)]
    await client.send("people", *everyone)
    await client.send(
        "devices",
        track("Product Viewed", anon="d-ben", product_id="p-1", id="v-ben", at=AT),
        track("Product Viewed", anon="d-cleo", product_id="p-2", id="v-cleo", at=AT),
        source="app",
    )
    await client.send("cleo's device", identify("cleo", anon="d-cleo", id="l-cleo", at=AT))
    await client.choose("cleo-objects", "cleo", {"fraud_prevention": "objected"})
    await client.settle()
    for name in DESTINATIONS:
        await client.feed(name)
    await client.settle()


# --- the journeys -----------------------------------------------------------------------------------------------------


async def ingest(client: Client) -> None:
    """New people, known people, a link, a merge, drops, an act in the stream, a repetition within the batch."""
    batch = [
        *person("fay"),
        order("ada", 30, id="o-ada-2", order_id="n-ada-2", at=LATER),
        order("ada", 12.34, id="o-ada-3", order_id="n-ada-3", at=LATER),
        identify("ben", anon="d-ben", id="l-ben", at=LATER),
        track("Never Heard Of", "ada", id="x-1", at=LATER),
        track(
            "Product Viewed",
            "gus",
            product_id="p-9",
            agree={"functional": False, "analytics": False},
            id="x-2",
            at=LATER,
        ),
        preference("dan", advertising=False, id="p-dan", at=LATER),
        order("dan", 5, id="o-dan-2", order_id="n-dan-2", at=LATER),
        order("ada", 30, id="o-ada-2", order_id="n-ada-2", at=LATER),
    ]
    await client.send("batch", *batch)
    await client.send("again", batch[2], order("fay", 300, id="o-fay-2", order_id="n-fay-2", at=LATER))
    await client.settle()


async def choice(client: Client) -> None:
    """A grant, a withdrawal that removes wraps, an objection, a grant again that opens nothing old."""
    await client.choose("c-1", "ada", {"personalisation": "granted"})
    await client.choose("c-2", "dan", {"marketing": "withdrawn", "advertising": "withdrawn"})
    await client.choose("c-3", "dan", {"fraud_prevention": "objected"})
    await client.choose("c-4", "dan", {"marketing": "granted"})
    await client.settle()


async def merge(client: Client) -> None:
    """Two identified devices become one person, of whom one part refused; a claimed link beside it."""
    await client.send("claim", identify("ben", anon="d-ben", id="k-ben", at=LATER), source="app")
    await client.choose("m-1", "ben", {"analytics": "withdrawn"})
    await client.send(
        "merge",
        identify("ben", anon="d-ben", id="l-ben", at=LATER),
        order("ben", 7, id="o-ben-2", order_id="n-ben-2", at=LATER),
    )
    await client.settle()


async def feed(client: Client) -> None:
    """Snapshots in small pages, then changes: an upsert, a retraction, a removal; and what the recipient says of them."""
    for name in ("email-tool", "ad-platform"):
        await client.feed(name, limit=2)
    await client.choose("f-1", "dan", {"marketing": "withdrawn", "advertising": "withdrawn"})
    await client.send("f-2", order("ada", 500, id="o-ada-4", order_id="n-ada-4", at=LATER))
    await client.settle()
    for name in ("email-tool", "ad-platform"):
        await client.feed(name, limit=2)
    await client.settle()


async def webhook(client: Client) -> None:
    """A hook is registered and gets a snapshot; then an upsert, a retraction and a removal are pushed."""
    if not client.was_told("registered"):  # once more would begin a new snapshot, and hide what was skipped
        await hooks.register(client.vault, PUSHED, client.hook())
        client.note("registered", 200, None)
    await client.settle()
    await client.choose("w-1", "dan", {"marketing": "withdrawn", "advertising": "withdrawn"})
    await client.send("w-2", identify("ada", email="ada@new.example", id="w-ada", at=LATER), *person("hal"))
    await client.settle()


async def access(client: Client) -> None:
    """An access request, its archive made and fetched once."""
    request = await _opened(client, "eve", "access")
    await client.settle()
    await client.desk("archive", "GET", f"/v1/requests/{request}/archive")
    await client.settle()


async def erasure(client: Client) -> None:
    """Every step of an erasure: fence, case, keep, keys, rows, certificate; the feed tells; a late event, a new event."""
    request = await _opened(client, "cleo", "erasure")
    await client.settle()
    await client.send("late", order("cleo", 1, id="late-cleo", order_id="n-late", at=AT))
    for name in DESTINATIONS:
        await client.feed(name)
    await client.settle()
    await client.desk("certificate", "GET", f"/v1/requests/{request}/certificate")
    await client.desk("state", "GET", f"/v1/requests/{request}")
    await client.settle()


async def _opened(client: Client, user: str, kind: str) -> str:
    """The request about this person: by an earlier try whose answer may be lost, or opened now."""
    async with client.vault.database.hot() as connection:
        row = await connection.fetchrow("SELECT request_id FROM request WHERE type = $1", kind)
    ref = await client.find("user_id", user)
    if ref is not None and (row is None or kind == "erasure"):  # an erasure that is asked for twice is one (threat D8)
        answer = await client.desk(f"open {kind}", "POST", f"/v1/subjects/{ref}/{kind}")
        assert "request" in answer, f"the request was not opened: {answer}"
        return str(answer["request"])
    assert row is not None, "nobody is found, and nobody was erased"
    return str(row[0])


async def policy(client: Client) -> None:
    """Another version of the policies is applied, as the command does it: by a process that has just read what is live."""
    files = read_folder(ROOT / "policies")
    files["computed.toml"] += "\n# another version\n"
    async with client.vault.database.begin() as connection:
        found = await version.live(connection)
    if found is None or found[0] == client.vault.policy:
        applied = await apply(client.vault, files)
        client.note("applied", 200, applied.number)
    await client.settle()


async def rotate(client: Client) -> None:
    """Two purposes and rights get a new epoch, everybody moves, addresses get new tags, old epochs go; people come between."""
    vault = client.vault
    names = [epochs(vault.catalogue.purposes[name].number) for name in ("marketing", "service")] + [epochs(RIGHTS)]
    if not client.was_told("rotated"):  # what ended is not begun again
        told = await rotation.rotate(vault, names)
        client.note("rotated", 200, told.epochs)
    if not client.was_told("retagged"):
        made = await renew_tags(vault, index("email"))
        client.note("retagged", 200, made[0])
    await client.send("r-1", order("ada", 31, id="o-ada-5", order_id="n-ada-5", at=LATER), *person("ira"))
    await client.choose("r-2", "dan", {"marketing": "withdrawn"})
    for name in names:
        for version_ in vault.keystore.versions(name)[:-1]:
            await destroy_epoch(vault, name, version_)
    left = (await standing(vault)).wraps or {}
    for name in names:
        assert list(left[name]) == vault.keystore.versions(name), f"{name} is wrapped under {left[name]}"
    await client.settle()


JOURNEYS: Final[dict[str, Journey]] = {
    "ingest": ingest,
    "choice": choice,
    "merge": merge,
    "feed": feed,
    "webhook": webhook,
    "access": access,
    "erasure": erasure,
    "policy": policy,
    "rotate": rotate,
}
