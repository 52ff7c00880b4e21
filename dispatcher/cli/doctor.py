"""``dispatcher doctor``: look at the machine, the settings and the data folder, and say what is amiss."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from dispatcher import limits
from dispatcher.cli.checkup import (
    Finding,
    Level,
    judge_certificate,
    judge_clock,
    judge_disk,
    judge_files,
    judge_keys,
    judge_memory,
    judge_syncs,
)
from dispatcher.cli.config import FILE_OPTION, load_settings
from dispatcher.cli.progress import progress
from dispatcher.config import CallbackSettings, ServerSettings, Settings, split_listen, split_proxy
from dispatcher.errors import ConfigError, DataFolderError
from dispatcher.http.tls import server_context
from dispatcher.registry.control import poke
from dispatcher.registry.folder import DataFolder, open_folder
from dispatcher.runtime.app import memory_bytes
from dispatcher.runtime.machine import machine_memory_bytes
from dispatcher.runtime.parts import callback_tls
from dispatcher.runtime.watch import first_to_end

Resolve = Callable[[str], object]
_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_STA_UNSYNC = 0x40
_PROBE_NAME = "doctor.probe"


@click.command()
@FILE_OPTION
@click.option("--data", metavar="DIR", help="The data folder, when the settings do not say.")
@click.option("--resolve", "name", metavar="NAME", help="A name that must resolve, as callbacks' names do.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON, on one line.")
def doctor(file: Path | None, data: str | None, name: str | None, is_json: bool) -> None:
    """Look for what would make trouble, and say what to do.

    \b
    dispatcher doctor --config /etc/dispatcher.toml --data /var/lib/dispatcher

    Exit 0 without a failure, warnings or not; 1 with one.  Run it as the daemon's user, or as root.
    Changes nothing; to measure the disk it writes a small file into the data folder, and removes it.
    """
    settings, _ = load_settings(file, {"storage.data": data})
    with progress(is_wanted=not is_json) as bar, bar.step("looking"):  # a slow disk, or name, takes its time
        findings = list(examine(settings, name, lambda host: socket.getaddrinfo(host, None)))
    if is_json:
        click.echo(msgspec.json.encode(findings))
    for finding in () if is_json else findings:
        level = click.style(f"{finding.level.value:<5}", fg=_colour(finding.level))
        click.echo(f"{level}{finding.check}: {finding.text}")
        if finding.advice:
            click.echo(f"     {finding.advice}")
    failed = [finding.check for finding in findings if finding.level is Level.FAIL]
    if failed:
        raise click.ClickException(f"{len(failed)} checks failed: {', '.join(failed)}")


def examine(settings: Settings, name: str | None, resolve: Resolve) -> Iterator[Finding]:
    """All checks, in the order of the report.  Blocks for a second or so."""
    yield Finding("settings", Level.OK, "they are right")
    yield _clock()
    yield judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield judge_memory(machine_memory_bytes(), memory_bytes(settings))
    if name is not None:
        yield _name(name, resolve)
    if settings.callbacks.proxy:
        yield _proxy(settings.callbacks.proxy)
    yield from _tls(settings)
    yield from _folder(Path(settings.storage.data), settings)


def _colour(level: Level) -> str | None:
    """click leaves colours out when stdout is no terminal."""
    return None if os.environ.get("NO_COLOR") else _COLOURS[level]


def _clock() -> Finding:
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.2)
    drift_s = (time.time() - wall) - (time.monotonic() - steady)
    return judge_clock(time.time_ns() // 1_000_000, drift_s, _is_synchronised())


def _is_synchronised() -> bool | None:
    """What adjtimex(2) says; None where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return None
    request = (ctypes.c_byte * 512)()  # struct timex, all zeros: change nothing
    if adjtimex(ctypes.byref(request)) < 0:
        return None
    status = ctypes.c_int.from_buffer(request, 5 * ctypes.sizeof(ctypes.c_long)).value
    return not status & _STA_UNSYNC


def _name(name: str, resolve: Resolve) -> Finding:
    try:
        resolve(name)
    except OSError as error:
        advice = "callbacks' names are resolved here, with a proxy too: see to /etc/resolv.conf"
        return Finding("names", Level.FAIL, f"{name} does not resolve: {error.strerror}", advice)
    return Finding("names", Level.OK, f"{name} resolves")


def _proxy(url: str) -> Finding:
    host, port, _ = split_proxy("callbacks.proxy", url)
    try:
        socket.create_connection((host, port), timeout=limits.CLIENT_CONNECT_S).close()
    except OSError as error:
        text = f"{host}:{port} cannot be reached: {error.strerror or error}"
        return Finding("callbacks.proxy", Level.FAIL, text, "no callback goes out without it")
    return Finding("callbacks.proxy", Level.OK, f"{host}:{port} takes connections")


