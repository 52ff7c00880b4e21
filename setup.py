"""Only what cffi needs to build the native core; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["dispatcher/queue/_native_build.py:ffi"])
