"""The OpenAPI document, made true: what the framework cannot know of our doors is added from the tables here.

It knows paths, parameters and good answers. It does not know bodies that are read by hand, whose credential opens what, and
that every error is one `application/problem+json`. A test holds the document to the routes, and a fuzzer to their answers.
"""

import copy
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import SecurityScheme

from api.ingest.wire import Consents
from api.problems import EXACT, MEDIA_TYPE, STATUSES
from api.staff.wire import Find
from vault.errors import NotFound

Json = dict[str, Any]
Operation = tuple[str, str]

SCHEMES: Final = {
    "write_key": SecurityScheme(type="http", scheme="basic", description="The write key as user name, no password."),
    "write_key_token": SecurityScheme(type="http", scheme="bearer", description="The write key."),
    "destination_token": SecurityScheme(type="http", scheme="bearer", description="The token of a destination."),
    "destination_key": SecurityScheme(
        type="http",
        scheme="basic",
        description="The token of a destination as user name, as Segment's clients send it.",
    ),
    "staff_token": SecurityScheme(type="http", scheme="bearer", description="The token of a member of staff."),
}
# Who is asked for what: security of the routes with this tag, and the statuses that their wall can answer.
_AUDIENCES: Final[dict[str, tuple[list[str], tuple[int, ...]]]] = {
    "sources": (["write_key", "write_key_token"], (401,)),
    "destinations": (["destination_token"], (401, 403, 404)),
    "staff": (["staff_token"], (401, 403)),
    "public": ([], ()),
    "operators": ([], (404,)),  # what they are from anywhere but this machine
}
_EVERY: Final = (400, 414, 429, 431, 500, 503)  # before routing, too often, faults of ours, and what is not there now
_WITH_BODY: Final = (408, 413)
_LOOKUPS: Final = "/v1/spaces/default/collections/"
_ACCOUNT: Final = _LOOKUPS + "accounts/profiles/{identifier}/traits"
# What an operation itself can answer beyond its audience.
_MORE: Final[dict[Operation, tuple[int, ...]]] = {
    ("post", "/v1/consents"): (404, 409),
    ("get", "/v1/projects/{key}/settings"): (404,),
    ("get", "/sourceConfig"): (404,),
    ("get", "/v1/destinations/{name}/profiles"): (410,),
    ("get", _ACCOUNT): (409,),
    **dict.fromkeys(
        (("post", f"/v1/subjects/{{ref}}/{kind}") for kind in ("access", "portability", "erasure")), (404, 410)
    ),
    ("get", "/v1/subjects/{ref}/consents"): (404, 410),
    ("get", "/v1/subjects/{ref}/disclosures"): (404, 410),
    ("post", "/v1/subjects/find"): (404,),
    ("get", "/v1/requests/{request_id}"): (404,),
    ("get", "/v1/requests/{request_id}/archive"): (404, 409, 410),
    ("get", "/v1/requests/{request_id}/certificate"): (404, 409),
    ("get", "/v1/sources/{name}/dropped"): (404,),
    ("get", "/v1/audit/checkpoint"): (404,),
    ("get", "/v1/audit/entries/{entry_id}/proof"): (404,),
    ("get", "/v1/audit/consistency"): (404,),
}
_KEY_IN_QUERY: Final = {("post", "/beacon/v1/batch"), ("get", "/sourceConfig")}
_SWALLOWED: Final = ("post", "/v1/m")  # asks nobody who they are, and keeps nothing
_BATCHES: Final = {"/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"}
_BODILESS: Final = {("post", f"/v1/subjects/{{ref}}/{kind}") for kind in ("access", "portability", "erasure")}
_OWN: Final = {("post", "/v1/consents"): Consents, ("post", "/v1/subjects/find"): Find}
_LINES: Final = {
    ("post", "/v1/destinations/{name}/acknowledgements"): 'Lines of `{"id":…}`.',
    ("post", "/v1/destinations/{name}/reports"): 'Lines of `{"id":…,"kind":…,"purpose"?:…,"at"?:…}`.',
}
_TITLES: Final = {status: title for status, title in (*STATUSES.values(), *EXACT.values()) if status != 500}
_CODES: Final = {status: code for code, (status, _) in {**EXACT, **STATUSES}.items()} | {
    500: "internal",
    403: "forbidden",
}

