"""A head that is remembered is what parsing would have said, or it is parsed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing
from support.api_in_process import Caller, House, open_house
from support.http_wire import WireClient
from support.served_connection import serve_alone

from dispatcher import limits
from dispatcher.errors import DispatcherError
from dispatcher.http.head_memory import HeadMemory
from dispatcher.http.request_head import Head, parse_head
from dispatcher.http.service import Service
from dispatcher.model import Role

Clock = trio.testing.MockClock

POST = (
    b"POST /gateway/v1/events?a=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ak_1\r\n"
    b"Content-Length: 150\r\nContent-Type: application/json\r\n\r\n"
)
GET = b"GET /a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


def remembering(data: bytes) -> HeadMemory:
    memory = HeadMemory()
    memory.keep(data, parse_head(data))
    return memory


def content(head: Head) -> object:
    """All that a head says, to be compared."""
    fields = msgspec.structs.asdict(head)
    fields["headers"] = {name: head.headers.getlist(name) for name in head.headers._values}
    return fields


def parsed(data: bytes) -> object:
    """What parsing makes of it; None: it is refused."""
    try:
        return content(parse_head(data))
    except DispatcherError:
        return None


def with_length(digits: bytes) -> bytes:
    return POST.replace(b" 150\r\n", b" " + digits + b"\r\n")


@pytest.mark.parametrize("data", [POST, GET])
def test_same_head_is_found_again(data: bytes) -> None:
    memory = remembering(data)
    for _ in range(3):
        assert content(memory.find(bytes(data)) or parse_head(b"")) == parsed(data)


def test_head_with_another_length_is_found_with_that_length() -> None:
    memory = remembering(POST)
    for number in (0, 7, 149, 150, 151, 9_999, 16_777_216, 1, 999_999_999):
        data = with_length(b"%d" % number)
        found = memory.find(data)
        assert found is not None
        assert content(found) == parsed(data)
        assert (found.content_length, found.headers.get("Content-Length")) == (number, str(number))
        assert memory.find(data) is found


@pytest.mark.parametrize(
    "digits",
    [b"", b"+5", b"-5", b"5 ", b" 5", b"\t5", b"0x5", b"5,5", b"5, 5", b"5\r\n", b"\xb2", b"1_0", b"5" * 10],
)
def test_length_that_is_not_just_digits_is_parsed(digits: bytes) -> None:
    assert remembering(POST).find(with_length(digits)) is None


@pytest.mark.parametrize(
    "added",
    [
        b"Content-Length: 151\r\n",
        b"Content-Length: 150\r\n",
        b"content-length:150\r\n",
        b"X: a\r\n\tContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ],
)
def test_length_that_a_second_field_joined_is_never_changed(added: bytes) -> None:
    """Whichever of the two was remembered, and whichever comes then."""
    for place in (b"Host: x\r\n", b"application/json\r\n"):
        odd = POST.replace(place, place + added)
        assert remembering(POST).find(odd) is None
        memory = remembering(POST)
        if parsed(odd) is not None:
            memory.keep(odd, parse_head(odd))
        for old, new in ((b" 150", b" 7"), (b" 5\r", b" 6\r"), (b":150", b":7"), (b" 151", b" 7")):
            other = odd.replace(old, new, 1)
            assert other == odd or memory.find(other) is None


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"traceparent"])
def test_words_that_mean_nothing_to_the_parser_may_differ_too(name: bytes) -> None:
    def with_word(word: bytes, length: bytes = b"150") -> bytes:
        return with_length(length).replace(b"Host: x\r\n", b"Host: x\r\n" + name + b": " + word + b"\r\n")

    memory = remembering(with_word(b"a"))
    for word in (b"b", b"", b"a" * 255, b"x:y=,;", b"content-length:5", b"close", b"a" * 256, b"z"):
        data = with_word(word, b"%d" % len(word))
        found = memory.find(data)
        if not 0 < len(word) < 256:
            assert found is None
        else:
            assert found is not None
            assert content(found) == parsed(data)
            assert found.headers.get(name.decode()) == word.decode()
    for odd in (b"a b", b"a\tb", b"\xe9", b"a\r\nX: b", b"a\nX: b", b"a\r\n b", b"a\0", b"a\x7f"):
        assert memory.find(with_word(odd)) is None
    twice = POST.replace(b"Host: x\r\n", b"Host: x\r\n" + (name + b": a\r\n") * 2)
    assert remembering(twice).find(twice.replace(b": a", b": b", 1)) is None


@pytest.mark.parametrize(
    "line", [b"Authorization: Bearer ak_1", b"Host: x", b"Content-Type: application/json", b"POST /gateway"]
)
def test_no_other_field_may_differ(line: bytes) -> None:
    assert remembering(POST).find(POST.replace(line, line + b"1")) is None


@pytest.mark.parametrize(
    "odd", [b"X: Content-Length: 5\r\n", b"X-Content-Length: 5\r\n", b"X: content-length:\r\n"]
)
def test_name_of_a_field_in_another_one_is_not_taken_for_it(odd: bytes) -> None:
    data = POST.replace(b"Host: x\r\n", b"Host: x\r\n" + odd)
    assert remembering(data).find(data.replace(odd, odd.replace(b"5", b"6").replace(b":\r", b":1\r"))) is None
    longer = data.replace(b" 150", b" 151")
    assert content(remembering(data).find(longer) or parse_head(b"")) == parsed(longer)


def test_head_that_is_folded_lets_nothing_differ() -> None:
    odd = POST.replace(b"Host: x\r\n", b"Host: x\r\nX: a\r\n b\r\n")
    assert remembering(odd).find(odd.replace(b" 150", b" 151")) is None
    assert remembering(odd).find(odd) is not None


def test_no_other_byte_may_differ() -> None:
    memory = remembering(POST)
    front, _, back = POST.partition(b" 150")
    for at in range(len(POST)):
        for byte in b"1x \r\n:,":
            for changed in (
                POST[:at] + bytes([byte]) + POST[at + 1 :],
                POST[:at] + bytes([byte]) + POST[at:],
                POST[:at] + POST[at + 1 :],
            ):
                before = content(memory.find(POST) or parse_head(b""))
                found = memory.find(changed)
                if found is not None:
                    assert changed.startswith(front)
                    assert changed.endswith(back)
                    assert changed[len(front) : -len(back)].removeprefix(b" ").isdigit()
                    assert content(found) == parsed(changed)
                assert content(memory.find(POST) or parse_head(b"")) == before


def test_whatever_is_found_is_what_parsing_says() -> None:
    """Heads spliced at random, compared with one that they began as."""
    dice = random.Random(33)
    data = POST.replace(b"Host: x\r\n", b"Host: x\r\nIdempotency-Key: a1\r\n")
    tokens = [b"\r\n", b"\n", b" ", b"\t", b":", b",", b"5", b"a", b"Content-Length: 7\r\n", b"\r\n ", b"\0"]
    tokens += [b"idempotency-key: b\r\n", b"Transfer-Encoding: chunked\r\n", b"close"]
    values = [data.index(value) + at for value in (b"a1\r\n", b"150\r\n") for at in range(-2, 5)]
    head, memory, found = parse_head(data), HeadMemory(), 0
    for _ in range(4_000):
        changed = data
        for _ in range(dice.randint(1, 3)):
            at = dice.choice((dice.randrange(len(data)), *values))
            changed = changed[:at] + dice.choice(tokens) + changed[at + dice.randint(0, 3) :]
        memory.keep(data, head)
        if (other := memory.find(changed)) is not None and changed != data:
            found += 1
            assert content(other) == parsed(changed), changed
    assert found > 100


def test_head_that_is_chunked_or_long_is_not_remembered() -> None:
    chunked = GET.replace(b"Accept: */*", b"Transfer-Encoding: chunked")
    long = GET.replace(b"*/*", b"a" * limits.REQUEST_HEAD_REMEMBERED_BYTES_MAX)
    for data in (chunked, long):
        memory = remembering(GET)
        memory.keep(data, parse_head(data))
        assert memory.find(data) is None
        assert memory.find(GET) is None


# --- who asks, on a connection that repeats its head ------------------------------------


@asynccontextmanager
async def connected(house: House) -> AsyncIterator[WireClient]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(house.handle))
        yield WireClient(theirs)
        await theirs.aclose()


def event_post(caller: Caller, value: str = "") -> bytes:
    body = b'{"notifications":[{"ep":"d","path":"/1","ct":"%s"}]}' % value.encode()
    head = (
        f"Authorization: Bearer {caller.key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return f"POST /gateway/v1/events HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body


async def test_revoked_key_is_refused_on_a_connection_that_knows_its_head(autojump_clock: Clock) -> None:
    async with open_house() as house, connected(house) as client:
        for value in ("", "", "longer", "a"):
            assert (await client.ask(event_post(house.gateway, value))).status == 202
        await house.hub.revoke_key(house.gateway.key_id)
        assert (await client.ask(event_post(house.gateway, "a"))).status == 401
        assert (await client.ask(event_post(house.gateway, "other"))).status == 401


async def test_each_key_of_a_connection_is_judged_by_itself(autojump_clock: Clock) -> None:
    async with open_house() as house, connected(house) as client:
        other = await house.caller(Role.GATEWAY, account="other")
        for caller, status in ((house.gateway, 202), (house.app, 403), (other, 202), (house.app, 403)):
            for value in ("", "a", "a"):
                assert (await client.ask(event_post(caller, value))).status == status


async def test_bodies_of_changing_length_are_cut_where_they_end(autojump_clock: Clock) -> None:
    async with open_house() as house, connected(house) as client:
        values = ["a" * (count * 37 % 200) for count in range(30)]
        await client.send(b"".join(event_post(house.gateway, value) for value in values))
        assert [(await client.response()).status for _ in values] == [202] * 30
