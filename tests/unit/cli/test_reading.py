"""Files as batches: nothing lost, nothing twice, nothing held that is too large."""

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.cli.reading import BATCH_BYTES, BATCH_MESSAGES, MAX_LINE, Lines, open_lines
from vault.errors import Invalid


def _read(content: bytes) -> tuple[list[list[object]], Lines]:
    lines = Lines(io.BytesIO(content), len(content))
    batches = []
    for body, count in lines.batches():
        messages = json.loads(body)["batch"]
        assert len(messages) == count
        batches.append(messages)
    return batches, lines


def _ndjson(messages: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def test_messages_keep_their_order_in_batches_of_500() -> None:
    sent: list[dict[str, object]] = [{"n": number} for number in range(1201)]
    batches, lines = _read(_ndjson(sent))
    assert [len(batch) for batch in batches] == [BATCH_MESSAGES, BATCH_MESSAGES, 201]
    assert [message for batch in batches for message in batch] == sent
    assert lines.position == lines.size


def test_a_batch_stays_under_the_limit_of_bytes() -> None:
    sent: list[dict[str, object]] = [{"t": "x" * 30_000} for _ in range(40)]
    content = _ndjson(sent)
    lines = Lines(io.BytesIO(content), len(content))
    bodies = [body for body, _ in lines.batches()]
    assert len(bodies) == 3
    assert max(map(len, bodies)) <= BATCH_BYTES + 20


def test_gzip_is_known_by_its_first_bytes_and_members_may_follow_each_other() -> None:
    content = gzip.compress(b'{"n":1}\n') + gzip.compress(b'{"n":2}\n')
    batches, lines = _read(content)
    assert batches == [[{"n": 1}, {"n": 2}]]
    assert lines.position == len(content)


def test_lines_that_are_no_object_are_counted_and_the_others_go_on() -> None:
    good = b'{"n":1}\n\n  \n[1]\nnot json\n"text"\n{"n":2}\r\n{"a":' + b"[" * 5000 + b"]" * 5000 + b'}\n\xff\n{"n":NaN}'
    batches, lines = _read(good)
    assert batches == [[{"n": 1}, {"n": 2}, {"n": None}]]
    assert lines.unreadable == 5


def test_a_line_of_many_megabytes_is_passed_over() -> None:
    batches, lines = _read(b'{"n":1}\n{"x":"' + b"y" * (3 * MAX_LINE) + b'"}\n{"n":2}\n')
    assert batches == [[{"n": 1}, {"n": 2}]]
    assert lines.unreadable == 1


def test_a_gzip_file_that_was_cut_gives_what_came_before_and_then_says_so() -> None:
    whole = gzip.compress(_ndjson([{"n": number} for number in range(50_000)]))
    lines = Lines(io.BytesIO(whole[: len(whole) // 2]), None)
    taken: list[tuple[bytes, int]] = []
    with pytest.raises(Invalid):
        taken.extend(lines.batches())
    assert sum(count for _, count in taken) > 1000


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20)), max_size=30))
def test_every_object_arrives_once(sent: list[dict[str, object]]) -> None:
    batches, lines = _read(_ndjson(sent))
    assert [message for batch in batches for message in batch] == sent
    assert lines.unreadable == 0


def test_a_file_that_is_not_there_is_one_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused, open_lines(str(tmp_path / "jane@example.com")):
        pass
    assert "jane" not in str(refused.value)