_PROBLEM: Final[Json] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; nothing repeats what was sent.",
    "required": ["type", "title", "status", "detail", "code", "message"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[a-z_]+$"},
        "message": {"type": "string"},
        "error": {"type": "object", "description": "On lookups, as Segment's Profile API has it."},
    },
}
_TEXT: Final = {"type": ["string", "null"]}
_OBJECT: Final = {"type": ["object", "null"]}
_EVENT: Final[Json] = {
    "type": "object",
    "description": "A message of Segment's tracking API. What the vault does not know is not kept.",
    "properties": {
        "type": {"enum": ["identify", "track", "page", "screen", "group", "alias", None]},
        **dict.fromkeys(("messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name"), _TEXT),
        "properties": _OBJECT,
        "traits": _OBJECT,
        "context": {
            "type": ["object", "null"],
            "properties": {
                "consent": {"type": ["object", "null"], "properties": {"categoryPreferences": _OBJECT}},
                "traits": _OBJECT,
            },
        },
        "timestamp": _TEXT,
        "sentAt": _TEXT,
        "writeKey": _TEXT,
    },
}
_BATCH: Final[Json] = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
        "sentAt": _TEXT,
        "context": _OBJECT,
        "writeKey": _TEXT,
    },
}


class Document(JsonRenderPlugin):
    """The document as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        """The completed document."""
        return super().render(request, complete(openapi_schema))


class DocumentYaml(YamlRenderPlugin):
    """The document as YAML."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        """The completed document."""
        return super().render(request, complete(openapi_schema))


def no_page(response: Response[Any]) -> Response[Any]:
    """The framework answers unknown paths beside the document with a page; here they are what they are everywhere."""
    if response.status_code == 404:
        raise NotFound
    return response


def complete(framework: Json) -> Json:
    """The document with bodies, credentials and errors; what the framework made of it is left as it was."""
    document = copy.deepcopy(framework)
    schemas = document["components"].setdefault("schemas", {})
    _, own = msgspec.json.schema_components(_OWN.values(), ref_template="#/components/schemas/{name}")
    own = msgspec.json.decode(msgspec.json.encode(own))  # defaults are tuples there
    schemas |= {"Problem": _PROBLEM, "Event": _EVENT, "Batch": _BATCH, **own}
    document["paths"] = {
        path: {method: _operation(method, path, operation) for method, operation in operations.items()}
        for path, operations in document["paths"].items()
        if not path.startswith("/schema")
    }
    return document


def _operation(method: str, path: str, operation: Json) -> Json:
    (audience,) = operation["tags"]  # a route of no audience has no wall
    schemes, statuses = _AUDIENCES[audience]
    key = (method, path)
    tracking = audience == "sources" and method == "post" and key not in _OWN
    operation["security"] = [{scheme: []} for scheme in schemes]
    if path.startswith(_LOOKUPS):
        operation["security"].append({"destination_key": []})
    if key == ("get", "/v1/projects/{key}/settings"):
        operation["security"] = []  # the key stands in the path, as browsers must have it
    if key == _SWALLOWED:
        operation["security"] = []
    elif tracking:
        operation["security"].append({})  # the key may stand in the body
    if key in _KEY_IN_QUERY:
        operation["security"] = [{}] if tracking else [*operation["security"], {}]
        written = {"name": "writeKey", "in": "query", "required": False, "schema": {"type": "string"}}
        operation["parameters"] = [*operation.get("parameters", ()), written]
    body = _body(key, tracking=tracking)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    answered = {*_EVERY, *statuses, *_MORE.get(key, ())}
    if method == "post":
        answered |= {*_WITH_BODY, *(() if tracking or key in _BODILESS else (415,))}
    good = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
    for answer in good.values():
        for content in answer.get("content", {}).values():
            if "oneOf" in content["schema"]:  # the long answer has all members of the short one, and is both
                content["schema"]["anyOf"] = content["schema"].pop("oneOf")
    operation["responses"] = good | {str(status): _problem(status) for status in sorted(answered)}
    if path == "/readyz":  # says why in the words of its good answer
        operation["responses"]["503"] = {
            "description": "Not ready",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    return operation


def _body(key: Operation, *, tracking: bool) -> Json | None:
    if key in _OWN:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{_OWN[key].__name__}"}}}
    if key in _LINES:
        return {"application/x-ndjson": {"schema": {"type": "string", "description": _LINES[key]}}}
    if key == _SWALLOWED:
        return {"application/json": {"schema": {"description": "Counters of the SDK about itself."}}}
    if tracking:
        name = "Batch" if key[1] in _BATCHES else "Event"
        schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        return {"application/json": schema, "text/plain": schema}  # browsers send the second, to be spared a preflight
    return None


def _problem(status: int) -> Json:
    title = _TITLES.get(status, "Too many requests" if status == 429 else "Internal error")
    code = _CODES.get(status, "too_many_requests")
    return {
        "description": f"{title} (`{code}`{' or more exactly' if status in {400, 404, 409, 413} else ''})",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
