"""Only what pyproject.toml has no words for: the native core, and the benchmarks' place."""

from setuptools import find_packages, setup

setup(
    cffi_modules=["dispatcher/queue/_native_build.py:ffi"],
    packages=[
        *find_packages(include=["dispatcher*"]),
        "dispatcher.bench",  # for ``dispatcher bench``
        *(f"dispatcher.bench.{name}" for name in find_packages("bench")),
    ],
    package_dir={"dispatcher.bench": "bench"},
)
