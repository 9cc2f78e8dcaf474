"""``mount -o`` and ``mount.spacesfs``, which mount(8) calls for a line of fstab and systemd for its ``.mount`` units.

``-o`` holds our options under their names in the configuration file (``memory=256M``; ``_`` may stand for ``-``), among
those that concern mount(8) and systemd alone. The keys can't stand there, and what boots a machine has no environment:
so a file of assignments is read, the one that the systemd unit has too.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from spacesfs.cli.layers import FlagError
from spacesfs.config import OPTIONS
from spacesfs.errors import MountError

ENVIRONMENT_FOLDER = Path("/etc/spacesfs")
ENVIRONMENT_FILE = "environment-file"

_PARTS = re.compile(r'(?:[^,"]|"[^"]*")+')
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_BY_KEY = {option.key: option for option in OPTIONS.values()}
_OF_OTHERS = frozenset(
    (
        *("defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail"),
        *("rw", "async", "suid", "nosuid", "dev", "nodev", "exec", "silent", "loud"),
        *("atime", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime"),
    )
)
"""Words for mount(8) and systemd, and those that say what is so anyway; set-user-id bits and devices never work."""

_MOUNT_8_USAGE, _MOUNT_8_FAILED = 1, 32  # mount(8), "Exit status"


class Written(NamedTuple):
    """What ``-o`` says: options by field name, and the file with assignments, if one is named."""

    flags: Mapping[str, object]
    environment_file: Path | None


def parse_mount_options(texts: Iterable[str], *, is_sloppy: bool = False) -> Written:
    """Return what ``-o`` holds.

    Args:
        texts: What stood behind each ``-o``; a value with a comma stands in double quotes.
        is_sloppy: Leave out what is not known, as mount(8) wants with ``-s``.

    Raises:
        FlagError: An option is not known, or lacks its value.
    """
    flags: dict[str, object] = {}
    file = None
    for part in (part.strip() for text in texts for part in _PARTS.findall(text)):
        name, has_value, value = part.partition("=")
        value = value.strip('"')
        key = name.replace("_", "-")
        if name in _OF_OTHERS or name.startswith(("x-", "X-", "comment")):
            continue
        if name == "ro":
            flags["read_only"] = True
        elif name == "remount":
            raise FlagError("a Space can't be remounted; `spacesfs set` changes what can be changed")
        elif key == ENVIRONMENT_FILE and has_value:
            file = Path(value)
        elif key in _BY_KEY:
            flags[_BY_KEY[key].name] = _value(key, value if has_value else None)
        elif not is_sloppy:
            raise FlagError(f"-o: unknown option {name}{_suggestion(key)}")
    return Written(flags, file)


def _value(key: str, value: str | None) -> object:
    if value is not None:
        return value
    if not _BY_KEY[key].is_switch:
        raise FlagError(f"-o: {key} wants a value: {key}={_BY_KEY[key].metavar}")
    return True


def _suggestion(key: str) -> str:
    nearest = get_close_matches(key, [*_BY_KEY, ENVIRONMENT_FILE], n=1)
    return f"; did you mean {nearest[0]}?" if nearest else "; `spacesfs mount --help` lists them, without the dashes"


def environment_file_of(bucket: str) -> Path | None:
    """Return the file that the systemd unit of a bucket has, if there is one and we may look."""
    file = ENVIRONMENT_FOLDER / f"{bucket}.env"
    try:
        return file if os.geteuid() == 0 and file.exists() else None
    except OSError:
        return None


def read_environment_file(path: Path) -> dict[str, str]:
    """Return the assignments in a file, written as systemd's ``EnvironmentFile=`` wants them: ``NAME=value``.

    Raises:
        MountError: It can't be read, others can read it, or a line is no assignment.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise MountError(f"{path} holds keys and others can read it; run: chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MountError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        name, separator, value = line.strip().partition("=")
        if not separator or _NAME.fullmatch(name) is None:
            raise MountError(f"{path}, line {number}: write NAME=value")
        found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:  # an open quotation; systemd takes it as it stands too
        return value
    return words[0] if len(words) == 1 else value


def main() -> None:
    """Be ``mount.spacesfs SPACE MOUNTPOINT [-fnrsvw] [-o OPTIONS]``, and end with a status that mount(8) knows."""
    from spacesfs.cli.main import main as spacesfs  # noqa: PLC0415 - it imports commands, one of which imports this

    status = spacesfs(["mount", *_for_mount(sys.argv[1:])])
    sys.exit({0: 0, 2: _MOUNT_8_USAGE}.get(status, _MOUNT_8_FAILED))


def _for_mount(arguments: list[str]) -> list[str]:
    """Return the arguments of ``spacesfs mount`` that mean the same as mount(8)'s to its helpers."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in ("-o", "-t", "-N"):
            value = next(rest, "")
            words += ["-o", value] if word == "-o" else []
        elif re.fullmatch(r"-[fnrsvw]+", word):
            words += ["--check"] * ("f" in word) + ["--sloppy"] * ("s" in word) + ["--read-only"] * ("r" in word)
        else:
            words.append(word)
    return words
