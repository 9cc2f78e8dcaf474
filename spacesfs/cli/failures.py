"""What a failure is to the user: one line and an exit status."""

from __future__ import annotations

from typing import NamedTuple

import click

from spacesfs.client.credentials import CredentialsError
from spacesfs.client.endpoint import EndpointError
from spacesfs.client.errors import SpacesError
from spacesfs.errors import MountError

_FAILED, _WRONG_USAGE = 1, 2


class Failure(NamedTuple):
    """How a command ends that could not do its work."""

    message: str
    exit_status: int


def explain(error: Exception) -> Failure:
    """Return the line that says what is wrong and what to do, and the exit status."""
    if isinstance(error, click.UsageError):
        return _explain_usage(error)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), error.exit_code)
    if isinstance(error, MountError | SpacesError | CredentialsError | EndpointError):
        return Failure(str(error), _FAILED)
    if isinstance(error, OSError) and error.strerror:
        return Failure(f"{error.filename}: {error.strerror}" if error.filename else error.strerror, _FAILED)
    return Failure(f"unexpected {type(error).__name__}: {error}; please report this", _FAILED)


def _explain_usage(error: click.UsageError) -> Failure:
    command = error.ctx.command_path if error.ctx else "spacesfs"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Failure(f"a command is missing; see: {command} --help", _WRONG_USAGE)
    return Failure(f"{error.format_message().rstrip('.')}; see: {command} --help", _WRONG_USAGE)
