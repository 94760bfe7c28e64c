"""Why something was dropped, in words, and what would keep it: the policy line, where a policy line would.

The one table of drop codes; docs/reference/errors.md is made from it. Pure: codes and fit names in, sentences out.
"""

from typing import Final, NamedTuple

from vault.catalogue.toml import NAME
from vault.sources.dropped import Drop, parts_of

FOLDER: Final = "policies"
EVENTS: Final = f"{FOLDER}/events.toml"
TRAITS: Final = f"{FOLDER}/traits.toml"
_SENSITIVE: Final = "(sensitive name)"  # as vault.events.message writes it
_BY_NAME: Final = "track"  # the type of call that is listed name by name; the others may be listed as "*"
_UNLISTABLE: Final = "no policy can list it: a name begins with a letter and holds no long number; rename it in the app"
_UNLISTABLE_FIELD: Final = (
    "no policy can list it: the name of a property or trait begins with a letter, then holds letters, digits, `_` and"
    " `-`, and no long number; rename it in the app"
)
_MESSAGE: Final = "correct the message in the app that sends it"


class Code(NamedTuple):
    """What a drop code means, and what to do."""

    meaning: str
    remedy: str


CODES: Final[dict[str, Code]] = {
    # what the policies decide
    "unlisted": Code(
        "The policies do not list this event, property or trait.",
        f'list an event as `[track."NAME"]` in {EVENTS}, a property under the properties of its event there,'
        f" a trait as `[NAME]` in {TRAITS}; then `profile-vault policy apply`",
    ),
    "server_only": Code(
        "The policies take this from server sources only, and a client source sent it.",
        f'send it from a server source, or take `authority = "server"` off it in {EVENTS} or {TRAITS}',
    ),
    "wrong_type": Code(
        "The value of a trait or property is not of the `type` that the policies declare; it alone is left out.",
        f'send the type that {TRAITS} or {EVENTS} declares (`19.90`, not `"19.90"`, for a number), or change `type` there',
    ),
    # what people decided
    "no_choice": Code(
        "The person had not agreed to any purpose of this event or trait, or had refused.",
        "nothing to mend: the person had not agreed; ask with `POST /v1/consents` or a consent stamp",
    ),
    "late_after_erasure": Code(
        "It is about an erased person, and was said before the erasure or while it was going on.",
        "nothing to mend: the person was erased",
    ),
    "suppressed": Code(
        "The person asked to be erased and not to be taken up again.",
        "nothing to mend: the person asked not to be taken up again",
    ),
    # what cannot be placed
    "duplicate": Code(
        "The same message came before. Answered, not counted.",
        "nothing to mend: it was taken down the first time",
    ),
    "id_conflict": Code(
        "A message with this `messageId` came before and said something else.",
        "give each message a `messageId` of its own",
    ),
    "no_usable_identifier": Code(
        "None of the identifiers in the message may name a person here, from this class of source.",
        "send an identifier that policies/identities.toml lists; a client source needs `anonymousId`",
    ),
    "integrity": Code(
        "Stored rows of this person do not verify, so nothing is added to them.",
        "send it again when the rows are mended; `profile-vault audit verify` and the audit log say more",
    ),
    "no_account_kind": Code(
        "The policies list group calls and no kind of identifier that names an account.",
        f"add the kind `[group_id]` with `account = true` to {FOLDER}/identities.toml; then `profile-vault policy apply`",
    ),
    "unfit_group_id": Code(
        "`groupId` names no account: it is blocked, or not in the normal form of its kind.",
        f"send the account's own id; `blocked` and `normal_form` are in {FOLDER}/identities.toml",
    ),
    "too_many_accounts": Code(
        "The person belongs to as many accounts as the policies allow.",
        f"raise `limit` of the kind with `account = true` in {FOLDER}/identities.toml (at most 200)",
    ),
    "value_too_large": Code(
        "What the person's calls said of accounts, or a single value, would be over 64 KB.",
        "send fewer or shorter traits; a group call need not repeat them",
    ),
    # what cannot be read
    "event_too_large": Code("The message has more than 32 KB.", "send less in one message"),
    "too_many_events": Code(
        "The batch has more than 2,500 messages; this is one of those beyond.", "send smaller batches"
    ),
    "invalid_event": Code("The message is no JSON object of the tracking API, or an id is not text.", _MESSAGE),
    "unknown_type": Code(
        "`type` is none of identify, track, page, screen, group and alias.",
        _MESSAGE,
    ),
    "id_too_long": Code("An identifier has more than 512 characters.", _MESSAGE),
    "group_id_too_long": Code("`groupId` has more than 500 characters.", _MESSAGE),
    "message_id_too_long": Code("`messageId` has more than 100 characters.", _MESSAGE),
    "no_user_anon_id": Code("There is neither `userId` nor `anonymousId`.", _MESSAGE),
    "no_event": Code("A track call without `event`.", _MESSAGE),
    "no_group_id": Code("A group call without `groupId`.", _MESSAGE),
    "no_previous_id": Code("An alias call without `previousId` or `userId`.", _MESSAGE),
    "too_many_fields": Code("There are more than 300 properties or traits.", "send fewer in one message"),
    "number_out_of_range": Code("A number has more than 64 characters, or is too large.", _MESSAGE),
}


def remedy(drop: Drop) -> str:
    """What would keep it, as exactly as a counter knows. Empty for a code that this release does not know."""
    if drop.reason == "unlisted":
        return _to_list(drop)
    code = CODES.get(drop.reason)
    return "" if code is None else code.remedy


def _to_list(drop: Drop) -> str:
    kind, event = parts_of(drop.type)
    typed = f'[{kind}."*"]' if kind != _BY_NAME else ""
    if kind == "property" and event is not None and event.endswith(_SENSITIVE):
        return f"list it under the properties of its event in {EVENTS}; names of special events are shown nowhere"
    if drop.name.startswith("("):  # it is not known, or not shown
        if kind in {"property", "trait"}:
            return _UNLISTABLE_FIELD
        return f"list `{typed}` in {EVENTS}" if typed else _UNLISTABLE
    if kind in {"property", "trait"} and NAME.fullmatch(drop.name) is None:
        return _UNLISTABLE_FIELD
    if kind == "trait":
        return f"list `[{drop.name}]` in {TRAITS}"
    if kind == "property":
        return f"list `{drop.name} = {{ … }}` under `{_header(event)}` in {EVENTS}"
    return f"list `{typed}` in {EVENTS}" if typed else f'list `[track."{drop.name}"]` in {EVENTS}'


def _header(event: str | None) -> str:
    """The table of an event's properties; older counters do not know which event it was."""
    kind, _, name = (event or "track:EVENT").partition(":")
    return f'[{kind}."{name}".properties]'
