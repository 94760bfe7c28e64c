"""`demo`: the whole story on a vault of its own, through the real doors and the real Segment SDK."""

import asyncio
import json
import signal
import time
from typing import Any, NoReturn

import httpx
import rich_click as click
from rich.console import Console

from vault.bootstrap import open_vault
from vault.cli import demo_stage as stage
from vault.cli.output import json_option, wants_json
from vault.config import Settings
from vault.errors import ConfigError, Unavailable
from vault.flows import browse
from vault.rights import certificate as certificates


@click.command()
@click.option("--once", is_flag=True, help="Run through, remove everything, and end with 0 if all of it came true.")
@json_option
@click.pass_context
def demo(ctx: click.Context, *, once: bool) -> None:
    """See the whole story run: events in, profiles out, a withdrawal, an access answer, an erasure, the proof.

    \b
    Example:
      profile-vault demo            plays the story, then stays up for you to try
      profile-vault demo --once     plays it, removes everything, ends with 0 or 1

    The vault of the demonstration lies in a folder of its own and is made anew each time. The last line is one JSON
    object with the figures of each act.
    """
    console = Console(quiet=wants_json(ctx), highlight=False)
    data_dir = stage.folder(once=once)
    stage.clean(data_dir)
    settings = stage.settings_of(data_dir)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)  # whoever ends it takes its server and its database along
    try:
        secrets = asyncio.run(stage.furnish(settings))
        with stage.serving(data_dir) as url:
            figures = _tell(console, url, secrets, settings)
            figures["seconds"] = round(time.monotonic() - started, 1)
            if not once:
                _where_next(console, url, secrets, settings)
            click.echo(json.dumps(figures))
            if not once:
                _stay(console)
    except httpx.HTTPError as error:
        raise Unavailable(f"The demonstration's server did not answer as it should ({type(error).__name__}).") from None
    finally:
        if once:
            stage.clean(data_dir)


def _tell(console: Console, url: str, secrets: stage.Secrets, settings: Settings) -> dict[str, Any]:
    """The acts in order; their figures by name."""
    try:
        from vault.cli import demo_story as story  # noqa: PLC0415 - the SDK is an extra
    except ImportError:
        raise ConfigError(
            "The demonstration sends its events with the Segment SDK: pip install 'profile-vault[demo]'."
        ) from None
    shop = stage.Party(url, secrets.write_key)
    desk = stage.Party(url, secrets.officer)
    readers = {name: stage.Reader(url, name, token) for name, token in secrets.tokens.items()}
    figures: dict[str, Any] = {"events": story.send_events(console, url, secrets)}
    figures["feeds"] = story.show_feeds(console, readers)
    figures["withdrawal"] = story.withdraw(console, shop, readers)
    figures["access"] = story.answer_access(console, desk)
    figures["erasure"], certificate = story.erase(console, desk, readers)
    figures["proof"] = _prove(console, url, certificate, settings)
    return figures


def _prove(console: Console, url: str, certificate: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Act 6: certificate and log are checked by whoever wants to."""
    console.rule("6  The proof", align="left")
    keys = httpx.get(f"{url}/.well-known/profile-vault-keys.json", timeout=stage.PATIENCE).raise_for_status().json()
    signature = certificate["signature"]
    public = next(bytes.fromhex(key["public"]) for key in keys["keys"] if key["key_id"] == signature["key_id"])
    certificates.verify(certificate["document"], signature, public)

    async def audit() -> dict[str, Any]:
        async with open_vault(settings) as vault:
            return await browse.audit_verify(vault)

    report = asyncio.run(audit())
    if not report["ok"]:
        raise Unavailable("The audit log does not verify.")
    size, root = report["size"], report["root"][:16]
    console.print(f"The certificate's signature holds. The audit log verifies: {size} entries, root {root}...")
    return {"certificate": "verified", "audit_entries": size, "audit": "verified"}


def _where_next(console: Console, url: str, secrets: stage.Secrets, settings: Settings) -> None:
    """What a newcomer may type next."""
    order = '{"userId":"you","event":"Order Completed","properties":{"order_id":"o-1","revenue":9.5,"currency":"USD"}}'
    feed = f"curl -H 'Authorization: Bearer {secrets.tokens['warehouse']}' {url}/v1/destinations/warehouse/profiles"
    track = f"curl -u '{secrets.write_key}:' -H 'Content-Type: application/json' {url}/v1/track -d '{order}'"
    console.rule("Where to look next", align="left")
    console.print(f"It stays up at {url} until you press Ctrl-C. Data, keys and log lie in {settings.data_dir}.")
    console.print(f"Read a feed:    {feed}", soft_wrap=True)
    console.print(f"Send an event:  {track}", soft_wrap=True)
    console.print(f"The HTTP API:   {url}/schema")
    console.print("The tutorial:   docs/tutorial/    What decides: policies/")


def _stop(number: int, _frame: object) -> NoReturn:
    """As Ctrl-C does it."""
    signal.signal(number, signal.SIG_IGN)  # once is enough: what it began to clean up is cleaned up
    raise KeyboardInterrupt


def _stay(console: Console) -> None:
    signal.signal(signal.SIGINT, _stop)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("Stopped.")
