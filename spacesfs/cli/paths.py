"""What users name on the command line: places, and Spaces."""

from __future__ import annotations

import os
from pathlib import Path

import click


def resolved(path: str) -> Path:
    """Return ``path`` absolute and without symbolic links, whether it exists or not."""
    return Path(os.path.realpath(path))


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
