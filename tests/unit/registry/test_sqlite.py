"""What the SQLite registry promises beyond the conformance suite: files, crashes, other processes."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from support.registries import NOW_UNIX_MS, channel_for, key_for, make_application, open_sqlite

from dispatcher import limits
from dispatcher.core import access
from dispatcher.errors import DataFolderError, StorageFull, TooManyRequests, Unavailable
from dispatcher.model import AccessKey, Presubscription, Role, Signing, Subscription
from dispatcher.registry.database import MIGRATIONS, Database
from dispatcher.registry.folder import open_folder
from dispatcher.registry.sqlite import open_registry


def registry_file(tmp_path: Path) -> Path:
    return open_folder(tmp_path / "data").registry_path


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    """As another program would, on a connection of its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


# --- surviving --------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        application = await make_application(registry)
        await registry.add_key(key_for(application))
        await registry.add_channel(channel_for(application))
        await registry.add_subscription(Subscription(application.id, "d", "/1"), 1)
        await registry.set_presubscriptions(application.id, [Presubscription(endpoint_name="d*")])
        before = await registry.load()
        assert await registry.next_epoch() == 1
    async with open_sqlite(tmp_path) as registry:
        assert await registry.load() == before
        assert await registry.next_epoch() == 2
        with pytest.raises(TooManyRequests):  # the count was kept, too
            await registry.add_subscription(Subscription(application.id, "d", "/2"), 1)


async def test_rows_that_name_an_application_share_one_number(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path):
        pass
    execute(registry_file(tmp_path), "INSERT INTO sqlite_sequence VALUES ('applications', 1000000)")
    async with open_sqlite(tmp_path) as registry:
        application = await make_application(registry)
        await registry.add_key(key_for(application))
        await registry.add_channel(channel_for(application))
        contents = await registry.load()
    (application,), (key,), (channel,) = (
        contents.identities.applications,
        contents.identities.keys,
        contents.channels,
    )
    assert application.id == 1_000_001
    assert key.application_id is application.id
    assert channel.application_id is application.id


async def test_a_number_is_not_given_twice_over_a_restart(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        application = await make_application(registry)
        first = await registry.add_channel(channel_for(application))
        await registry.remove_channel(first.id)
    async with open_sqlite(tmp_path) as registry:
        assert (await registry.add_channel(channel_for(application))).id > first.id


async def add_keys_until_killed(path: Path, reports: Connection) -> None:
    async with open_sqlite(path) as registry:
        application = await make_application(registry)
        for number in range(1, 10_000):
            await registry.add_key(key_for(application, number))
            reports.send(number)


def test_what_was_added_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: trio.run(add_keys_until_killed, tmp_path, theirs))
    child.start()
    while ours.recv() < 20:
        pass
    child.kill()
    child.join(10)
    theirs.close()
    last = 20
    while ours.poll():
        try:
            last = ours.recv()
        except EOFError:
            break

    async def key_ids() -> list[str]:
        async with open_sqlite(tmp_path) as registry:
            return [key.id for key in (await registry.load()).identities.keys]

    found = trio.run(key_ids)
    assert set(found) >= {f"k_{number}" for number in range(1, last + 1)}
    assert len(found) <= last + 1  # at most the one that was being added


@pytest.mark.parametrize(("is_durable", "level"), [(True, 2), (False, 1)])
async def test_commits_wait_for_the_disk_unless_told_otherwise(
    tmp_path: Path, is_durable: bool, level: int
) -> None:
    path = registry_file(tmp_path)
    path.touch()
    database = await Database.open(path, is_durable=is_durable)
    assert await database.read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (level,)
    assert await database.read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    await database.close()


# --- who may read it --------------------------------------------------------------------------


