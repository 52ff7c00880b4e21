"""The command line in a process of its own beside an open registry, as beside a running daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from dispatcher.core.access import KeyRing
from dispatcher.registry.control import serve_control
from dispatcher.registry.folder import open_folder
from dispatcher.registry.sqlite import open_registry

KEYS = [sys.executable, "-P", "-c", "from dispatcher.cli.keys import keys; keys(prog_name='dispatcher keys')"]

pytestmark = pytest.mark.slow


async def run_keys(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(
            [*KEYS, *arguments], capture_stdout=True, capture_stderr=True, check=False
        )


async def test_a_running_daemon_is_poked_and_sees_keys_come_and_go(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    send_poke, receive_poke = trio.open_memory_channel[None](10)
    async with trio.open_nursery() as nursery, open_registry(folder, unix_ms=lambda: 0) as registry:
        with folder.locked():
            await nursery.start(serve_control, folder, lambda: send_poke.send(None))
            await registry.load()

            created = await run_keys("create", "--data", str(folder.path), "--role", "application", "--json")
            assert (created.returncode, created.stdout.count(b"\n")) == (0, 1), created.stderr
            answer = json.loads(created.stdout)
            with trio.fail_after(1):
                await receive_poke.receive()
            identities = await registry.identities_if_changed()
            assert identities is not None
            key = KeyRing(folder.secret, identities.keys).authenticate(answer["key"])
            assert key is not None
            assert key.id == answer["id"]

            revoked = await run_keys("revoke", answer["id"], "--data", str(folder.path))
            assert revoked.returncode == 0, revoked.stderr
            with trio.fail_after(1):
                await receive_poke.receive()
            identities = await registry.identities_if_changed()
            assert identities is not None
            assert KeyRing(folder.secret, identities.keys).authenticate(answer["key"]) is None
            assert await registry.identities_if_changed() is None
            nursery.cancel_scope.cancel()


async def test_a_failure_is_one_line_and_never_a_traceback(tmp_path: Path) -> None:
    failed = await run_keys("list", "--data", str(tmp_path / "nowhere"))
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert failed.stderr.count(b"\n") == 1
    assert b"there is no folder" in failed.stderr
