"""From an empty folder to policies of one's own: what `policy init`, `schemas` and `suggest` write holds together."""

import json
import os
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.conftest import Call
from vault.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def ndjson(*messages: dict) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in messages)


@pytest.mark.parametrize("option", [(), ("--shop",)], ids=["small", "shop"])
def test_the_folder_that_is_written_checks_and_its_examples_hold(option: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "policies"
    done = run("policy", "init", str(folder), *option, "--json")
    assert done.exit_code == 0, done.stderr
    written = json.loads(done.stdout)["files"]
    assert sorted(written) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert ".schemas/events.schema.json" in written
    assert run("policy", "check", str(folder)).exit_code == 0
    assert run("policy", "test", str(folder)).exit_code == 0
    if option:
        assert {n for n in written if not n.startswith(".")} == {
            str(p.relative_to(ROOT / "policies")) for p in (ROOT / "policies").rglob("[!.]*.*") if p.suffix != ".json"
        }


def test_a_folder_that_holds_anything_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run("policy", "init", str(tmp_path), "--json")
    assert (done.exit_code, done.stdout, json.loads(done.stderr)["code"]) == (1, "", "not_empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    file = run("policy", "init", str(tmp_path / "mine.txt"), "--json")
    assert (file.exit_code, json.loads(file.stderr)["code"]) == (1, "not_empty")
    under = run("policy", "init", str(tmp_path / "mine.txt" / "deeper"), "--json")
    assert (under.exit_code, json.loads(under.stderr)["code"]) == (1, "unwritable_folder")


def test_schemas_are_printed_as_one_document_or_written_as_files(tmp_path: Path) -> None:
    printed = json.loads(run("policy", "schemas", "--json").stdout)
    done = run("policy", "schemas", "--write", str(tmp_path / "s"), "--json")
    assert sorted(json.loads(done.stdout)["files"]) == [f"{name}.schema.json" for name in sorted(printed)]
    for name, schema in printed.items():
        assert json.loads((tmp_path / "s" / f"{name}.schema.json").read_text()) == schema


def test_a_vault_begins_with_a_folder_of_its_own_and_grows_it_by_what_was_dropped(
    environ: dict[str, str], call: Call, tmp_path: Path
) -> None:
    """The way of a new developer: init, send, suggest, review, apply, send again: nothing is dropped any more."""
    folder = tmp_path / "policies"
    environ["PROFILE_VAULT_POLICIES"] = str(folder)
    assert run("policy", "init", str(folder)).exit_code == 0
    assert call("sources", "add", "app", "--class", "server").exit_code == 0

    def sent(number: int) -> bytes:
        who = {"userId": "u-1", "context": {"consent": {"categoryPreferences": {"analytics": True}}}}
        return ndjson(
            {**who, "type": "identify", "messageId": f"i-{number}", "traits": {"email": "a@b.example", "phone": "+4930123456"}},
            {**who, "type": "track", "messageId": f"t-{number}", "event": "Report Opened"},
            {**who, "type": "track", "messageId": f"s-{number}", "event": "Signed Up", "properties": {"team_size": 3}},
            {**who, "type": "group", "messageId": f"g-{number}", "groupId": "g-1", "traits": {}},
        )  # fmt: skip

    assert call("import", "-", "--source", "app", stdin=sent(1)).exit_code == 0
    told = json.loads(call("policy", "suggest", "--json").stdout)
    assert (told["written"], told["problems"]) == (False, [])
    headers = {one["lines"][0] for one in told["suggestions"]}
    assert headers == {'[track."Report Opened"]', "[phone]", '[track."Signed Up".properties.team_size]', '[group."*"]'}
    printed = call("policy", "suggest").stdout
    assert all(line in printed for one in told["suggestions"] for line in one["lines"])
    assert "4930123456" not in printed

    before = (folder / "events.toml").read_text()
    written = json.loads(call("policy", "suggest", "--purpose", "service", "--write", "--json").stdout)
    assert written["written"] is True
    assert (folder / "events.toml").read_text().startswith(before)
    assert (folder / "events.toml").stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert call("policy", "apply").exit_code == 0
    again = json.loads(call("import", "-", "--source", "app", "--json", stdin=sent(2)).stdout)
    assert (again["stored"], again["dropped"]) == (4, {})
    assert json.loads(call("policy", "suggest", "--json").stdout)["suggestions"] == []


@pytest.mark.parametrize(
    "arguments", [("policy", "check"), ("policy", "test"), ("policy", "apply"), ("policy", "suggest")]
)
def test_a_folder_that_is_named_and_not_there_is_an_error_not_the_example_shop(
    environ: dict[str, str], call: Call, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    environ["PROFILE_VAULT_POLICIES"] = str(tmp_path / "polices")
    done = call(*arguments, "--json")
    told = json.loads(done.stderr)
    assert (done.exit_code, done.stdout, told["code"]) == (1, "", "config")
    assert "polices" in told["hint"]


def test_a_first_start_with_a_folder_that_is_not_there_applies_nothing(
    environ: dict[str, str], call: Call, tmp_path: Path
) -> None:
    folder = environ["PROFILE_VAULT_POLICIES"]
    environ["PROFILE_VAULT_POLICIES"] = str(tmp_path / "polices")
    done = call("sources", "add", "shop", "--class", "server", "--json")
    assert (done.exit_code, json.loads(done.stderr)["code"]) == (1, "config")
    environ["PROFILE_VAULT_POLICIES"] = folder
    assert call("sources", "add", "shop", "--class", "server").exit_code == 0


def test_the_example_shop_is_named_where_no_folder_is_set(environ: dict[str, str], call: Call, tmp_path: Path) -> None:
    environ["PROFILE_VAULT_POLICIES"] = ""
    with chdir(tmp_path):
        done = call("policy", "check", "--json")
    assert done.exit_code == 0
    assert "example shop" in done.stderr


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_lines_that_do_not_fit_the_folder_are_printed_and_not_written(
    environ: dict[str, str], call: Call, tmp_path: Path
) -> None:
    folder = tmp_path / "policies"
    environ["PROFILE_VAULT_POLICIES"] = str(folder)
    run("policy", "init", str(folder))
    call("sources", "add", "app", "--class", "server")
    signed = {"type": "track", "userId": "u-1", "messageId": "1", "event": "Signed Up", "properties": {"team": 3}}
    call("import", "-", "--source", "app", stdin=ndjson(signed))
    events = folder / "events.toml"
    text = events.read_text()
    start = text.index('[track."Signed Up".properties]')
    inline = text[:start] + 'properties = { plan = { number = 1, type = "text", category = "user.account" } }\n'
    events.write_text(inline + text[text.index('[track."Signed In"]') :])
    assert run("policy", "check", str(folder)).exit_code == 0
    before = events.read_text()
    refused = call("policy", "suggest", "--write", "--json")
    assert (refused.exit_code, json.loads(refused.stderr)["code"]) == (1, "policy")
    assert events.read_text() == before
    shown = call("policy", "suggest")
    assert shown.exit_code == 0
    assert "do not fit" in shown.stdout


def test_what_suggest_is_asked_for_must_exist(call: Call) -> None:
    call("sources", "add", "app", "--class", "server")
    wrong = call("policy", "suggest", "--purpose", "fun", "--json")
    assert wrong.exit_code == 1
    assert "analytics" in json.loads(wrong.stderr)["message"] + json.loads(wrong.stderr).get("hint", "")
    assert call("policy", "suggest", "--source", "nobody").exit_code == 1
    assert call("sources", "watch", "nobody").exit_code == 1
