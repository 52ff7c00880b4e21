"""Builds the C tests of ``native/`` with sanitizers and runs them.

``DISPATCHER_FUZZ_RUNS`` sets how many inputs each fuzz entry tries (4,000 when
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
FUZZ_RUNS = int(os.environ.get("DISPATCHER_FUZZ_RUNS", "4000"))
FUZZ_FLAGS = {
    # An input is a life of up to 255 operations, and short lives never clean a segment.
    "fuzz_journal": (f"-runs={max(1, FUZZ_RUNS // 4)}", "-len_control=0"),
}
BUILD_TIMEOUT_S = 300
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


class Workshop:
    """Builds tests with the whole core, which is compiled once for each choice of flags."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects: dict[tuple[str, ...], list[str]] = {}

    def build(self, source: Path, compiler: str, sanitizers: str, *defines: str) -> Path:
        """The program of one test."""
        includes = [f"-I{folder}" for folder in (NATIVE / "include", NATIVE / "src", TESTS)]
        flags = [compiler, *STRICT, *includes, *defines]
        inside = sanitizers.replace("fuzzer", "fuzzer-no-link")  # its main() comes with the program
        core = self._compiled([*flags, f"-fsanitize={inside}"])
        program = self._folder / f"{source.stem}{len(self._objects)}"
        run([*flags, f"-fsanitize={sanitizers}", str(source), *core, "-o", str(program)], BUILD_TIMEOUT_S)
        return program

    def _compiled(self, command: list[str]) -> list[str]:
        objects = self._objects.get(tuple(command))
        if objects is None:
            folder = self._folder / f"core{len(self._objects)}"
            folder.mkdir()
            run([*command, "-c", *map(str, (*SUPPORT, *SOURCES))], BUILD_TIMEOUT_S, folder)
            objects = self._objects[tuple(command)] = sorted(map(str, folder.glob("*.o")))
        return objects


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("native"))


def run(command: list[str], timeout_s: float, folder: Path | None = None) -> str:
    """Run to a good end; what went wrong is shown otherwise."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=folder)
    assert done.returncode == 0, f"{' '.join(command[:1])}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(TESTS.glob("test_*.c")), ids=lambda path: path.stem)
def test_the_core_keeps_its_promises_under_sanitizers(source: Path, workshop: Workshop) -> None:
    keeps_its_promises(source, workshop)


@pytest.mark.slow
def test_the_scan_is_the_same_without_vector_instructions(workshop: Workshop) -> None:
    keeps_its_promises(TESTS / "test_scan.c", workshop, "-DND_PORTABLE")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_writer.c", "test_framed_threads.c"])
def test_threads_hand_over_without_a_race(name: str, workshop: Workshop) -> None:
    keeps_its_promises(TESTS / name, workshop, sanitizers="thread,undefined")


def keeps_its_promises(
    source: Path, workshop: Workshop, *defines: str, sanitizers: str = "address,undefined"
) -> None:
    compiler = clang() or shutil.which("gcc")
    if compiler is None:
        pytest.skip("neither clang nor gcc is installed")
    output = run([str(workshop.build(source, compiler, sanitizers, *defines))], RUN_TIMEOUT_S)
    names = [
        line.split("(")[1].rstrip(");") for line in source.read_text().splitlines() if "    RUN(" in line
    ]
    assert output.splitlines() == [f"ok {name}" for name in names]
    assert names


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(TESTS.glob("fuzz_*.c")), ids=lambda path: path.stem)
def test_no_input_breaks_the_core(source: Path, workshop: Workshop) -> None:
    compiler = clang()
    if compiler is None:
        pytest.skip("libFuzzer comes with clang, which is not installed")
    program = workshop.build(source, compiler, "address,undefined,fuzzer")
    flags = [f"-runs={FUZZ_RUNS}", "-seed=1", "-max_len=512", "-print_final_stats=0"]
    run([str(program), *flags, *FUZZ_FLAGS.get(source.stem, ())], RUN_TIMEOUT_S)
