"""The data folder: who may read it, who holds it, and the server's secret.

    registry.sqlite   what exists (and its -wal and -shm while it is open)
    journal/          what is queued, for the channels that the registry knows
    secret            the key of the digests that are kept of access keys
    lock              held by the one daemon that serves this folder
    control.sock      where that daemon listens for pokes

Everything in it is readable by its owner alone.  Several processes may open the
folder at once; only a daemon takes the lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatcher.errors import DataFolderError

JOURNAL_FOLDER = "journal"
MANIFEST_NAME = "backup.json"  # a folder with this file is a backup, see backup.py
SECRET_BYTES = 32  # as long as the digests it keys
_PRIVATE = 0o600
_OPEN_TO_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022


class DataFolder:
    """A folder that was found fit for use, and its secret."""

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        self.secret = secret

    def __repr__(self) -> str:
        return f"<DataFolder {str(self.path)!r}>"

    @property
    def registry_path(self) -> Path:
        """The SQLite file."""
        return self.path / "registry.sqlite"

    @property
    def control_path(self) -> Path:
        """The daemon's control socket."""
        return self.path / "control.sock"

    def make_private(self, path: Path) -> None:
        """Make a file of this folder, empty, if it is not there; readable by the owner alone either way."""
        with _errors_in_words(path):
            os.close(_open_private(path))
            sync_folder(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder as its only daemon; the kernel lets go when the process ends, however it ends.

        Raises ``DataFolderError`` that names the process holding it.
        """
        path = self.path / "lock"
        with _errors_in_words(path):
            lock = _open_private(path)
        try:
            _take(lock, self.path)
            yield
        finally:
            os.close(lock)


def open_folder(
    path: Path, *, may_create: bool = True, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> DataFolder:
    """Find or make a data folder and its secret.

    Blocks for a few disk operations.  Raises ``DataFolderError``, also when the
    folder is not there and ``may_create`` is False.
    """
    with _errors_in_words(path):
        if not path.exists():
            if not may_create:
                raise DataFolderError(f"there is no folder {path}; name a data folder with --data")
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(path.parent)
        if not path.is_dir():
            raise DataFolderError(f"{path} is not a folder; name a data folder with --data")
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise DataFolderError(
                f"{path}: others may write to it; chmod 700 it, or name a new folder inside it"
            )
        if (path / MANIFEST_NAME).exists():
            raise DataFolderError(
                f"{path} is a backup, which is not served itself: "
                f"'dispatcher restore --from {path} --data DIR' makes a data folder of it"
            )
        _check_registry(path)
        return DataFolder(path, _find_secret(path, may_create, random_bytes))


def _check_registry(folder: Path) -> None:
    """A new registry would know none of the channels, and what is queued for them would go unnamed."""
    registry = folder / "registry.sqlite"
    if any((folder / JOURNAL_FOLDER).glob("*.seg")) and not registry.exists():
        raise DataFolderError(
            f"{registry} is missing, and the journal beside it is of channels that it alone knows: "
            f"restore it from a backup, or move {folder / JOURNAL_FOLDER} away to start anew"
        )


def _find_secret(folder: Path, may_create: bool, random_bytes: Callable[[int], bytes]) -> bytes:
    path = folder / "secret"
    if not path.exists():
        # In this order: another process may make both between the two looks.
        has_registry = (folder / "registry.sqlite").exists()
        if has_registry and not path.exists():
            raise DataFolderError(
                f"{path} is missing, and without it no key of the registry beside it can work: "
                "restore it from a backup, or move registry.sqlite away to start anew"
            )
        if not has_registry and not may_create:
            raise DataFolderError(f"{folder} is not a data folder: no dispatcher has used it yet")
        _make_secret(path, random_bytes)
    return _read_secret(path)


def _make_secret(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    """Make the secret, whole and on disk, unless another process is faster.

    Written under another name and then linked, so that a reader never finds half of it.
    """
    draft = path.with_name(f"secret.{random_bytes(8).hex()}")
    descriptor = create_private(draft)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(random_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # the other's secret is as good
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _read_secret(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_mode & _OPEN_TO_OTHERS:
        raise DataFolderError(f"{path}: others may read it; chmod 600 it, and make new keys if others did")
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise DataFolderError(
            f"{path} has {len(secret)} bytes instead of {SECRET_BYTES}; restore it from a backup: "
            "with another secret no key works"
        )
    return secret


def create_private(path: Path) -> int:
    """Make a file that its owner alone may read.  Raises ``FileExistsError``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    if os.geteuid() == 0:
        # The command line, run by root on a service's folder: the service has to read the file.
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _open_private(path: Path) -> int:
    """Open a file, made if it is not there, and see to it that its owner alone may read it."""
    try:
        return create_private(path)
    except FileExistsError:
        pass
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    if os.fstat(descriptor).st_mode & _OPEN_TO_OTHERS:
        os.fchmod(descriptor, _PRIVATE)
    return descriptor


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        holder = f"process {pid}" if pid.isdigit() else "another process"
        raise DataFolderError(
            f"{folder} is in use by {holder}; stop that dispatcher first, or name another data folder"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataFolderError(
            f"{error.filename or path}: {error.strerror}; name a data folder that this user may use"
        ) from error
