"""Importing the vault hands nobody the means to open a value: permits come from the gate, and from nowhere else."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import vault
from vault.policy.permit import Permit

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {"vault/policy/gate.py", "vault/policy/permit.py", "vault/policy/staff.py"}
SOURCES = sorted(path for folder in ("vault", "api") for path in (ROOT / folder).rglob("*.py"))
# The flows that open values. Another one here is a decision to be reviewed, not an accident.
OPENERS = {"open_field", "open_event"}


def modules() -> list[str]:
    found = pkgutil.walk_packages(vault.__path__, "vault.")
    return sorted(one.name for one in found if ".migrations" not in one.name and ".policies" not in one.name)


def test_importing_vault_hands_out_no_permit_maker() -> None:
    for name in modules():
        module = importlib.import_module(name)
        for attribute, thing in vars(module).items():
            if attribute.startswith("_") or not inspect.isfunction(thing):
                continue
            returned = inspect.get_annotations(thing).get("return")
            assert returned is not Permit, f"{name}.{attribute} makes permits"
            assert returned != "Permit", f"{name}.{attribute} makes permits"


def test_only_the_gate_reaches_for_the_maker() -> None:
    for path in SOURCES:
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module == "vault.policy.permit"
            for alias in node.names
        }
        assert "_issue" not in names or str(path.relative_to(ROOT)) in MAKERS, path


def test_a_permit_cannot_be_constructed_by_a_plain_call() -> None:
    with pytest.raises(TypeError):
        Permit(permit_id=b"0" * 16, actor="me", purpose=0, objects=None, policy=0, reason="because", proof=object())


def test_every_opener_demands_a_permit() -> None:
    sealing = importlib.import_module("vault.profile.sealing")
    for name in OPENERS:
        assert "permit" in inspect.signature(getattr(sealing, name)).parameters
    assert "permit" in inspect.signature(sealing.Opening).parameters  # what a page opens by
