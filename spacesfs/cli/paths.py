"""What users name on the command line: places, and Spaces."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from spacesfs.fuse.mountpoint import mount_around

_SPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9](:.*)?")


def resolved(path: str) -> Path:
    """Return ``path`` absolute and without symbolic links, whether it exists or not."""
    return Path(os.path.realpath(path))


def relative_path(path: Path, mountpoint: Path) -> str:
    """Return a path inside a mount as the mount knows it: relative to its root, which is ""."""
    relative = str(path.relative_to(mountpoint))
    return "" if relative == "." else relative


def complete_path(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """Let the shell complete a path; what is in a Space would take a server to tell, at each key that is pressed."""
    return [CompletionItem(incomplete, type="file")]


def split_space(space: str) -> tuple[str, str]:
    """Return bucket and prefix of ``BUCKET[:PREFIX]``; the prefix is empty or ends in ``/``.

    Raises:
        click.BadParameter: The prefix is no path.
    """
    bucket, _, prefix = space.partition(":")
    prefix = prefix.strip("/")
    if prefix and any(segment in ("", ".", "..") for segment in prefix.split("/")):
        raise click.BadParameter(f'"{prefix}" is not a prefix; write it like some/folder')
    return bucket, f"{prefix}/" if prefix else ""


def names_space(text: str) -> bool:
    """Say whether an argument names a Space rather than a path; what is there in a mount is a path."""
    if _SPACE.fullmatch(text) is None:
        return False
    mount = mount_around(resolved(text))
    return mount is None or not mount.is_ours or not os.path.lexists(text)
