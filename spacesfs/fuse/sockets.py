"""Where the control sockets of all mounts are, and how to find the one of a mountpoint.

A socket's name is made of its mountpoint, so a client need not ask anybody. Sockets lie in a folder of the user alone.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from spacesfs.errors import MountError

_ROOT_DIRECTORY = Path("/run/spacesfs")
_SUFFIX = ".sock"


def runtime_directory() -> Path:
    """Return where this user's mounts put their sockets; the folder may not exist yet."""
    return _directories_of_user()[0]


def control_socket_path(mountpoint: Path) -> Path:
    """Return where the mount on ``mountpoint`` (absolute, links resolved) listens."""
    return runtime_directory() / _socket_name(mountpoint)


def find_socket(mountpoint: Path) -> Path | None:
    """Return the live socket of the mount on ``mountpoint``, or None when nothing serves it that we may ask."""
    paths = (directory / _socket_name(mountpoint) for directory in _search_directories())
    return next((path for path in paths if is_answering(path)), None)


def live_sockets() -> Iterator[Path]:
    """Yield the sockets of all mounts that we may ask; remove those that dead mounts of ours left."""
    for directory in _search_directories():
        try:
            paths = sorted(directory.glob(f"*{_SUFFIX}"))
        except OSError:
            continue
        for path in paths:
            if is_answering(path):
                yield path
            elif _is_ours(path):
                path.unlink(missing_ok=True)


def is_answering(path: Path) -> bool:
    """Tell whether a process listens there: also one too busy to accept, but not one that we may not ask."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def listen(path: Path) -> socket.socket:
    """Return a listening socket at ``path``, for its owner alone. It takes its name only when it already listens.

    Raises:
        MountError: The folder is not ours alone, a process listens there already, or the file system refuses.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path.parent)
        if is_answering(path):
            raise MountError("an earlier mount is still at work there; wait until `spacesfs list` shows it no more")
        return _bind(path)
    except OSError as error:
        raise MountError(f"the control socket {path} can't be made: {error.strerror or error}") from error


def _bind(path: Path) -> socket.socket:
    unnamed = path.with_suffix(f".{os.getpid()}")
    unnamed.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(unnamed))
        unnamed.chmod(0o600)
        listener.listen()
        unnamed.rename(path)
    except OSError:
        listener.close()
        raise
    return listener


def _check_private(directory: Path) -> None:
    facts = directory.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise MountError(f"{directory} must be a folder of yours alone; remove it, or run: chmod 700 {directory}")


def _is_ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid() == path.parent.stat().st_uid
    except OSError:
        return False


def _socket_name(mountpoint: Path) -> str:
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16] + _SUFFIX


def _directories_of_user() -> list[Path]:
    """Return this user's folders for sockets, best first: later ones serve logins without ``XDG_RUNTIME_DIR``."""
    if os.geteuid() == 0:
        return [_ROOT_DIRECTORY]
    named, by_user = Path(os.environ.get("XDG_RUNTIME_DIR", "")), Path(f"/run/user/{os.geteuid()}")
    runtime = [base / "spacesfs" for base in dict.fromkeys((named, by_user)) if base.is_absolute() and base.is_dir()]
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = state if state.is_absolute() else Path(os.path.expanduser("~")) / ".local/state"
    return [*runtime, state / "spacesfs" / "run"]


def _search_directories() -> list[Path]:
    """Return where clients look; root may ask every user's mounts."""
    others = sorted(Path("/run/user").glob("*/spacesfs")) if os.geteuid() == 0 else []
    return [*_directories_of_user(), *others]
