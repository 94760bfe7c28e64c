"""Requests made from our own OpenAPI document, right and wrong ones, and answers held to it."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import SerializationNotPossible
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.stage import Headers, Stage

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
AS_IT_IS: Final = ""  # whatever credential was generated
_SHARE: Final = 4  # of the fifteen tracking doors, which are seven, one in so many cases


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: Any, value: Any) -> Any:
    """A line of text as it is, anything else as JSON."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace") if isinstance(value, str) else b"{}"


def fuzz(stage: Stage, cases: int, seed: int) -> None:
    """So many cases, over every operation of the document and over every principal."""
    operations = [found.ok() for found in schemathesis.openapi.from_dict(stage.document).get_all_operations()]
    weights = [1 if one.label.startswith("POST /v1/") and one.label.count("/") == 2 else _SHARE for one in operations]
    unit = cases / sum(weights) / 2
    for operation, weight in zip(operations, weights, strict=True):
        for number, mode in enumerate(GenerationMode):
            _fuzz_operation(stage, operation, mode, max(1, round(unit * weight)), seed + number)


def _fuzz_operation(stage: Stage, operation: Any, mode: GenerationMode, cases: int, seed: int) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode), who=st.sampled_from([*_fitting(stage, operation), AS_IT_IS]))
    def one(case: Any, who: str) -> None:
        try:
            method, target, headers, body = _request(case)
        except (SerializationNotPossible, UnicodeError, ValueError, TypeError):
            return  # no client could send it
        answer = stage.ask(method, target, headers, body, who=who, label=operation.label)
        try:
            answer.elapsed = _NO_TIME
            case.validate_response(answer, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
            told = " ".join(str(one) for one in getattr(failure, "exceptions", [failure]))
            stage.found(f"not as documented: {told[:500]}", f"{who} {method} {target[:300]} {body[:1000]!r}")

    with suppress(Unsatisfiable):  # nothing that this operation takes could be wrong
        one()


def _fitting(stage: Stage, operation: Any) -> Iterator[str]:
    """Every principal; those who may pass the wall several times, so that most cases come to what is behind it."""
    (tag,) = operation.definition.raw["tags"]
    passing = {
        "sources": ["server", "client"],
        "destinations": ["warehouse", "email-tool"],
        "staff": ["officer", "operator", "auditor"],
    }.get(tag, [])
    yield from passing * 4
    yield from stage.secrets


def _request(case: Any) -> tuple[str, str, Headers, bytes]:
    kwargs = case.as_transport_kwargs(base_url="http://vault.test")
    known = ("method", "url", "headers", "params", "data", "json", "cookies", "files")
    made = requests.Request(**{name: kwargs[name] for name in known if name in kwargs}).prepare()
    url = urlsplit(made.url or "")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    body = made.body or b""
    headers = [
        (str(name).lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in made.headers.items()
        if str(name).lower() not in {"content-length", "host"}
    ]
    return str(made.method), target, headers, body.encode() if isinstance(body, str) else bytes(body)


_NO_TIME: Final = timedelta(0)
