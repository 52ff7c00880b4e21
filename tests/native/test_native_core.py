"""Builds the C tests of ``native/`` with sanitizers and runs them.

``DISPATCHER_FUZZ_RUNS`` sets how many inputs each fuzz entry tries (10,000 when
unset).  Warnings are errors here, though not for those who only build the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
TESTS = NATIVE / "tests"
SOURCES = sorted((NATIVE / "src").glob("*.c"))
SUPPORT = sorted(path for path in TESTS.glob("*.c") if not path.stem.startswith(("test_", "fuzz_")))
FUZZ_RUNS = int(os.environ.get("DISPATCHER_FUZZ_RUNS", "10000"))
FUZZ_FLAGS = {
    # An input is a life of up to 255 operations, and short lives never clean a segment.
    "fuzz_journal": (f"-runs={max(1, FUZZ_RUNS // 4)}", "-len_control=0"),
}
BUILD_TIMEOUT_S = 120
RUN_TIMEOUT_S = 300 + FUZZ_RUNS // 50

STRICT = [
    "-std=c11",
    "-g",
    "-O1",
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"),
    "-fno-sanitize-recover=all",
]


def clang() -> str | None:
    """A clang with libFuzzer, if there is one."""
    return shutil.which("clang") or shutil.which("clang-14")


def build(tmp_path: Path, source: Path, compiler: str, sanitizers: str, *defines: str) -> Path:
    """Compile one test with the whole core."""
    program = tmp_path / source.stem
    includes = [f"-I{folder}" for folder in (NATIVE / "include", NATIVE / "src", TESTS)]
    command = [compiler, *STRICT, f"-fsanitize={sanitizers}", *includes, *defines]
    command += [str(path) for path in (source, *SUPPORT, *SOURCES)]
    run([*command, "-o", str(program)], BUILD_TIMEOUT_S)
    return program


def run(command: list[str], timeout_s: float) -> str:
    """Run to a good end; what went wrong is shown otherwise."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(command[:1])}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(TESTS.glob("test_*.c")), ids=lambda path: path.stem)
def test_the_core_keeps_its_promises_under_sanitizers(source: Path, tmp_path: Path) -> None:
    keeps_its_promises(source, tmp_path)


@pytest.mark.slow
def test_the_scan_is_the_same_without_vector_instructions(tmp_path: Path) -> None:
    keeps_its_promises(TESTS / "test_scan.c", tmp_path, "-DND_PORTABLE")


def keeps_its_promises(source: Path, tmp_path: Path, *defines: str) -> None:
    compiler = clang() or shutil.which("gcc")
    if compiler is None:
        pytest.skip("neither clang nor gcc is installed")
    output = run([str(build(tmp_path, source, compiler, "address,undefined", *defines))], RUN_TIMEOUT_S)
    names = [
        line.split("(")[1].rstrip(");") for line in source.read_text().splitlines() if "    RUN(" in line
    ]
    assert output.splitlines() == [f"ok {name}" for name in names]
    assert names


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(TESTS.glob("fuzz_*.c")), ids=lambda path: path.stem)
def test_no_input_breaks_the_core(source: Path, tmp_path: Path) -> None:
    compiler = clang()
    if compiler is None:
        pytest.skip("libFuzzer comes with clang, which is not installed")
    program = build(tmp_path, source, compiler, "address,undefined,fuzzer")
    flags = [f"-runs={FUZZ_RUNS}", "-seed=1", "-max_len=512", "-print_final_stats=0"]
    run([str(program), *flags, *FUZZ_FLAGS.get(source.stem, ())], RUN_TIMEOUT_S)
