"""Command line options made from the fields of the configuration, and what mounts are named by."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from spacesfs.config import OPTIONS, Option

Command = Callable[..., Any]


def mount_options(command: Command) -> Command:
    """Give ``command`` a flag for every option; each arrives as text, or as None when not given."""
    for option in reversed(list(OPTIONS.values())):
        command = _click_option(option)(command)
    return command


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


def resolved(path: str) -> Path:
    """Return ``path`` absolute and without symbolic links, whether it exists or not."""
    return Path(os.path.realpath(path))


def _click_option(option: Option) -> Callable[[Command], Command]:
    default = option.write(option.field.get_default(call_default_factory=True))
    if option.is_switch:
        return click.option(f"{option.flag}/--no-{option.key}", option.name, default=None, help=option.help)
    shown = f"{option.help}  [default: {default}]" if default else option.help
    return click.option(option.flag, option.name, metavar=option.metavar, help=shown)
