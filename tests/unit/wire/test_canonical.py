"""The stored form of an event, and the layout of ``meta``."""

from __future__ import annotations

import json

import pytest

from dispatcher import limits, model
from dispatcher.model import Kind
from dispatcher.queue import interface
from dispatcher.wire.canonical import Meta, Names, pack_meta, read_names, record_of, unpack_meta


def test_meta_lies_as_the_queue_documents_it() -> None:
    assert pack_meta(5, 1, 0, 0) == 5 << 56 | 1
    assert pack_meta(0, 0, 1, 0) == 1 << 24
    assert pack_meta(0, 0, 0, 1) == 1 << 40
    for line in ("0..23  body_bytes", "24..39  tail_bytes", "40..55  ep_bytes", "56..63  kind"):
        assert line in str(interface.Records.__doc__)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_was_packed_is_unpacked(kind: Kind) -> None:
    for body_bytes in (0, 1, limits.RECORD_BYTES_MAX):
        for tail_bytes in (0, 0xFFFF):
            for ep_bytes in (0, 255, 256):
                packed = pack_meta(kind, body_bytes, tail_bytes, ep_bytes)
                assert unpack_meta(packed) == Meta(kind, body_bytes, tail_bytes, ep_bytes)


@pytest.mark.parametrize("ct", ["", "}{", '"}{"'])
def test_names_are_read_from_records_whatever_stands_in_them(ct: str) -> None:
    events: list[model.Event] = [
        model.Notification('a"', "/1", ct=ct, original_ep="b"),
        model.AsyncResponse(id="j", status=200, ct=ct),
        model.Registration(ep="b", resources=(model.Resource(path="/2", rt=ct),)),
        model.Deregistration("日\\"),
    ]
    records = [record_of(event) for event in events]
    names = read_names(b"".join(record.body for record in records), [record.meta for record in records])
    assert names == [Names('a"', "/1"), Names(), Names("b"), Names("日\\")]


def test_no_records_have_no_names() -> None:
    assert read_names(b"", []) == []


def test_strings_are_escaped_no_more_than_json_asks_for() -> None:
    text = "".join(map(chr, range(0xA1))) + "\u2028é日😀/"
    body = record_of(model.Notification("a", "/1", ct=text)).body
    assert json.loads(body)["ct"] == text
    written = json.dumps(text, ensure_ascii=False)
    assert written.encode() in body


def test_the_largest_event_of_every_kind_fits_its_meta() -> None:
    ep = "😀" * limits.EP_CHARS_MAX
    quotes = '"' * limits.EP_CHARS_MAX
    record = record_of(model.Deregistration(ep, quotes))
    meta = unpack_meta(record.meta)
    assert meta.ep_bytes == 4 * limits.EP_CHARS_MAX
    assert meta.tail_bytes == len(',"original-ep":""') + 2 * limits.EP_CHARS_MAX
    payload = b"x" * limits.PAYLOAD_BYTES_MAX
    path, ct = "/" + "😀" * 254, '"' * limits.CT_CHARS_MAX
    record = record_of(model.Notification(quotes, path, payload, ct, 2**53, ep))
    assert unpack_meta(record.meta).body_bytes == len(record.body) < limits.RECORD_BYTES_MAX


def test_an_optional_member_that_is_false_or_zero_is_written() -> None:
    record = record_of(model.Registration(ep="a", q=False, resources=(model.Resource(path="/1", obs=False),)))
    assert record.body == b'{"ep":"a","q":false,"resources":[{"path":"/1","obs":false}]}'
    response = record_of(model.AsyncResponse(id="j", status=200, max_age=0, error=""))
    assert response.body == b'{"id":"j","status":200,"payload":"","ct":"","max-age":0,"error":""}'
