"""The state folder of a mount: one for each Space and prefix, held by one process at a time.

Below ``--state-dir`` each identity has a folder named by a hash of it::

    lock                 held (flock) by whoever adds or looks through folders
    5f0c1e.../
        identity.json    which Space and prefix; for people, and for those who look through all folders
        lock             held by the mount; says who that is and what it does
        journal.db       (spacesfs.pending.journal)
        staged/          contents too large for the journal
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from spacesfs.errors import MountError

_POLL_SECONDS = 0.2
_NAME_LENGTH = 20  # hexadecimal digits of the hash: 80 bits
_VOLATILE = frozenset(("tmpfs", "ramfs", "rootfs", "devtmpfs"))
_LEAVING_SECONDS = 3.0  # from the end of a mount to the end of its note that it serves
SERVING = "mounted on"
"""How the note of a process begins that will not let go by itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a journal belongs to: the endpoint's URL, the bucket, and a prefix that is empty or ends in ``/``."""

    endpoint: str
    bucket: str
    prefix: str

    @property
    def space(self) -> str:
        """The Space as a command line has it."""
        return f"{self.bucket}:{self.prefix.rstrip('/')}" if self.prefix else self.bucket

    def overlaps(self, other: Identity) -> bool:
        """Say whether some key belongs to both, and they are not the same."""
        return (
            self != other
            and (self.endpoint, self.bucket) == (other.endpoint, other.bucket)
            and (self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix))
        )


class Unfinished(NamedTuple):
    """A journal with changes that are not in the Space: how many, or None when it can't be read."""

    identity: Identity
    pending: int | None


class StateFolder:
    """The folder of one identity, held by this process until ``release``. A child of the process would hold it too."""

    def __init__(self, path: Path, identity: Identity, lock: int) -> None:
        self.path = path
        self.staged = path / "staged"
        self.identity = identity
        self._lock = lock

    @classmethod
    def claim(
        cls,
        state_dir: Path,
        identity: Identity,
        on_wait: Callable[[str], None],
        timeout_seconds: float | None,
    ) -> StateFolder:
        """Take the folder of an identity, made if need be; wait for a process that has it, until it lets go or dies.

        Blocks; Ctrl-C ends it.

        Args:
            state_dir: Below which all identities have their folders; made if need be.
            identity: Whose folder.
            on_wait: Told once, in one line, who is waited for.
            timeout_seconds: Of the waiting; None: as long as it takes.

        Raises:
            MountError: A mount has it and serves, another mount or an unfinished journal overlaps, it took too long, or
                the disk is in the way.
        """
        try:
            return cls._claim(state_dir, identity, on_wait, timeout_seconds)
        except OSError as error:
            raise MountError(f"can't use the state folder {state_dir}: {error.strerror}") from error

    @classmethod
    def _claim(
        cls, state_dir: Path, identity: Identity, on_wait: Callable[[str], None], timeout_seconds: float | None
    ) -> StateFolder:
        _make_private(state_dir)
        path = state_dir / _name_of(identity)
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        is_told = False
        serving_since: float | None = None
        while True:
            with _folders_held_still(state_dir):
                _refuse_overlap(state_dir, identity)
                _make_private(path)
                _make_private(path / "staged")
                lock = _try_lock(path)
                if lock is not None:
                    _write_identity(path, identity)
                    folder = cls(path, identity, lock)
                    folder.note("starting")
                    return folder
                holder = _holder(path)
            if f"({SERVING} " in holder:
                serving_since = serving_since or time.monotonic()
                if time.monotonic() >= serving_since + _LEAVING_SECONDS:
                    raise MountError(f"{identity.space} is in use by {holder}; use that mount, or unmount it first")
            elif not is_told:
                on_wait(f"waiting for {identity.space}, held by {holder}")
                is_told = True
            if deadline is not None and time.monotonic() >= deadline:
                raise MountError(f"{identity.space} is still held by {holder}; wait for it, or end it")
            time.sleep(_POLL_SECONDS)

    def note(self, doing: str) -> None:
        """Say, for those who wait, what this process does; one line."""
        line = f"process {os.getpid()} ({doing})\n".encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, line, 0)

    def release(self) -> None:
        """Let go of the folder. May be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def unfinished(state_dir: Path) -> list[Unfinished]:
    """Return the journals below a state folder that hold changes, without locking and thus of this moment only."""
    found = []
    for path, identity in folders(state_dir):
        pending = pending_in(path)
        if pending != 0:
            found.append(Unfinished(identity, pending))
    return found


def folders(state_dir: Path) -> Iterator[tuple[Path, Identity]]:
    """Yield all folders below a state folder, and whose they are."""
    for file in sorted(state_dir.glob("*/identity.json")):
        try:
            fields = json.loads(file.read_bytes())
            identity = Identity(str(fields["endpoint"]), str(fields["bucket"]), str(fields["prefix"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours, or of a claim that a crash cut short: nothing was journaled there
        yield file.parent, identity


def pending_in(path: Path) -> int | None:
    """Return how many intents and open uploads a journal holds; None if it can't be read."""
    file = path / "journal.db"
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            select = "SELECT (SELECT count(*) FROM intents) + (SELECT count(*) FROM uploads)"
            return int(connection.execute(select).fetchone()[0])
    except sqlite3.Error:
        return None


def is_volatile(path: Path) -> bool:
    """Say whether what is written to a path is gone after a reboot; if it isn't there, the folder above counts."""
    return filesystem_of(path) in _VOLATILE


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that a path is on, as the kernel names it; empty if it does not tell."""
    while not path.exists() and path != path.parent:
        path = path.parent
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")  # proc(5): "36 35 98:0 /root /mountpoint options - type source ..."
        if fields.split()[2] == wanted:
            return rest.split()[0]
    return ""


def _name_of(identity: Identity) -> str:
    text = json.dumps([identity.endpoint, identity.bucket, identity.prefix])
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME_LENGTH]


def _make_private(path: Path) -> None:
    """Make a folder that is ours alone; one that is there is left as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _folders_held_still(state_dir: Path) -> Iterator[None]:
    """Keep others from claiming meanwhile; nobody holds this for more than a moment."""
    lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _is_held(path: Path) -> bool:
    if not (path / "lock").exists():
        return False
    lock = _try_lock(path)
    if lock is None:
        return True
    os.close(lock)
    return False


def _holder(path: Path) -> str:
    return (path / "lock").read_text(errors="replace").strip() or "another process"


def _refuse_overlap(state_dir: Path, identity: Identity) -> None:
    for path, other in folders(state_dir):
        if not identity.overlaps(other):
            continue
        if _is_held(path):
            raise MountError(
                f"{identity.space} overlaps {other.space}, which is in use by {_holder(path)}: unmount that first"
            )
        if pending_in(path) != 0:
            raise MountError(
                f"{identity.space} overlaps {other.space}, which has changes that are not in the Space yet: "
                f"run `spacesfs sync {other.space}` first"
            )


def _write_identity(path: Path, identity: Identity) -> None:
    file = path / "identity.json"
    text = json.dumps(asdict(identity), indent=2) + "\n"
    if file.exists() and file.read_text(errors="replace") == text:
        return
    temporary = path / "identity.json.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
