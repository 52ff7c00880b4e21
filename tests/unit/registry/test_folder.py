from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.errors import DataFolderError
from dispatcher.registry.folder import SECRET_BYTES, open_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless_umask")
def test_a_new_folder_and_all_in_it_are_the_owner_s_alone(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    folder.make_private(folder.registry_path)
    with folder.locked():
        assert mode(folder.path) == 0o700
        assert {path.name: mode(path) for path in folder.path.iterdir()} == {
            "secret": 0o600,
            "registry.sqlite": 0o600,
            "lock": 0o600,
        }


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    first = open_folder(tmp_path / "data")
    assert len(first.secret) == SECRET_BYTES
    assert open_folder(tmp_path / "data").secret == first.secret
    assert open_folder(tmp_path / "other").secret != first.secret
    assert [path.name for path in first.path.iterdir()] == ["secret"]


def test_the_secret_is_not_in_the_folder_s_repr(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data", random_bytes=lambda count: b"S" * count)
    assert repr(folder) == f"<DataFolder {str(tmp_path / 'data')!r}>"


def secret_of(path: Path, barrier: object, answers: object) -> None:
    barrier.wait(10)  # type: ignore[attr-defined]
    answers.put(open_folder(path).secret)  # type: ignore[attr-defined]


def test_of_processes_racing_for_a_new_folder_all_get_one_secret(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    children = [
        context.Process(target=secret_of, args=(tmp_path / "data", barrier, answers)) for _ in range(4)
    ]
    for child in children:
        child.start()
    secrets = {answers.get(timeout=10) for _ in children}
    for child in children:
        child.join(10)
    assert secrets == {open_folder(tmp_path / "data").secret}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret"]


def test_a_process_that_loses_the_race_takes_the_winner_s_secret(tmp_path: Path) -> None:
    path = tmp_path / "data"

    def random_bytes(count: int) -> bytes:
        if not (path / "secret").exists():
            open_folder(path)  # the winner, between our look and our link
        return bytes(count)

    loser = open_folder(path, random_bytes=random_bytes)
    assert loser.secret == open_folder(path).secret != bytes(SECRET_BYTES)


def test_a_folder_that_is_not_there_is_made_only_when_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="there is no folder"):
        open_folder(tmp_path / "data", may_create=False)
    assert not (tmp_path / "data").exists()
    open_folder(tmp_path / "deep" / "data")
    assert open_folder(tmp_path / "deep" / "data", may_create=False)


def test_a_folder_that_no_dispatcher_used_is_left_alone_when_looking(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="not a data folder"):
        open_folder(tmp_path, may_create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("may_create", [True, False])
def test_a_journal_whose_registry_is_gone_is_not_left_to_a_new_one(tmp_path: Path, may_create: bool) -> None:
    folder = open_folder(tmp_path / "data")
    (folder.path / "journal").mkdir()
    (folder.path / "journal" / "00000001.seg").touch()
    with pytest.raises(DataFolderError, match=r"registry.sqlite is missing.*move .*journal away"):
        open_folder(folder.path, may_create=may_create)
    folder.registry_path.touch()
    assert open_folder(folder.path, may_create=may_create).secret == folder.secret


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataFolderError, match="data is not a folder"):
        open_folder(tmp_path / "data")
    with pytest.raises(DataFolderError, match="Not a directory"):
        open_folder(tmp_path / "data" / "deeper")


@pytest.mark.parametrize("loose", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_others_may_write_to_is_refused(tmp_path: Path, loose: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(loose)
    with pytest.raises(DataFolderError, match="chmod 700"):
        open_folder(path)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("size", [0, SECRET_BYTES - 1, SECRET_BYTES + 1])
def test_a_secret_of_another_size_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    path = open_folder(tmp_path / "data").path / "secret"
    path.write_bytes(b"x" * size)
    with pytest.raises(DataFolderError, match=f"has {size} bytes instead of 32; restore it"):
        open_folder(tmp_path / "data")
    assert path.stat().st_size == size


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620])
def test_a_secret_open_to_others_is_refused(tmp_path: Path, loose: int) -> None:
    path = open_folder(tmp_path / "data").path / "secret"
    path.chmod(loose)
    with pytest.raises(DataFolderError, match="chmod 600"):
        open_folder(tmp_path / "data")


def test_a_lost_secret_beside_a_registry_is_not_made_anew(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    folder.make_private(folder.registry_path)
    (folder.path / "secret").unlink()
    with pytest.raises(DataFolderError, match=r"secret is missing.*restore it from a backup"):
        open_folder(folder.path)
    assert not (folder.path / "secret").exists()


def test_a_file_open_to_others_is_tightened_and_keeps_its_bytes(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    folder.registry_path.write_bytes(b"restored")
    folder.registry_path.chmod(0o644)
    folder.make_private(folder.registry_path)
    assert mode(folder.registry_path) == 0o600
    assert folder.registry_path.read_bytes() == b"restored"


@pytest.mark.parametrize(("user", "is_given"), [(0, True), (1000, False)])
def test_root_gives_what_it_makes_to_the_owner_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, is_given: bool
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    folder = open_folder(tmp_path / "data")
    folder.make_private(folder.registry_path)
    owner = folder.path.stat()
    assert given == ([(owner.st_uid, owner.st_gid)] * 2 if is_given else [])
    given.clear()
    folder.make_private(folder.registry_path)  # there already: it stays whose it is
    assert given == []


def test_a_link_in_a_file_s_place_is_not_followed(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    target = tmp_path / "elsewhere"
    target.write_text("x")
    target.chmod(0o644)
    folder.registry_path.symlink_to(target)
    with pytest.raises(DataFolderError, match=r"registry\.sqlite"):
        folder.make_private(folder.registry_path)
    assert mode(target) == 0o644


def test_a_second_daemon_is_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    first, second = open_folder(tmp_path / "data"), open_folder(tmp_path / "data")
    holder = f"in use by process {os.getpid()}; stop"
    with first.locked(), pytest.raises(DataFolderError, match=holder), second.locked():
        pytest.fail("two hold the lock")
    with second.locked():
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def hold() -> None:
        with folder.locked():
            theirs.send("held")
            theirs.recv()

    child = context.Process(target=hold)
    child.start()
    assert ours.recv() == "held"
    with pytest.raises(DataFolderError, match=f"process {child.pid}"), folder.locked():
        pytest.fail("two hold the lock")
    child.kill()
    child.join(10)
    with folder.locked():
        assert (folder.path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_without_a_readable_pid_is_refused_all_the_same(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    with folder.locked():
        (folder.path / "lock").write_bytes(b"\xff")
        with pytest.raises(DataFolderError, match="in use by another process"), folder.locked():
            pytest.fail("two hold the lock")
