from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import limits
from dispatcher.cli.line_blocks import Block, LineBlocks
from dispatcher.errors import BodyTooLarge


def cut(chunks: list[bytes], *, bytes_max: int = 20, lines_max: int = 3) -> list[Block]:
    blocks = LineBlocks(bytes_max, lines_max)
    found = [block for chunk in chunks for block in blocks.feed(chunk)]
    return [*found, *blocks.end()]


def test_whole_lines_go_out_with_the_chunk_that_completes_them() -> None:
    blocks = LineBlocks(100, 100)
    assert list(blocks.feed(b"one\ntwo\nthr")) == [Block(b"one\ntwo\n", 1)]
    assert list(blocks.feed(b"ee")) == []
    assert list(blocks.feed(b"\n")) == [Block(b"three\n", 3)]
    assert list(blocks.end()) == []


def test_a_block_has_at_most_so_many_lines() -> None:
    assert cut([b"a\nb\nc\nd\ne\n"]) == [Block(b"a\nb\nc\n", 1), Block(b"d\ne\n", 4)]


def test_a_block_has_at_most_so_many_bytes() -> None:
    assert cut([b"0123456789\n" * 2]) == [Block(b"0123456789\n", 1), Block(b"0123456789\n", 2)]


def test_a_line_longer_than_a_block_goes_alone() -> None:
    long = b"x" * 50 + b"\n"
    assert cut([b"a\n" + long + b"b\n"]) == [Block(b"a\n", 1), Block(long, 2), Block(b"b\n", 3)]


def test_a_last_line_without_its_newline_is_given_at_the_end() -> None:
    assert cut([b"a\nb"]) == [Block(b"a\n", 1), Block(b"b", 2)]


def test_blank_lines_are_counted_and_blanks_at_the_end_are_nothing() -> None:
    assert cut([b"a\n\nb\n", b"  "]) == [Block(b"a\n\nb\n", 1)]
    assert cut([b"\n\n\n\nx\n"])[-1].first_line == 4


def test_a_line_over_what_a_request_may_have_is_refused_with_its_number() -> None:
    blocks = LineBlocks()
    list(blocks.feed(b"a\n"))
    with pytest.raises(BodyTooLarge, match="line 2 is over"):
        list(blocks.feed(b"x" * (limits.REQUEST_BODY_BYTES_MAX + 1)))


@given(
    st.lists(st.text("ab\n", max_size=30), max_size=20),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_blocks_have_every_line_keep_their_bounds_and_count_right(
    chunks: list[str], bytes_max: int, lines_max: int
) -> None:
    lines = "".join(chunks).encode().split(b"\n")
    given = set()
    for block in cut([chunk.encode() for chunk in chunks], bytes_max=bytes_max, lines_max=lines_max):
        assert block.body.count(b"\n") <= lines_max
        assert len(block.body) <= bytes_max or block.body.count(b"\n") <= 1
        for number, line in enumerate(block.body.removesuffix(b"\n").split(b"\n"), block.first_line):
            assert line == lines[number - 1]
            assert number not in given
            given.add(number)
    assert {number for number, line in enumerate(lines, 1) if line} <= given
