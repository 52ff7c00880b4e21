"""Whose the memory is that the native scan writes to.  What it takes, ``tests/unit/wire`` asks."""

from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from dispatcher import limits
from dispatcher.errors import BadRequest
from dispatcher.queue.native_scan import NativeScanner
from dispatcher.wire.ingest import BodyForm, Parsed, Parsing, parse

MANY = limits.INGEST_COPY_BYTES_MAX // 20  # their records are not copied


def body(name: str, events: int = MANY) -> bytes:
    lines = [
        json.dumps({"notifications": [{"ep": f"{name}{number}", "path": "/1"}]}) for number in range(events)
    ]
    return "\n".join(lines).encode()


def idle(scanner: NativeScanner) -> int:
    return int(repr(scanner).split()[1])


def names(name: str, events: int = MANY) -> list[str]:
    return [f"{name}{number}" for number in range(events)]


def test_what_was_parsed_stays_as_it_is_while_others_are_parsed() -> None:
    scanner = NativeScanner()
    held = [parse(body(f"held{number}-"), BodyForm.NDJSON, scanner.staging) for number in range(20)]
    blocks = [bytes(parsed.block) for parsed in held]
    for number in range(100):
        parse(body(f"other{number}-", 2 * MANY), BodyForm.NDJSON, scanner.staging)
    assert [bytes(parsed.block) for parsed in held] == blocks
    assert [parsed.eps for parsed in held] == [names(f"held{number}-") for number in range(20)]


def test_a_view_alone_keeps_the_memory() -> None:
    scanner = NativeScanner()
    parsed: Parsed | None = parse(body("a"), BodyForm.NDJSON, scanner.staging)
    assert parsed is not None
    block, meta = parsed.block, parsed.meta
    expected = bytes(block), list(meta)
    del parsed
    assert idle(scanner) == 0
    parse(body("b"), BodyForm.NDJSON, scanner.staging)
    assert (bytes(block), list(meta)) == expected
    del block
    parse(body("c"), BodyForm.NDJSON, scanner.staging)
    assert list(meta) == expected[1]


def test_a_little_is_copied_and_holds_no_memory() -> None:
    scanner = NativeScanner()
    parsed = parse(body("a", 3), BodyForm.NDJSON, scanner.staging)
    assert idle(scanner) == 1
    parse(body("b", 3), BodyForm.NDJSON, scanner.staging)
    assert parsed.eps == names("a", 3)


def test_two_bodies_in_steps_do_not_mix() -> None:
    scanner = NativeScanner()
    many = limits.INGEST_STEP_BYTES // 40
    first = Parsing(body("a", many), BodyForm.NDJSON, scanner.staging)
    second = Parsing(body("b", many), BodyForm.NDJSON, scanner.staging)
    done: dict[Parsing, Parsed] = {}
    for _ in range(20):
        for parsing in (first, second):
            if parsing not in done and (parsed := parsing.step()) is not None:
                done[parsing] = parsed
    assert done[first].eps == names("a", many)
    assert done[second].eps == names("b", many)


def test_threads_parse_at_once() -> None:
    scanner = NativeScanner()

    def parse_often(name: str) -> bool:
        parsed = [parse(body(name, 200), BodyForm.NDJSON, scanner.staging) for _ in range(30)]
        return all(one.eps == names(name, 200) for one in parsed)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(parse_often, "abcdefgh"))


def test_memory_that_nobody_holds_serves_the_next_body_within_bounds() -> None:
    scanner = NativeScanner()
    held = [parse(body("a"), BodyForm.NDJSON, scanner.staging) for _ in range(3)]
    assert idle(scanner) == 0
    held.pop()
    assert idle(scanner) == 1
    parsed = parse(body("b"), BodyForm.NDJSON, scanner.staging)
    assert idle(scanner) == 0
    del parsed
    held += [parse(body("a"), BodyForm.NDJSON, scanner.staging) for _ in range(20)]
    held.clear()
    assert idle(scanner) == limits.INGEST_STAGINGS_IDLE_MAX


def test_memory_that_grew_too_large_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INGEST_STAGING_IDLE_BYTES_MAX", 64 * limits.KIB)
    scanner = NativeScanner()
    parse(body("a", 2_000), BodyForm.NDJSON, scanner.staging)
    assert idle(scanner) == 0
    parse(body("a", 10), BodyForm.NDJSON, scanner.staging)
    assert idle(scanner) == 1


def test_a_body_that_was_refused_or_left_leaves_nothing_behind() -> None:
    scanner = NativeScanner()
    for _ in range(3):
        with pytest.raises(BadRequest):
            parse(body("a") + b"\n[]", BodyForm.NDJSON, scanner.staging)
        left = Parsing(body("b"), BodyForm.NDJSON, scanner.staging)
        del left
    gc.collect()  # the error's traceback has held the staging
    assert idle(scanner) >= 1
    assert parse(body("c"), BodyForm.NDJSON, scanner.staging).eps == names("c")


def test_a_closed_scanner_keeps_nothing_and_what_is_held_stays() -> None:
    scanner = NativeScanner()
    held = parse(body("a"), BodyForm.NDJSON, scanner.staging)
    parse(body("b"), BodyForm.NDJSON, scanner.staging)
    assert idle(scanner) == 1
    scanner.close()
    assert idle(scanner) == 0
    assert held.eps == names("a")
    del held
    assert idle(scanner) == 0


def test_memory_of_one_cycle_of_garbage_is_given_back_once() -> None:
    scanner = NativeScanner()
    for _ in range(50):
        ring: list[object] = [parse(body("a"), BodyForm.NDJSON, scanner.staging), scanner]
        ring.append(ring)
        del ring
    gc.collect()
    assert 1 <= idle(scanner) <= limits.INGEST_STAGINGS_IDLE_MAX
    assert parse(body("c"), BodyForm.NDJSON, scanner.staging).eps == names("c")
