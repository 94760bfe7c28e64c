"""What the doors refuse before a message can be read, as somebody who watches the source sees it."""

import json

import httpx
import pytest

from tests.api.shop import EMAIL, Secrets, bearer
from tests.fakes import FakeClock
from vault.flows.follow import Follower
from vault.flows.vault import Vault


@pytest.mark.parametrize(
    "body", [b"nonsense " + EMAIL.encode(), b'{"batch":[], "x":"\xff"}', b"{" + b" " * 600_000 + b"}"], ids=len
)
async def test_a_body_that_the_door_refuses_is_told_by_its_code_alone(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault, clock: FakeClock, body: bytes
) -> None:
    follower = await Follower.begin(vault, "shop")
    clock.advance(1)
    answer = await http.post("/v1/batch", headers=bearer(secrets.server), content=body)
    assert answer.status_code in {400, 413}
    (line,) = await follower.step()
    assert (line["type"], line["verdict"], line["code"]) == ("(body)", "dropped", answer.json()["code"])
    assert line["reason"] in answer.json()["message"]  # the sentence that the sender was answered
    assert EMAIL not in json.dumps(line)