async def test_every_file_is_the_owner_s_alone_while_it_is_open_and_after(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_sqlite(tmp_path) as registry:
            await make_application(registry)
            names = modes(tmp_path / "data")
            assert set(names) == {"secret", "registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"}
            assert set(names.values()) == {0o600}
        assert modes(tmp_path / "data") == {"secret": 0o600, "registry.sqlite": 0o600}
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_a_key_s_text_is_nowhere_in_the_folder(tmp_path: Path) -> None:
    text = access.make_key(bytes(range(60)))
    secret = open_folder(tmp_path / "data").secret
    key = AccessKey(id="k_1", role=Role.ADMIN, digest=access.digest(secret, text))
    async with open_sqlite(tmp_path) as registry:
        await registry.add_key(key)
        content = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert key.digest in content
    for part in (text.encode(), text.removeprefix(access.KEY_PREFIX).encode(), bytes(range(60)), b"ak_1"):
        assert part not in content


# --- other processes --------------------------------------------------------------------------


async def test_a_change_by_another_connection_is_seen_once(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as daemon, open_sqlite(tmp_path) as other:
        application = await make_application(daemon)
        await daemon.load()
        await other.add_key(key_for(application))
        seen = await daemon.identities_if_changed()
        assert seen is not None
        assert seen.keys == (key_for(application),)
        assert await daemon.identities_if_changed() is None
        await other.revoke_key("k_1")
        seen = await daemon.identities_if_changed()
        assert seen is not None
        assert seen.keys == ()


async def test_another_connection_s_other_changes_are_not_seen(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as daemon, open_sqlite(tmp_path) as other:
        application = await make_application(daemon)
        await daemon.load()
        await other.add_subscription(Subscription(application.id, "d", "/1"), 10)
        await other.add_channel(channel_for(application))
        await other.next_epoch()
        assert await daemon.identities_if_changed() is None


async def test_a_change_by_hand_is_seen(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as daemon:
        account = await daemon.ensure_account("acme", "free")
        await daemon.load()
        execute(registry_file(tmp_path), "UPDATE accounts SET tier = 'gold'")
        seen = await daemon.identities_if_changed()
        assert seen is not None
        assert seen.accounts == (replace(account, tier="gold"),)


def open_at_once(path: Path, barrier: object, answers: object) -> None:
    async def run() -> None:
        async with open_sqlite(path) as registry:
            await make_application(registry, "acme")

    barrier.wait(10)  # type: ignore[attr-defined]
    try:
        trio.run(run)
        answers.put("ok")  # type: ignore[attr-defined]
    except BaseException as error:
        answers.put(repr(error))  # type: ignore[attr-defined]


@pytest.mark.parametrize("round_", range(3))
def test_processes_that_open_a_new_folder_at_once_share_one_registry(tmp_path: Path, round_: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    children = [context.Process(target=open_at_once, args=(tmp_path, barrier, answers)) for _ in range(4)]
    for child in children:
        child.start()
    assert [answers.get(timeout=20) for _ in children] == ["ok"] * 4
    for child in children:
        child.join(10)
    assert execute(registry_file(tmp_path), "SELECT count(*) FROM accounts") == [(1,)]
    assert execute(registry_file(tmp_path), "SELECT count(*) FROM applications") == [(4,)]


@pytest.mark.parametrize("is_let_go", [True, False])
async def test_a_new_file_that_another_process_is_preparing_is_tried_again_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_let_go: bool
) -> None:
    monkeypatch.setattr(limits, "REGISTRY_BUSY_S", 0.001)
    pauses: list[float] = []
    path = registry_file(tmp_path)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if is_let_go and len(pauses) == 3:
            holder.execute("ROLLBACK")

    monkeypatch.setattr("dispatcher.registry.database.time.sleep", pause)
    if is_let_go:
        async with open_sqlite(tmp_path) as registry:
            assert await registry.next_epoch() == 1
        assert len(pauses) == 3
    else:
        with pytest.raises(Unavailable, match="locked by another process"):
            await Database.open(path, is_durable=True)
        assert len(pauses) == limits.REGISTRY_CONVERT_ATTEMPTS_MAX - 1
    holder.close()


async def test_a_file_locked_for_long_is_busy_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGISTRY_BUSY_S", 0.01)
    async with open_sqlite(tmp_path) as registry:
        holder = sqlite3.connect(registry_file(tmp_path), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"registry\.sqlite has been locked by another process"):
            await registry.ensure_account("acme", "free")
        assert (await registry.load()).identities.accounts == ()  # readers do not wait for the writer
        holder.close()
        assert await registry.ensure_account("acme", "free")


# --- files that are not ours --------------------------------------------------------------------


async def refusal(tmp_path: Path) -> str:
    with pytest.raises(DataFolderError) as caught:
        async with open_sqlite(tmp_path) as registry:
            await registry.load()
    return caught.value.message


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = registry_file(tmp_path)
    path.write_bytes(b"not a database at all" * 100)
    assert await refusal(tmp_path) == f"{path} is not a database; move it away to start anew"
    assert path.read_bytes() == b"not a database at all" * 100


async def test_another_program_s_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = registry_file(tmp_path)
    execute(path, "CREATE TABLE theirs (a)")
    before = path.read_bytes()
    assert "another program's database" in await refusal(tmp_path)
    assert path.read_bytes() == before


async def test_a_registry_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        await registry.ensure_account("acme", "free")
    path = registry_file(tmp_path)
    execute(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    message = await refusal(tmp_path)
    assert f"schema {len(MIGRATIONS) + 1}, made by a newer dispatcher" in message
    assert "restore the backup" in message
    assert execute(path, "SELECT name FROM accounts") == [("acme",)]


async def test_a_damaged_file_is_refused_in_words(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        await make_application(registry)
    path = registry_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    assert "the file is damaged: restore it from a backup" in await refusal(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE channels SET limits = '{'",
        "UPDATE channels SET limits = '{}'",
        "UPDATE channels SET type = 'PIGEON'",
        "UPDATE channels SET headers = X'ff'",
        "UPDATE keys SET digest = 5",
        "UPDATE presubscriptions SET entries = '[{\"endpoint_name\": 1}]'",
    ],
)
async def test_a_row_that_does_not_read_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    async with open_sqlite(tmp_path) as registry:
        application = await make_application(registry)
        await registry.add_key(key_for(application))
        await registry.add_channel(channel_for(application))
        await registry.set_presubscriptions(application.id, [Presubscription()])
    execute(registry_file(tmp_path), damage)
    assert "a row does not read" in await refusal(tmp_path)


async def test_a_folder_in_the_file_s_place_is_refused_in_words(tmp_path: Path) -> None:
    path = registry_file(tmp_path)
    path.mkdir()
    assert str(path) in await refusal(tmp_path)


@pytest.mark.parametrize(
    ("role", "account_id", "application_id"),
    [("admin", 1, None), ("gateway", None, None), ("gateway", 1, 1), ("application", 1, None)],
)
async def test_a_key_whose_owner_does_not_fit_its_role_cannot_be_stored(
    tmp_path: Path, role: str, account_id: int | None, application_id: int | None
) -> None:
    async with open_sqlite(tmp_path) as registry:
        await make_application(registry)
        with pytest.raises(sqlite3.IntegrityError):
            await registry.add_key(
                AccessKey(
                    id="k", role=Role(role), digest=b"d", account_id=account_id, application_id=application_id
                )
            )
        assert (await registry.load()).identities.keys == ()


async def test_times_of_keys_are_the_injected_clock_s(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        await registry.add_key(key_for(await make_application(registry)))
        await registry.revoke_key("k_1")
    times = execute(registry_file(tmp_path), "SELECT created_unix_ms, revoked_unix_ms FROM keys")
    assert times == [(NOW_UNIX_MS, NOW_UNIX_MS)]


_TAKEN_BACK = (  # what the newest migrations made, the newest first
    ("DROP TABLE parked_events",),
    ("ALTER TABLE channels DROP COLUMN is_paused",),
    ("ALTER TABLE channels DROP COLUMN signing", "ALTER TABLE channels DROP COLUMN is_gzipped"),
    ("ALTER TABLE keys DROP COLUMN expires_unix_ms",),
)


def take_back(path: Path, version: int) -> None:
    """Make the file what a dispatcher of this schema would have left."""
    for statements in _TAKEN_BACK[: len(MIGRATIONS) - version]:
        for statement in statements:
            execute(path, statement)
    execute(path, f"PRAGMA user_version = {version}")


async def test_a_key_made_before_keys_could_expire_does_not(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        await registry.add_key(key_for(await make_application(registry)))
    path = registry_file(tmp_path)
    take_back(path, 3)
    async with open_sqlite(tmp_path) as registry:
        (key,) = (await registry.load()).identities.keys
        later = replace(key, id="k_2", digest=b"2", expires_unix_ms=7)
        await registry.add_key(later)
        assert [key.expires_unix_ms for key in (await registry.load()).identities.keys] == [None, 7]


async def test_a_callback_made_before_they_could_be_signed_is_plain(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as registry:
        await registry.add_channel(replace(channel_for(await make_application(registry)), url="http://a/"))
        before = (await registry.load()).channels
    take_back(registry_file(tmp_path), 4)
    async with open_sqlite(tmp_path) as registry:
        assert (await registry.load()).channels == before
        (channel,) = before
        assert (channel.signing, channel.is_gzipped) == (None, False)
        signed = replace(channel, signing=Signing(secret=b"s" * 24), is_gzipped=True)
        await registry.update_channel(signed)
        assert (await registry.load()).channels == (signed,)


async def test_a_given_source_of_randomness_names_applications(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    async with open_registry(folder, unix_ms=lambda: 0, random_bytes=bytes) as registry:
        application = await make_application(registry)
    assert application.name == access.make_application_name(bytes(access.APPLICATION_NAME_RANDOM_BYTES))


# --- transactions and cancellation ----------------------------------------------------------------


class Slow:
    """A change that waits in the middle, on the worker thread, until it is let go."""

    def __init__(self) -> None:
        self.is_running = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO accounts (name, tier) VALUES ('one', 'free')")
        self.is_running.set()
        assert self.go_on.wait(10)
        db.execute("INSERT INTO accounts (name, tier) VALUES ('two', 'free')")
        return "done"


async def open_database(tmp_path: Path) -> Database:
    path = registry_file(tmp_path)
    path.touch()
    return await Database.open(path, is_durable=False)


def account_names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM accounts ORDER BY id")]


async def test_a_change_cancelled_in_the_middle_is_made_whole(tmp_path: Path) -> None:
    database, slow = await open_database(tmp_path), Slow()
    answers = []
    scope = trio.CancelScope()

    async def change() -> None:
        with scope:
            answers.append(await database.write(slow))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        await trio.to_thread.run_sync(slow.is_running.wait, 10)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []  # it waits for the thread
        slow.go_on.set()
    assert answers == ["done"]
    assert await database.read(account_names) == ["one", "two"]
    await database.close()


async def test_a_change_cancelled_in_the_queue_is_not_made(tmp_path: Path) -> None:
    database, slow = await open_database(tmp_path), Slow()
    scope = trio.CancelScope()

    async def change() -> None:
        with scope:
            await database.write(
                lambda db: db.execute("INSERT INTO accounts (name, tier) VALUES ('late', 'free')")
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, slow)
        await trio.to_thread.run_sync(slow.is_running.wait, 10)
        nursery.start_soon(change)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert scope.cancelled_caught
        slow.go_on.set()
    assert await database.read(account_names) == ["one", "two"]
    await database.close()


async def test_closing_waits_for_the_change_that_runs_even_when_cancelled(tmp_path: Path) -> None:
    database, slow = await open_database(tmp_path), Slow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, slow)
        await trio.to_thread.run_sync(slow.is_running.wait, 10)
        nursery.start_soon(close_cancelled, database)
        await trio.testing.wait_all_tasks_blocked()
        slow.go_on.set()
    assert execute(registry_file(tmp_path), "SELECT count(*) FROM accounts") == [(2,)]
    assert not registry_file(tmp_path).with_name("registry.sqlite-wal").exists()


async def close_cancelled(database: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.close()


async def test_a_change_that_fails_in_the_middle_is_undone(tmp_path: Path) -> None:
    database = await open_database(tmp_path)

    def fail(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO accounts (name, tier) VALUES ('one', 'free')")
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(fail)
    assert await database.read(account_names) == []
    await database.close()


def failing_with(code: int) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO accounts (name, tier) VALUES ('one', 'free')")
        error = sqlite3.OperationalError("from the disk")
        error.sqlite_errorcode = code
        raise error

    return work


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (sqlite3.SQLITE_FULL, StorageFull, "the disk is full"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable, "locked by another process"),
        (sqlite3.SQLITE_IOERR_FSYNC, DataFolderError, "from the disk"),
        (sqlite3.SQLITE_CORRUPT_INDEX, DataFolderError, "the file is damaged"),
        (sqlite3.SQLITE_READONLY_DBMOVED, DataFolderError, "run as the user that owns the folder"),
    ],
)
async def test_sqlite_s_failures_are_told_in_words_and_undone(
    tmp_path: Path, code: int, error: type[Exception], words: str
) -> None:
    database = await open_database(tmp_path)
    with pytest.raises(error, match=words):
        await database.write(failing_with(code))
    assert await database.read(account_names) == []
    await database.close()


async def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    database = await open_database(tmp_path)
    await database.read(lambda db: db.execute("SELECT 1").fetchall())
    pages = await database.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])

    def fill(db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")
        db.execute("INSERT INTO accounts (name, tier) VALUES ('one', ?)", ("x" * 100_000,))

    with pytest.raises(StorageFull):
        await database.write(fill)
    assert await database.read(account_names) == []
    await database.close()
