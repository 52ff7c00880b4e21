"""The doctor on real folders, with and without a daemon; names resolve as the test says."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from support.certificates import Authority, Files
from support.daemon import DISPATCHER, new_tenant, open_daemon
from support.receiver import answer, open_receiver

from dispatcher.cli.checkup import Finding, Level
from dispatcher.cli.doctor import examine
from dispatcher.config import CallbackSettings, ServerSettings, Settings, StorageSettings
from dispatcher.registry.folder import open_folder

pytestmark = pytest.mark.slow

COMMAND_S = 30.0


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = subprocess.run(
        [*DISPATCHER, "doctor", "--json", *arguments], capture_output=True, text=True, timeout=COMMAND_S
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def found(settings: Settings, name: str | None = None, error: OSError | None = None) -> dict[str, Finding]:
    def resolve(host: str) -> None:
        if error is not None:
            raise error

    return {finding.check: finding for finding in examine(settings, name, resolve)}


async def test_a_daemon_that_runs_is_found_ready_and_the_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        await new_tenant(daemon)
        before = sorted(path.name for path in daemon.data.iterdir())
        (tmp_path / "its.toml").write_text(f'[server]\nlisten = "127.0.0.1:{daemon.port}"\n')
        status, findings = doctor(f"--data={daemon.data}", f"--config={tmp_path}/its.toml")
        assert sorted(path.name for path in daemon.data.iterdir()) == before
    assert status == 0
    assert findings["daemon"]["text"] == "one serves this folder, and is ready"
    assert findings["data folder"]["level"] == "ok"
    assert findings["keys"]["text"] == "there is no key of role admin"
    assert "disk sync" in findings
    _, findings = doctor(f"--data={tmp_path}/data")
    assert findings["daemon"]["level"] == "warn"


async def test_a_daemon_that_is_not_ready_fails_in_its_own_words(tmp_path: Path) -> None:
    full = answer(503, b"the disk of the data folder is full\n")
    async with open_receiver(otherwise=full) as receiver:
        with open_daemon(
            tmp_path
        ) as daemon:  # it is asked whether it serves the folder, the other one if it is ready
            settings = Settings(
                server=ServerSettings(listen=f"127.0.0.1:{receiver.port}"),
                storage=StorageSettings(data=str(daemon.data)),
            )
            findings = await trio.to_thread.run_sync(found, settings)
    assert findings["daemon"].level is Level.FAIL
    assert findings["daemon"].text == "it is not ready: the disk of the data folder is full"


def test_a_secret_that_others_may_read_fails(tmp_path: Path) -> None:
    with open_daemon(tmp_path):
        pass
    (tmp_path / "data" / "secret").chmod(0o644)
    status, findings = doctor(f"--data={tmp_path}/data")
    assert status == 1
    assert findings["data folder"]["level"] == "fail"
    assert "secret" in findings["data folder"]["text"]


@pytest.mark.parametrize(("mode", "level"), [(0o600, Level.OK), (0o640, Level.FAIL)])
def test_a_folder_behind_a_link_is_judged_by_what_it_holds(tmp_path: Path, mode: int, level: Level) -> None:
    """As systemd keeps it: the link is root's, and the folder is the service's."""
    folder = open_folder(tmp_path / "private").path
    (folder / "registry.sqlite").touch(mode)
    for path in (folder, *folder.iterdir()):
        os.chown(path, os.geteuid() or 4711, -1)
    (tmp_path / "data").symlink_to(folder)
    assert found(Settings(storage=StorageSettings(data=str(tmp_path / "data"))))["data folder"].level is level


@pytest.mark.parametrize(
    ("days", "level"), [(90, Level.OK), (3, Level.WARN), (-1, Level.FAIL)], ids=["long", "short", "over"]
)
def test_a_certificate_is_judged_by_its_end(tmp_path: Path, days: int, level: Level) -> None:
    files = Files(tmp_path / "server.pem", tmp_path / "server.key")
    files.write(Authority().issue("localhost", until=datetime.now(UTC) + timedelta(days=days)))
    server = ServerSettings(tls_certificate=str(files.certificate), tls_key=str(files.key))
    settings = Settings(server=server, storage=StorageSettings(data=str(tmp_path / "none")))
    assert found(settings)["server.tls_certificate"].level is level


def test_a_key_of_another_certificate_fails_under_its_own_name(tmp_path: Path) -> None:
    ours, other = (Files(tmp_path / f"{n}.pem", tmp_path / f"{n}.key") for n in ("ours", "other"))
    for files in (ours, other):
        files.write(Authority().issue("localhost"))
    certificate, key = str(ours.certificate), str(other.key)
    settings = Settings(
        server=ServerSettings(tls_certificate=certificate, tls_key=key),
        callbacks=CallbackSettings(client_certificate=certificate, client_key=key),
        storage=StorageSettings(data=str(tmp_path / "none")),
    )
    findings = found(settings)
    assert findings["server.tls_certificate"].level is Level.FAIL
    assert findings["callbacks.client_certificate"].level is Level.FAIL
    assert "server" not in findings["callbacks.client_certificate"].text


def test_roots_that_do_not_read_fail_and_others_do_not(tmp_path: Path) -> None:
    Authority().write_root(tmp_path / "roots.pem")
    for name, level in (("roots.pem", Level.OK), ("none.pem", Level.FAIL)):
        callbacks = CallbackSettings(ca=str(tmp_path / name))
        settings = Settings(callbacks=callbacks, storage=StorageSettings(data=str(tmp_path / "none")))
        assert found(settings)["callbacks.ca"].level is level


def data_folder(path: Path) -> Finding:
    return found(Settings(storage=StorageSettings(data=str(path))))["data folder"]


def test_what_no_daemon_would_start_on_fails(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data").path
    (folder / "registry.sqlite").touch(0o600)
    assert data_folder(folder).level is Level.OK
    (folder / "backup.json").touch(0o600)
    assert "is a backup" in data_folder(folder).text
    (folder / "backup.json").unlink()
    (folder / "journal").mkdir(0o700)
    (folder / "journal" / "00000001.seg").touch(0o600)
    (folder / "registry.sqlite").unlink()
    assert "registry.sqlite is missing" in data_folder(folder).text
    assert data_folder(folder / "secret").level is Level.FAIL  # a file
    folder.chmod(0o777)
    assert data_folder(folder).level is Level.FAIL


def test_a_folder_to_come_is_no_failure(tmp_path: Path) -> None:
    assert data_folder(tmp_path / "none").level is Level.WARN
    assert data_folder(tmp_path).level is Level.WARN
    assert not (tmp_path / "none").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_looked_into_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert data_folder(tmp_path).text == f"{tmp_path}: Permission denied"


def test_a_name_that_does_not_resolve_and_a_proxy_that_is_not_there_fail(tmp_path: Path) -> None:
    callbacks = CallbackSettings(proxy="http://127.0.0.1:1")
    settings = Settings(callbacks=callbacks, storage=StorageSettings(data=str(tmp_path / "none")))
    findings = found(settings, "receiver.test", OSError(0, "nobody knows it"))
    assert findings["names"].level is Level.FAIL
    assert findings["callbacks.proxy"].level is Level.FAIL
    assert found(settings, "receiver.test")["names"].level is Level.OK
