"""Nobody but the gate makes a permit, and one permit does not become another."""

import copy
import pickle
import re
from pathlib import Path

import msgspec
import pytest

import vault
from tests.policy.folder import shop
from vault.policy import permit as permit_module
from vault.policy.gate import Gate
from vault.policy.permit import Permit

ROOT = Path(vault.__file__).parent


@pytest.fixture
def made() -> Permit:
    return Gate.compile(shop()).compute(4)


def fields(permit: Permit) -> dict[str, object]:
    return {name: getattr(permit, name) for name in permit.__struct_fields__}


def test_a_plain_call_makes_none(made: Permit) -> None:
    for proof in (None, object(), made.proof, made):
        with pytest.raises(TypeError, match="gate only"):
            Permit(**{**fields(made), "proof": proof})  # type: ignore[arg-type]


def test_a_permit_is_not_turned_into_another(made: Permit) -> None:
    with pytest.raises(TypeError, match="gate only"):
        msgspec.structs.replace(made, purpose=7)
    with pytest.raises(AttributeError):
        made.purpose = 7  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields(made) | {"proof": 1}, Permit)


def test_a_permit_does_not_travel(made: Permit) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(made)
    with pytest.raises(TypeError, match="pickled"):
        copy.deepcopy(made)


def test_its_face_tells_no_ids(made: Permit) -> None:
    assert repr(made) == "Permit(compute, purpose=4)"


def test_no_proof_is_left_behind(made: Permit) -> None:
    assert permit_module._alive == {}


def test_only_the_gate_knows_the_maker() -> None:
    """Importing the package hands out no maker: its name is private, and no other module says it."""
    users = {
        path.relative_to(ROOT.parent).as_posix()
        for folder in (ROOT, ROOT.parent / "api")
        for path in folder.rglob("*.py")
        if re.search(r"permit import [^\n]*_|permit\._|permit_module|force_setattr", path.read_text())
    }
    assert users == {"vault/policy/gate.py"}
    assert not [name for name in vars(permit_module) if "issue" in name and not name.startswith("_")]
