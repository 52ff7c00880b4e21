"""Builds the extension ``dispatcher.queue._core`` from ``native/``.

The declarations that cffi needs stand in the headers, between ``cffi: begin`` and
``cffi: end``; they are written down nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

_HEADERS = (
    "nd_status.h",
    "nd_crc.h",
    "nd_io.h",
    "nd_files.h",
    "nd_pool.h",
    "nd_ring.h",
    "nd_residency.h",
    "nd_append.h",
    "nd_frame.h",
    "nd_framed.h",
    "nd_fetch.h",
    "nd_segment.h",
    "nd_journal.h",
    "nd_writer.h",
    "nd_recovery.h",
    "nd_restore.h",
    "nd_secure.h",
    "nd_logged_append.h",
    "nd_channels.h",
    "nd_publish.h",
    "nd_cleaner.h",
    "nd_scan.h",
    "nd_routes.h",
    "nd_fan.h",
    "nd_audiences.h",
    "nd_take.h",
)
_REGION = re.compile(r"/\* cffi: begin.*?\*/(.*?)/\* cffi: end \*/", re.DOTALL)
_TOP = Path(__file__).parent.parent.parent
_INCLUDE = Path("native", "include")  # relative to setup.py, as setuptools wants it
_SOURCES = sorted((_TOP / "native" / "src").glob("*.c"))


def _declarations(header: str) -> str:
    text = (_TOP / _INCLUDE / header).read_text(encoding="utf-8")
    regions: list[str] = _REGION.findall(text)
    if not regions:
        raise ValueError(f"{header} has no region marked for cffi")
    return "\n".join(regions)


ffi = FFI()
ffi.cdef("\n".join(_declarations(header) for header in _HEADERS))
ffi.set_source(
    "dispatcher.queue._core",
    "\n".join(f'#include "{header}"' for header in _HEADERS),
    sources=[str(path.relative_to(_TOP)) for path in _SOURCES],
    depends=[str(path.relative_to(_TOP)) for path in sorted((_TOP / "native").rglob("*.h"))],
    include_dirs=[str(_INCLUDE)],
    extra_compile_args=["-std=c11", "-O2", "-pthread", "-Werror=implicit-function-declaration"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)
