"""Backups of a daemon that is being posted to, and daemons on what was restored of them."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from support.daemon import DISPATCHER, Daemon, User, open_daemon
from support.plain_websocket import open_websocket
from support.tenants import key_of, small, until_queue_is_empty, websocket_tenant

pytestmark = pytest.mark.slow

COMMAND_S = 60.0
WITH_UID = {"cfg": {"include_uid": True}}


def dispatcher(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*DISPATCHER, *arguments], capture_output=True, text=True, timeout=COMMAND_S)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def succeed(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = dispatcher(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def refused(*arguments: str) -> str:
    done = dispatcher(*arguments)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1
    return done.stderr


async def received(port: int, application: User, last: int) -> list[Any]:
    """Events over a WebSocket, until this number has come; they are confirmed."""
    events: list[Any] = []
    application.port = port
    with trio.fail_after(30):
        async with open_websocket(port, key_of(application)) as opened:
            while not events or events[-1]["max-age"] != last:
                events += (await opened.message())["notifications"]
            await until_queue_is_empty(application)
    return events


class Load:
    """A gateway that posts all the time; counts what was accepted."""

    def __init__(self, gateway: User) -> None:
        self.gateway = gateway
        self.accepted = 0
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            first = self.accepted + 1
            await self.gateway.post_events([small(first + n) for n in range(50)])
            self.accepted += 50


async def back_up_under_load(daemon: Daemon, gateway: User, target: Path) -> tuple[int, int]:
    """How many events were accepted before the backup began, and when posting ended."""
    load = Load(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        while load.accepted < 1000:  # noqa: ASYNC110  what another task counts
            await trio.sleep(0.001)
        before = load.accepted
        await trio.to_thread.run_sync(succeed, "backup", f"--data={daemon.data}", f"--to={target}")
        load.is_over = True
    return before, load.accepted


async def test_what_was_accepted_before_a_backup_under_load_arrives_after_the_restore(
    tmp_path: Path,
) -> None:
    copy, new = tmp_path / "backup", tmp_path / "new"
    new.mkdir()
    with open_daemon(tmp_path) as daemon:
        tenant = await websocket_tenant(daemon, **WITH_UID)
        before, posted = await back_up_under_load(daemon, tenant.gateway, copy)
        original = await received(daemon.port, tenant.application, posted)
    assert [event["max-age"] for event in original] == list(range(1, posted + 1))

    succeed("restore", f"--from={copy}", f"--data={new}/data")
    with open_daemon(new) as daemon:
        tenant.gateway.port = daemon.port
        await tenant.gateway.post_events([small(1_000_000)])
        restored = await received(daemon.port, tenant.application, 1_000_000)
    numbers = [event["max-age"] for event in restored[:-1]]
    assert before <= len(numbers) <= posted
    assert numbers == list(range(1, len(numbers) + 1))  # in order, once, without a hole
    assert [event["uid"] for event in restored[:-1]] == [event["uid"] for event in original[: len(numbers)]]


async def test_a_number_that_was_given_after_the_backup_is_not_given_again(tmp_path: Path) -> None:
    """Neither by the restored folder, nor by another that is restored from the same backup."""
    copy = tmp_path / "backup"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    uids: list[str] = []
    with open_daemon(tmp_path) as daemon:
        tenant = await websocket_tenant(daemon, **WITH_UID)
        succeed("backup", f"--data={daemon.data}", f"--to={copy}")
        await tenant.gateway.post_events([small(n) for n in range(1, 6)])
        uids += [event["uid"] for event in await received(daemon.port, tenant.application, 5)]
    for _ in range(2):  # starts of which the backup knows nothing
        with open_daemon(tmp_path) as daemon:
            tenant.gateway.port = daemon.port
            await tenant.gateway.post_events([small(6)])
            uids += [event["uid"] for event in await received(daemon.port, tenant.application, 6)]
    for name in ("first", "second"):
        succeed("restore", f"--from={copy}", f"--data={tmp_path / name}/data")
        with open_daemon(tmp_path / name) as daemon:
            tenant.gateway.port = daemon.port
            await tenant.gateway.post_events([small(n) for n in range(1, 6)])
            uids += [event["uid"] for event in await received(daemon.port, tenant.application, 5)]
    assert len(set(uids)) == len(uids) == 17


async def test_a_backup_of_a_folder_at_rest_is_whole_private_and_not_served_itself(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await websocket_tenant(daemon)
        for number in range(3):
            await tenant.gateway.post_events([small(number)])
    copy = tmp_path / "backup"
    told = json.loads(succeed("backup", f"--data={tmp_path}/data", f"--to={copy}", "--json").stdout)
    assert told["segments"] == 1
    for path in (copy, *copy.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert "1 channels" in succeed("fsck", f"--data={copy}").stdout
    for command in (["serve", "--listen=127.0.0.1:0"], ["keys", "list"]):
        assert "dispatcher restore" in refused(*command, f"--data={copy}")

    (segment,) = (copy / "journal").glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(4096)
        file.write(b"\0" * 4)  # the first group's magic; there are later ones
    new = tmp_path / "new"
    assert "--accept-damage" in refused("restore", f"--from={copy}", f"--data={new}")
    assert not new.exists()
    succeed("restore", f"--from={copy}", f"--data={new}", "--accept-damage")


def test_a_restore_refuses_what_it_must_not_touch_or_trust(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "backup"
    with open_daemon(tmp_path):
        succeed("backup", f"--data={data}", f"--to={copy}")
        assert "not empty" in refused("restore", f"--from={copy}", f"--data={data}")
        assert "not empty" in refused("backup", f"--data={data}", f"--to={copy}")
    new = tmp_path / "new"
    assert "no backup" in refused("restore", f"--from={data}", f"--data={new}")  # without its manifest
    assert "no folder" in refused("backup", f"--data={tmp_path}/nowhere", f"--to={new}")

    ahead = tmp_path / "ahead"
    shutil.copytree(copy, ahead)
    manifest = json.loads((ahead / "backup.json").read_text())
    manifest["created_unix_ms"] = int(time.time() * 1000) + 60_000
    (ahead / "backup.json").write_text(json.dumps(manifest))
    assert "clock" in refused("restore", f"--from={ahead}", f"--data={new}")
    (ahead / "backup.json").write_text(json.dumps({**manifest, "version": 2}))
    assert "newer" in refused("restore", f"--from={ahead}", f"--data={new}")

    (copy / "registry.sqlite").write_bytes(b"SQLite format 3\0 not really")
    assert "fsck" in refused("restore", f"--from={copy}", f"--data={new}")
    assert not new.exists()


async def test_a_restore_that_was_cut_short_is_not_served(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        succeed("backup", f"--data={daemon.data}", f"--to={tmp_path}/backup")
    new = tmp_path / "new"
    succeed("restore", f"--from={tmp_path}/backup", f"--data={new}")
    (new / "secret").unlink()  # it is written last
    assert "secret is missing" in refused("serve", "--listen=127.0.0.1:0", f"--data={new}")
