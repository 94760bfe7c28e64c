"""Strict bytes to messages, from what clients really send."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment.analytics.client import Client
from segment.analytics.request import DatetimeSerializer

from vault.clock import Micros, from_datetime
from vault.errors import Invalid, TooLarge
from vault.events.clean import tolerate_nan
from vault.events.decode import (
    MAX_BODY,
    MAX_CALLED,
    MAX_EVENT,
    MAX_EVENTS,
    MAX_GROUP_ID,
    MAX_LISTED,
    Decoded,
    decode,
    is_change,
    keys_in,
    mend,
    write_key_of,
)
from vault.events.message import Message

NOW = from_datetime(datetime(2026, 11, 23, 12, 0, tzinfo=UTC))
TRACK = {"type": "track", "messageId": "m1", "userId": "u1", "event": "Order Completed"}


def batch(*messages: dict[str, Any], **envelope: Any) -> Decoded:
    return decode(json.dumps({"batch": messages, **envelope}).encode(), "batch", NOW)


def one(**fields: Any) -> Message:
    decoded = batch({**TRACK, **fields})
    assert decoded.rejected == []
    return decoded.messages[0]


def refused(**fields: Any) -> str:
    decoded = batch({**TRACK, **fields}, TRACK)
    assert [message.index for message in decoded.messages] == [1], "the other one is taken"
    assert [rejected.index for rejected in decoded.rejected] == [0]
    return decoded.rejected[0].code


# --- the real library --------------------------------------------------------------------------------------------------


def as_the_sdk_sends(*calls: tuple[str, dict[str, Any]]) -> bytes:
    """The body that segment-analytics-python posts for these calls."""
    client = Client("secret", send=False)
    messages = [getattr(client, name)(**arguments)[1] for name, arguments in calls]
    body = {"batch": messages, "sentAt": datetime.now(tz=UTC).isoformat(), "writeKey": "secret"}
    return json.dumps(body, cls=DatetimeSerializer).encode()


def test_every_call_of_the_real_library_is_understood() -> None:
    stamp = {"consent": {"categoryPreferences": {"analytics": True, "advertising": False}}}
    body = as_the_sdk_sends(
        ("identify", {"user_id": "u1", "traits": {"email": "ada@example.com", "age": None}, "context": stamp}),
        ("track", {"user_id": "u1", "event": "Order Completed", "properties": {"revenue": 11.77, "n": 3}}),
        ("page", {"anonymous_id": "a1", "category": "Docs", "name": "Home"}),
        ("screen", {"user_id": "u1", "name": "Start"}),
        ("group", {"user_id": "u1", "group_id": "g1", "traits": {"plan": "gold"}}),
        ("alias", {"previous_id": "a1", "user_id": "u1"}),
    )
    assert b"null" in body, "the library writes explicit nulls"
    now = Micros(from_datetime(datetime.now(tz=UTC)) + 5_000_000)
    decoded = decode(body, "batch", now)
    assert decoded.rejected == []
    identify, track, page, screen, group, alias = decoded.messages
    assert (identify.type, identify.user_id, identify.anonymous_id) == ("identify", "u1", None)
    assert identify.traits == {"email": b'"ada@example.com"', "age": b"null"}
    assert identify.stamp == {"analytics": True, "advertising": False}
    assert (track.name, track.properties, track.stamp) == ("Order Completed", {"revenue": b"11.77", "n": b"3"}, None)
    assert (page.name, page.anonymous_id, screen.name) == ("Home", "a1", "Start")
    assert (group.group_id, group.traits) == ("g1", {"plan": b'"gold"'})
    assert (alias.previous_id, alias.user_id) == ("a1", "u1")
    assert all(0 <= now - message.said_at < 60_000_000 for message in decoded.messages)
    assert len({message.message_id for message in decoded.messages}) == 6
    assert write_key_of(body) == "secret"


# --- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["11.70", "1e2", "-0.0", "12345678901234567890", "0.1000000000000000055511151231257827"]
)
def test_a_number_keeps_its_exact_text(text: str) -> None:
    body = f'{{"batch":[{{"type":"track","userId":"u","event":"E","properties":{{"n": {text} }}}}]}}'
    assert decode(body.encode(), "batch", NOW).messages[0].properties == {"n": text.encode()}


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1" * 65])
def test_g4_a_number_beyond_bounds_loses_its_message_alone(number: str) -> None:
    good = json.dumps(TRACK)
    bad = f'{{"type":"track","userId":"u","event":"E","properties":{{"n":{number}}}}}'
    decoded = decode(f'{{"batch":[{bad},{good}]}}'.encode(), "batch", NOW)
    assert [(rejected.index, rejected.code) for rejected in decoded.rejected] == [(0, "number_out_of_range")]
    assert len(decoded.messages) == 1


def test_values_are_the_bytes_that_were_sent() -> None:
    body = b'{"batch":[{"type":"track","userId":"u","event":"E","properties":{"a":"\\u00e9","b":{"c": [1, 2.50]},"d":null}}]}'
    properties = decode(body, "batch", NOW).messages[0].properties
    assert properties == {"a": b'"\\u00e9"', "b": b'{"c": [1, 2.50]}', "d": b"null"}


def test_half_an_emoji_loses_nothing() -> None:
    body = (
        b'{"batch":[{"type":"track","userId":"u","event":"E","properties":{"t":"cut \\ud83d"}},'
        + json.dumps(TRACK).encode()
    )
    decoded = decode(body + b"]}", "batch", NOW)
    assert decoded.messages[0].properties == {"t": b'"cut \\ufffd"'}
    assert len(decoded.messages) == 2


def test_only_halves_are_mended() -> None:
    whole = rb'{"a":"\ud83d\ude00","b":"\\ud83d","c":"\u00e9","d":"\\\\ud83d"}'
    assert mend(whole) == whole
    assert mend(rb'"\ud83d \ude00 \\\uD83D x\ude00\ud83d"') == rb'"\ufffd \ufffd \\\ufffd x\ufffd\ufffd"'


@given(st.text(st.characters(codec=None), max_size=30))
def test_whatever_a_browser_writes_is_json_after_mending(text: str) -> None:
    assert json.loads(mend(json.dumps(text).encode())) == text.encode("utf-16", "surrogatepass").decode(
        "utf-16", "replace"
    )


def test_bare_nan_after_the_front_layer_is_null() -> None:
    body = json.dumps({"batch": [{**TRACK, "properties": {"revenue": float("nan")}}]}).encode()
    assert b"NaN" in body
    assert decode(tolerate_nan(body), "batch", NOW).messages[0].properties == {"revenue": b"null"}


# --- one bad message ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"userId": None}, "no_user_anon_id"),
        ({"userId": ""}, "no_user_anon_id"),
        ({"event": None}, "no_event"),
        ({"event": ""}, "no_event"),
        ({"type": "group"}, "no_group_id"),
        ({"type": "group", "groupId": ""}, "no_group_id"),
        ({"type": "group", "groupId": "g" * (MAX_GROUP_ID + 1)}, "group_id_too_long"),
        ({"type": "alias"}, "no_previous_id"),
        ({"type": "alias", "previousId": "a", "userId": None}, "no_previous_id"),
        ({"type": None}, "unknown_type"),
        ({"type": "Track"}, "unknown_type"),
        ({"type": "delete"}, "unknown_type"),
        ({"userId": 42}, "invalid_event"),
        ({"userId": ["u"]}, "invalid_event"),
        ({"anonymousId": True}, "invalid_event"),
        ({"messageId": 1}, "invalid_event"),
        ({"event": {"a": 1}}, "invalid_event"),
        ({"properties": []}, "invalid_event"),
        ({"traits": "x"}, "invalid_event"),
        ({"context": "x"}, "invalid_event"),
        ({"context": {"consent": [1]}}, "invalid_event"),
        ({"messageId": "m" * 101}, "message_id_too_long"),
        ({"userId": "u" * 513}, "id_too_long"),
        ({"anonymousId": "a" * 513}, "id_too_long"),
        ({"properties": {f"p{number}": 1 for number in range(301)}}, "too_many_fields"),
        ({"type": "identify", "traits": {f"p{number}": 1 for number in range(301)}}, "too_many_fields"),
        ({"properties": {"text": "x" * MAX_EVENT}}, "event_too_large"),
    ],
)
def test_one_bad_message_does_not_lose_the_others(fields: dict[str, Any], code: str) -> None:
    assert refused(**fields) == code


@pytest.mark.parametrize("item", [1, "x", None, [], True])
def test_an_item_that_is_no_object_is_rejected_alone(item: Any) -> None:
    decoded = decode(json.dumps({"batch": [item, TRACK]}).encode(), "batch", NOW)
    assert [rejected.code for rejected in decoded.rejected] == ["invalid_event"]
    assert len(decoded.messages) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'{"batch":1}',
        b"{}",
        b'{"batch":[{]}',
        b'{"batch":[]} x',
        b'{"batch":[],"context":3}',
        b"\xff\xfe",
    ],
)
def test_bytes_that_are_no_batch_are_refused_whole(body: bytes) -> None:
    with pytest.raises(Invalid) as error:
        decode(body, "batch", NOW)
    assert error.value.reason == "invalid_json"
    assert error.value.__suppress_context__, "the parser's own error may quote the body"


def test_g2_depth_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(Invalid):
        decode(b'{"batch":' + b"[" * 200_000, "batch", NOW)


def test_limits_of_the_whole_body() -> None:
    with pytest.raises(TooLarge) as error:
        decode(b" " * (MAX_BODY + 1), "batch", NOW)
    assert error.value.reason == "batch_too_large"
    with pytest.raises(TooLarge) as error:
        decode(b" " * (MAX_EVENT + 1), "track", NOW)
    assert error.value.reason == "event_too_large"


def test_messages_beyond_the_limit_are_rejected_and_the_others_taken() -> None:
    small = {"type": "page", "userId": "u"}
    decoded = decode(json.dumps({"batch": [small] * (MAX_EVENTS + 2)}).encode(), "batch", NOW)
    assert len(decoded.messages) == MAX_EVENTS
    assert [(one.index, one.code) for one in decoded.rejected] == [
        (MAX_EVENTS, "too_many_events"),
        (MAX_EVENTS + 1, "too_many_events"),
    ]


def test_g8_a_batch_that_would_be_answered_by_many_times_its_size_is_refused_whole() -> None:
    with pytest.raises(TooLarge) as error:
        decode(b'{"batch":[' + b",".join([b"1"] * (MAX_LISTED + 1)) + b"]}", "batch", NOW)
    assert error.value.reason == "too_many_events"


# --- single calls and the envelope -------------------------------------------------------------------------------------


def test_the_path_names_the_type_of_a_single_call() -> None:
    message = decode(json.dumps({**TRACK, "type": "identify"}).encode(), "track", NOW).messages[0]
    assert message.type == "track"
    assert decode(b'{"userId":"u","event":"E","writeKey":"k"}', "track", NOW).messages[0].name == "E"
    with pytest.raises(Invalid):
        decode(b"[1]", "track", NOW)


def test_the_context_of_the_envelope_is_merged_into_each_message() -> None:
    shared = {"consent": {"categoryPreferences": {"analytics": False}}, "traits": {"email": "a@b.example"}}
    plain, own = batch(TRACK, {**TRACK, "context": {"consent": {"categoryPreferences": {}}}}, context=shared).messages
    assert plain.stamp == {"analytics": False}
    assert plain.context_traits == {"email": b'"a@b.example"'}
    assert own.stamp == {}
    assert own.context_traits == plain.context_traits


def test_external_ids_are_read_if_they_are_written_as_they_must_be() -> None:
    ids = [{"id": "123", "type": "crm", "collection": "users", "encoding": "none"}]
    assert one(context={"externalIds": ids}).external_ids == (("crm", "123"),)
    assert one(context={"externalIds": [{"id": 5}]}).external_ids == ()


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    first, second = batch({**TRACK, "messageId": None}, {**TRACK, "messageId": ""}).messages
    assert len({first.message_id, second.message_id, ""}) == 3


def test_write_key_of_never_raises() -> None:
    assert [write_key_of(body) for body in (b"", b"[", b"[]", b'{"writeKey":5}', b"{}", b'{"writeKey":"k"}')] == [
        *[None] * 5,
        "k",
    ]


def test_a_message_shows_none_of_its_values() -> None:
    message = one(userId="ada@example.com", traits={"email": "ada@example.com"})
    assert "ada" not in repr(message)
    assert "ada" not in str(message)


# --- stamps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "stamp"),
    [
        (None, None),
        ({}, None),
        ({"consent": None}, None),
        ({"consent": {}}, None),
        ({"consent": {"categoryPreferences": None}}, None),
        ({"consent": {"categoryPreferences": {}}}, {}),
        ({"consent": {"categoryPreferences": {"a": True, "b": False}, "version": 2}}, {"a": True, "b": False}),
        (
            {"consent": {"categoryPreferences": {"a": "true", "b": 1, "c": None, "d": True}}},
            {"a": False, "b": False, "c": False, "d": True},
        ),
        ({"consent": {"categoryPreferences": "all"}}, {}),
        ({"consent": {"categoryPreferences": ["a"]}}, {}),
        ({"consent": {"categoryPreferences": {'"': True}}}, {'"': True}),
    ],
)
def test_whatever_is_not_plainly_true_denies(context: Any, stamp: dict[str, bool] | None) -> None:
    assert one(context=context).stamp == stamp


@pytest.mark.parametrize("answers", ['"a":true,"a":false', '"a":false,"a":true', '"a":true,"\\u0061":false'])
def test_g3_a_category_that_says_both_says_no(answers: str) -> None:
    context = f'{{"consent":{{"categoryPreferences":{{{answers}}}}}}}'
    body = f'{{"batch":[{{"type":"track","userId":"u","event":"E","context":{context}}}]}}'
    assert decode(body.encode(), "batch", NOW).messages[0].stamp == {"a": False}


CHANGE = {"type": "track", "event": "Segment Consent Preference Updated", "userId": "u"}


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (CHANGE, True),
        ({"event": CHANGE["event"]}, True),  # the path says that it is a track call
        ({"batch": [TRACK, CHANGE]}, True),
        ({"batch": [TRACK] * (MAX_CALLED - 2) + [CHANGE]}, True),
        ({"batch": [TRACK] * (MAX_CALLED - 1) + [CHANGE]}, False),  # nobody carries many past the others
        ({"batch": [{**TRACK, "properties": {"x": CHANGE["event"]}}]}, False),
        ({"batch": [{**TRACK, "properties": CHANGE}]}, False),
        ({**CHANGE, "type": "page"}, False),
        ({**TRACK, "properties": {"event": CHANGE["event"]}}, False),
        ({"batch": [CHANGE, 5]}, False),
        ([CHANGE], False),
    ],
)
def test_h17_a_body_hurries_by_what_its_events_are_called_and_by_no_word_in_it(body: Any, is_one: bool) -> None:
    assert is_change(json.dumps(body).encode()) is is_one


def test_g7_a_key_is_found_without_a_parser_wherever_it_stands() -> None:
    assert keys_in(b'{"batch":[],"writeKey":"k-1"}') == ("k-1",)
    assert keys_in(b'{"writeKey" : "k-1","batch":[{"properties":{"writeKey":"k-2"}}]}') == ("k-2", "k-1")
    many = b",".join(b'{"writeKey":"n-%d"}' % number for number in range(9_000))
    assert keys_in(b'{"batch":[' + many + b'],"writeKey":"k-1"}') == ("k-1", "n-0", "n-1")
    for none in (b"", b'{"writeKey":5}', b'{"writeKey":"\\u006b"}', b'{"writeKey":"' + b"k" * 300 + b'"}'):
        assert keys_in(none) == ()


def test_the_change_event_is_known_by_type_and_name() -> None:
    assert one(event="Segment Consent Preference Updated").is_consent_change
    assert not one(event="segment consent preference updated").is_consent_change
    assert not one(type="page", name="Segment Consent Preference Updated").is_consent_change


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_no_json_value_as_a_message_breaks_the_decoder(value: Any) -> None:
    body = tolerate_nan(json.dumps({"batch": [value, TRACK]}).encode())
    decoded = decode(body, "batch", NOW)
    assert len(decoded.messages) + len(decoded.rejected) == 2


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    for kind in ("batch", "track"):
        try:
            decode(body, kind, NOW)
        except Invalid:
            continue


def test_the_envelope_says_when_a_message_was_sent_unless_the_message_does() -> None:
    ahead = {**TRACK, "timestamp": "2026-11-23T13:59:00Z"}  # a clock two hours ahead
    own = {**ahead, "sentAt": "2026-11-23T13:59:30Z"}
    first, second = batch(ahead, own, sentAt="2026-11-23T14:00:00Z").messages
    assert (NOW - first.said_at, NOW - second.said_at) == (60_000_000, 30_000_000)


def test_rudderstack_names_the_time_of_a_message_in_its_own_way() -> None:
    said, sent = "2026-11-23T13:58:00.000Z", "2026-11-23T14:00:00.000Z"
    assert one(originalTimestamp=said, sentAt=sent).said_at == NOW - 120_000_000
    assert one(originalTimestamp=said, timestamp=sent, sentAt=sent).said_at == NOW  # Segment's name goes first


def test_the_envelope_of_a_batch_lends_its_context_to_messages_that_have_none_of_their_own() -> None:
    shared = {"externalIds": [{"id": "1", "type": "crm"}], "consentManagement": {"allowedConsentIds": ["analytics"]}}
    own = {"externalIds": [{"id": "2", "type": "crm"}], "consentManagement": {"deniedConsentIds": ["analytics"]}}
    bare, full = batch(TRACK, {**TRACK, "context": own}, context=shared).messages
    assert (bare.external_ids, bare.stamp) == ((("crm", "1"),), {"analytics": True})
    assert (full.external_ids, full.stamp) == ((("crm", "2"),), {"analytics": False})


@pytest.mark.parametrize(
    ("context", "stamp"),
    [
        ({}, None),
        ({"consentManagement": None}, None),
        ({"consentManagement": {}}, {}),
        ({"consentManagement": {"allowedConsentIds": ["a", "b"], "deniedConsentIds": ["b"]}}, {"a": True, "b": False}),
        ({"consentManagement": {"allowedConsentIds": None, "deniedConsentIds": ["b"]}}, {"b": False}),
        ({"consentManagement": {"allowedConsentIds": [1]}}, {}),
        ({"consentManagement": "all"}, {}),
        (
            {
                "consent": {"categoryPreferences": {"a": True, "b": True, "c": True}},
                "consentManagement": {"allowedConsentIds": ["a", "d"], "deniedConsentIds": ["b"]},
            },
            {"a": True, "b": False, "c": False, "d": False},
        ),
    ],
)
def test_both_forms_of_a_stamp_limit_and_what_cannot_be_read_allows_nothing(
    context: dict[str, Any], stamp: dict[str, bool] | None
) -> None:
    assert one(context=context).stamp == stamp
