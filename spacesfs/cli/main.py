"""The ``spacesfs`` command: finds the command asked for, and makes one line and an exit status of whatever goes wrong.

Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Commands are imported when they are called, so that
``spacesfs status`` need not wait for what only a mount needs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from spacesfs import __version__
from spacesfs.cli.output import complain

_COMMANDS = {
    "mount": "spacesfs.cli.mount:mount",
    "umount": "spacesfs.cli.umount:umount",
    "list": "spacesfs.cli.inspect:list_mounts",
    "status": "spacesfs.cli.inspect:status",
    "sync": "spacesfs.cli.sync:sync",
    "config": "spacesfs.cli.settings:config",
    "demo": "spacesfs.cli.demo:demo",
}
_INTERRUPTED = 130  # as shells say it: 128 + SIGINT


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="spacesfs %(version)s")
def cli() -> None:
    """Mount a DigitalOcean Space as an ordinary directory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    try:
        status = cli.main(args=arguments, prog_name="spacesfs", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the one place where whatever is left becomes a line
        message, exit_status = explain(error)
        complain(message)
        return exit_status
    return status if isinstance(status, int) else 0


def explain(error: Exception) -> tuple[str, int]:
    """Return the line and the exit status that ``error`` ends a command with."""
    from spacesfs.errors import MountError  # noqa: PLC0415 - `--version` and `--help` need none of them

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"a command is missing; see: {error.ctx.command_path} --help", 2
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "spacesfs"
        return f"{error.format_message().rstrip('.')}; see: {command} --help", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, MountError):
        return str(error), 1
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), 1
    logging.getLogger(__name__).debug("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}; please report this", 1
