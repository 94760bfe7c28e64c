"""Every place of every door where a text can stand: in a path, a query, a header, a member's name or its value."""

from typing import Any, Final

from tests.api.shop import YES

Place = tuple[
    str, str, str, str, Any
]  # principal, method, target, content type, body; `@` is where the text goes, `m#` a new id
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
PROFILES: Final = "/v1/spaces/default/collections/users/profiles"
ACCOUNTS: Final = "/v1/spaces/default/collections/accounts/profiles"
EVENT: Final = {
    "userId": "u-9",
    "messageId": "m#",
    "event": "Order Completed",
    "context": {"consent": {"categoryPreferences": YES}},
}
CHOICE: Final = {"purpose": "marketing", "decision": "granted"}


def places() -> list[Place]:
    """All of them."""
    return [*_addresses(), *_reports(), *_finds(), *_consents(), *_events()]


def _addresses() -> list[Place]:
    by_principal = {
        "warehouse": [
            "/v1/destinations/warehouse/profiles?cursor=@",
            "/v1/destinations/warehouse/profiles?limit=@",
            "/v1/destinations/@/profiles",
        ],
        "email-tool": [
            f"{PROFILES}/@/traits",
            f"{PROFILES}/@:u-1/traits",
            f"{PROFILES}/user_id:@/traits",
            f"{PROFILES}/email:@/traits",
            f"{PROFILES}/user_id:u-1/traits?include=@",
            f"{PROFILES}/user_id:u-1/traits?limit=@",
            f"{PROFILES}/user_id:u-1/traits?@=1",
        ],
        "support-desk": [
            f"{PROFILES}/@:u-1/links",
            f"{PROFILES}/user_id:u-1/links?next=@",
            f"{PROFILES}/user_id:u-1/links?limit=@",
            f"{ACCOUNTS}/@/traits",
            f"{ACCOUNTS}/group_id:@/traits",
            f"{ACCOUNTS}/group_id:g-1/traits?include=@",
            f"{ACCOUNTS}/group_id:@/links",
            f"{ACCOUNTS}/group_id:g-1/links?next=@",
        ],
        "operator": ["/v1/sources/@/dropped"],
        "auditor": [
            "/v1/audit/entries/@/proof",
            "/v1/audit/consistency?first=@&second=1",
            "/v1/audit/consistency?first=0&second=@",
        ],
        "officer": [
            "/v1/requests/@",
            "/v1/requests/@/archive",
            "/v1/requests/@/certificate",
            "/v1/subjects/@/consents",
            "/v1/subjects/user_id:@/disclosures",
        ],
        "": ["/v1/projects/@/settings", "/@", "/v1/@/x"],
    }
    found: list[Place] = [(who, "GET", target, "", None) for who, targets in by_principal.items() for target in targets]
    return [
        *found,
        *(("officer", "POST", f"/v1/subjects/@/{kind}", "", None) for kind in ("access", "portability", "erasure")),
        ("server", "POST", "/v1/purposes?@", "@", None),
    ]


def _reports() -> list[Place]:
    report = {"id": "x", "kind": "bounced"}
    bodies = [{**report, name: "@"} for name in ("id", "kind", "purpose", "at", "@")]
    path = "/v1/destinations/email-tool"
    return [
        ("email-tool", "POST", f"{path}/acknowledgements", LINES, {"id": "@"}),
        ("email-tool", "POST", "/v1/destinations/@/acknowledgements", LINES, {"id": "x"}),
        ("email-tool", "POST", "/v1/destinations/@/reports", LINES, report),
        *(("email-tool", "POST", f"{path}/reports", LINES, body) for body in bodies),
    ]


def _finds() -> list[Place]:
    bodies = [
        {"kind": "@", "value": "x"},
        {"kind": "user_id", "value": "@"},
        {"kind": "email", "value": "@"},
        {"kind": "email", "value": "x", "@": 1},
    ]
    return [
        *(("officer", "POST", "/v1/subjects/find", JSON, body) for body in bodies),
        ("officer", "POST", "/v1/subjects/find", "@", bodies[0]),
    ]


def _consents() -> list[Place]:
    act = {"userId": "u-1", "messageId": "m#", "choices": [CHOICE]}
    names = ("purpose", "decision", "notice", "language", "saidAt", "evidence", "@")
    choices = [*({**CHOICE, name: "@"} for name in names), {**CHOICE, "covers": ["@"]}]
    bodies = [{**act, "choices": [choice]} for choice in choices]
    return [
        ("server", "POST", "/v1/consents", JSON, {**act, "messageId": "@"}),
        ("server", "POST", "/v1/consents", JSON, {**act, "userId": "@"}),
        ("client", "POST", "/v1/consents", JSON, {**act, "anonymousId": "@"}),
        *(("server", "POST", "/v1/consents", JSON, body) for body in bodies),
    ]


def _events() -> list[Place]:
    names = ("userId", "anonymousId", "messageId", "event", "timestamp", "sentAt", "type", "writeKey", "@")
    traits = ({"email": "@"}, {"phone": "@"}, {"firstName": "@"}, {"@": "x"}, {"age": "@"}, {"address": {"@": "@"}})
    contexts = (
        {"@": "@"},
        {"externalIds": [{"id": "@", "type": "@"}]},
        {"consent": {"categoryPreferences": {"@": True}}},
    )
    properties = ({"order_id": "@"}, {"currency": "@", "revenue": 1}, {"products": ["@"]}, {"@": 1})
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("track", {**EVENT, name: "@"}) for name in names),
        *(("identify", {**EVENT, "traits": one}) for one in traits),
        *(("track", {**EVENT, "context": one}) for one in contexts),
        *(("track", {**EVENT, "anonymousId": "a", "properties": one}) for one in properties),
        ("group", {**EVENT, "groupId": "@", "traits": {"name": "@"}}),
        ("alias", {**EVENT, "previousId": "@"}),
        ("page", {**EVENT, "name": "@"}),
    ]
    return [(who, "POST", f"/v1/{path}", "text/plain", body) for path, body in calls for who in ("server", "client")]
