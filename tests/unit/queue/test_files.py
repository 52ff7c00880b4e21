"""Writing past the system's cache, as the journal does with large groups, and filling it before a read."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from mmap import PROT_READ, mmap
from pathlib import Path

import pytest
from dispatcher.queue._core import ffi, lib

BLOCK_BYTES = 4096
FILES = lib.nd_files_posix()

Write = Callable[[bytes, int, int], int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment"


@pytest.fixture
def write(path: Path) -> Iterator[Write]:
    """Writes bytes at an offset, from memory that begins so far behind a block; how many were written."""
    file, written = ffi.new("int32_t *"), ffi.new("uint64_t *")
    assert FILES.create(ffi.NULL, bytes(path), file) == lib.ND_OK
    assert FILES.preallocate(ffi.NULL, file[0], 0, 16 * BLOCK_BYTES) == lib.ND_OK

    def call(data: bytes, offset: int, behind: int) -> int:
        with mmap(-1, len(data) + BLOCK_BYTES) as memory:
            memory[behind : behind + len(data)] = data
            with ffi.from_buffer("uint8_t[]", memory) as view:
                status = FILES.write_past_cache(ffi.NULL, file[0], view + behind, len(data), offset, written)
        assert status == lib.ND_OK
        return int(written[0])

    yield call
    FILES.close(ffi.NULL, file[0])


@pytest.mark.parametrize(
    ("count", "offset", "behind"),
    [
        pytest.param(2 * BLOCK_BYTES, BLOCK_BYTES, 0, id="whole blocks"),
        pytest.param(2 * BLOCK_BYTES - 8, BLOCK_BYTES, 0, id="an end within a block"),
        pytest.param(2 * BLOCK_BYTES, BLOCK_BYTES + 512, 0, id="a place within a block"),
        pytest.param(2 * BLOCK_BYTES, BLOCK_BYTES, 8, id="memory within a block"),
    ],
)
def test_what_is_written_past_the_cache_is_read_through_it(
    write: Write, path: Path, count: int, offset: int, behind: int
) -> None:
    assert path.read_bytes() == bytes(16 * BLOCK_BYTES)  # the cache has the zeros now
    data = os.urandom(count)
    assert write(data, offset, behind) == count
    assert path.read_bytes() == bytes(offset) + data + bytes(16 * BLOCK_BYTES - offset - count)


def test_blocks_may_follow_bytes_and_bytes_blocks(write: Write, path: Path) -> None:
    header, group, bytes_behind = os.urandom(64), os.urandom(4 * BLOCK_BYTES), os.urandom(100)
    write(header, 0, 0)
    write(group, BLOCK_BYTES, 0)
    write(bytes_behind, 5 * BLOCK_BYTES, 0)
    assert path.read_bytes()[: 5 * BLOCK_BYTES + 100] == (
        header + bytes(BLOCK_BYTES - 64) + group + bytes_behind
    )


def test_an_error_is_told_and_not_written_around(path: Path) -> None:
    path.write_bytes(bytes(BLOCK_BYTES))
    written = ffi.new("uint64_t *")
    with (
        path.open("rb") as only_read,
        mmap(-1, BLOCK_BYTES) as memory,
        ffi.from_buffer("uint8_t[]", memory) as view,
    ):
        status = FILES.write_past_cache(ffi.NULL, only_read.fileno(), view, BLOCK_BYTES, 0, written)
    assert status == lib.ND_ERR_IO
    assert written[0] == 0


def cached_bytes(path: Path) -> int:
    """How much of a file the system's cache holds, in pages."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ) as view:
        pages = (ctypes.c_ubyte * -(-len(view) // BLOCK_BYTES))()
        with ffi.from_buffer("uint8_t[]", view) as memory:
            at = ctypes.c_void_p(int(ffi.cast("uintptr_t", memory)))
            assert libc.mincore(at, ctypes.c_size_t(len(view)), pages) == 0
    return BLOCK_BYTES * sum(page & 1 for page in pages)


def test_what_is_asked_for_ahead_comes_whole_though_nobody_reads_it(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(4 << 20))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_bytes(path):
        pytest.skip("this file system is memory")
    FILES.read_ahead(ffi.NULL, bytes(path))
    for _ in range(5000):  # the disk takes its time
        if cached_bytes(path) == 4 << 20:
            return
        time.sleep(0.001)
    assert cached_bytes(path) == 4 << 20


def test_to_ask_for_a_file_that_is_not_there_does_nothing(path: Path) -> None:
    FILES.read_ahead(ffi.NULL, bytes(path))
    assert not path.exists()