def _tls(settings: Settings) -> Iterator[Finding]:
    """The files for TLS, read as the daemon reads them."""
    server, callbacks = settings.server, settings.callbacks
    if server.tls_certificate:
        yield _certificate(
            "server.tls_certificate",
            server.tls_certificate,
            lambda: server_context(Path(server.tls_certificate), Path(server.tls_key)),
        )
    if callbacks.client_certificate:
        yield _certificate(
            "callbacks.client_certificate",
            callbacks.client_certificate,
            lambda: callback_tls(replace(callbacks, ca="")),
        )
    if callbacks.ca:
        unusable = _unusable("callbacks.ca", lambda: callback_tls(CallbackSettings(ca=callbacks.ca)))
        yield unusable or Finding("callbacks.ca", Level.OK, "can be read")


def _certificate(setting: str, path: str, use: Callable[[], object]) -> Finding:
    try:
        return _unusable(setting, use) or judge_certificate(setting, first_to_end(path).end_s - time.time())
    except (OSError, ValueError) as error:
        return Finding(setting, Level.WARN, f"its end cannot be read: {error}", "use openssl x509 -dates")


def _unusable(setting: str, use: Callable[[], object]) -> Finding | None:
    try:
        use()
    except ConfigError as error:
        text = error.message.removeprefix(f"{setting}: ")
        return Finding(setting, Level.FAIL, text, "put the files right, then reload (SIGHUP)")
    return None


def _folder(path: Path, settings: Settings) -> Iterator[Finding]:
    try:
        is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_new:
            open_folder(path, may_create=False)
            yield _modes(path.resolve())  # systemd makes a link of its StateDirectory
    except DataFolderError as error:
        yield Finding("data folder", Level.FAIL, error.message, "no daemon starts on it before that")
        return
    except OSError as error:
        text = f"{error.filename}: {error.strerror}"
        yield Finding("data folder", Level.FAIL, text, "run this as the daemon's user, or as root")
        return
    if is_new:
        yield Finding("data folder", Level.WARN, f"nothing is in {path} yet", "'dispatcher serve' fills it")
    if not path.exists():
        return
    yield judge_disk(shutil.disk_usage(path).free, settings.storage.disk_bytes)
    try:
        yield judge_syncs(_sync_times(path))
    except OSError as error:
        yield Finding("disk sync", Level.FAIL, f"{path}: {error.strerror}", "the daemon has to write to it")
    registry = path / "registry.sqlite"
    if registry.exists():
        yield _keys(registry)
    if poke(DataFolder(path, b"")):
        yield _readiness(settings.server)
    else:
        yield Finding("daemon", Level.WARN, "none answers on this folder", "start it, or see its log")


def _readiness(server: ServerSettings) -> Finding:
    """What a daemon that serves the folder says on /readyz, where the settings say that it listens."""
    listen = server.internal_listen or server.listen
    _, port = split_listen("server.listen", listen)
    if not port:
        return Finding("daemon", Level.OK, "one serves this folder, on a port of its own choice")
    url = f"{'https' if server.tls_certificate and not server.internal_listen else 'http'}://{listen}/readyz"
    try:
        with urllib.request.urlopen(
            url,
            timeout=limits.CLIENT_CONNECT_S,
            context=ssl._create_unverified_context(),
        ):
            return Finding("daemon", Level.OK, "one serves this folder, and is ready")
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace").strip()
        return Finding("daemon", Level.FAIL, f"it is not ready: {said}", "see OPERATING.md on /readyz")
    except OSError:
        text = f"one serves this folder, but not with these settings: nothing answers at {url}"
        return Finding("daemon", Level.WARN, text, "name its settings with --config")


def _modes(path: Path) -> Finding:
    for found in (path, *path.iterdir()):
        status = found.lstat()
        is_open = status.st_mode & 0o022 if found == path or found.is_dir() else status.st_mode & 0o077
        if is_open and not stat.S_ISLNK(status.st_mode):
            text = f"{found} has mode {stat.S_IMODE(status.st_mode):o}: it holds secrets"
            return Finding("data folder", Level.FAIL, text, "chmod go= it; make new keys if others saw it")
        if status.st_uid != path.stat().st_uid:
            text = f"{found} belongs to another user than the folder"
            return Finding("data folder", Level.FAIL, text, "chown it: the daemon has to read and write it")
    return Finding("data folder", Level.OK, "its files belong to its owner alone")


def _sync_times(folder: Path) -> list[float]:
    probe = folder / _PROBE_NAME
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        took = []
        for at in range(limits.DOCTOR_SYNCS):
            began = time.perf_counter()
            os.pwrite(descriptor, b"x" * 4096, 4096 * at)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
        return took
    finally:
        os.close(descriptor)
        probe.unlink()


def _keys(registry: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"{registry.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT DISTINCT role FROM keys WHERE revoked_unix_ms IS NULL").fetchall()
    except sqlite3.Error as error:
        return Finding(
            "keys", Level.FAIL, f"the registry does not read: {error}", "dispatcher fsck --data DIR"
        )
    return judge_keys({role for (role,) in rows})
