"""The table of limits in the HTTP reference says what the code does: each row is a constant, its unit and its code."""

import re
from pathlib import Path
from typing import Final

import pytest

from api import auth, body, connection, front
from docs import generate
from vault.consent import ledger
from vault.events import clean, decode
from vault.flows import choose, feedback, lookup
from vault.flows.accounts import links, traits
from vault.flows.release import page
from vault.profile import values

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "http.md"
LIMITS: Final[dict[str, float]] = {
    "Path and query together": front.MAX_URL,
    "Headers, names and values": front.MAX_HEAD,
    "Headers": front.MAX_HEADERS,
    "Parameters of a query": front.MAX_PARAMETERS,
    "Time for the head of a request": connection.HEAD_SECONDS,
    "Time for a body that is read": body.BODY_SECONDS,
    "Time for a body that is not read": connection.MESSAGE_SECONDS,
    "Time for a client to take more of its answer": connection.ANSWER_SECONDS,
    "Requests sent before their turn": connection.MAX_PIPELINED,
    "A batch, as sent and inflated": decode.MAX_BODY,
    "Messages of a batch that are taken": decode.MAX_EVENTS,
    "Messages of a batch, or it is refused whole": decode.MAX_LISTED,
    "One message": decode.MAX_EVENT,
    "Properties or traits of a message": decode.MAX_FIELDS,
    "A `messageId`": decode.MAX_MESSAGE_ID,
    "An id of a message": decode.MAX_ID,
    "A `groupId`": decode.MAX_GROUP_ID,
    "What a person's calls said of accounts, for one set of purposes": values.MAX_SEALED_BYTES - values.SEAL_BYTES,
    "Members of an account that may be seen, where its traits are read": traits.MAX_MEMBERS,
    "Members looked at for one answer about an account": links.MAX_LOOKED_AT,
    "Links of a page": links.MAX_LINKS,
    "A number in a message": decode.MAX_NUMBER,
    "Nesting of any body": clean.MAX_DEPTH,
    "Objects and lists of any body": clean.MAX_NESTS,
    "A body of our own calls": body.MAX_OWN_BYTES,
    "Choices of an act": choose.MAX_CHOICES,
    "Evidence of a choice": choose.MAX_EVIDENCE,
    "Traits that a choice covers": ledger.MAX_COVERED,
    "Reports or acknowledgements, together": body.MAX_FEEDBACK_BYTES,
    "Reports or acknowledgements": feedback.MAX_LINES,
    "Changes of a page of the feed": page.MAX_LINES,
    "Traits of a lookup": lookup.MAX_LIMIT,
    "A credential in a header": auth.MAX_HEADER,
}
ROWS: Final = {
    row[1].strip(): (row[2].strip(), row[4].strip())
    for row in (
        line.split("|") for line in PAGE.read_text("utf-8").partition("## Limits")[2].partition("\n## ")[0].splitlines()
    )
    if len(row) == 6 and re.fullmatch(r" [0-9,]+ ", row[2])
}


def test_every_limit_has_a_row_and_every_row_a_limit() -> None:
    assert set(ROWS) == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_the_page_says_what_the_code_does(name: str) -> None:
    figure, code = ROWS[name]
    assert figure == f"{LIMITS[name]:,.0f}"
    if code.startswith("`"):
        assert code in generate.errors_page()


def test_every_size_that_a_door_names_has_a_row() -> None:
    named = {
        value for room in (front, body, connection) for name, value in vars(room).items() if name.startswith("MAX_")
    }
    assert named <= set(LIMITS.values())
