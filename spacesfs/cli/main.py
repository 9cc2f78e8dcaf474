"""The ``spacesfs`` command: finds the command asked for, and makes one line and an exit status of whatever goes wrong.

Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Commands are imported when they are called, so that
``spacesfs status`` need not wait for what only a mount needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from spacesfs import __version__
from spacesfs.cli.failures import explain
from spacesfs.cli.output import complain

_COMMANDS = {
    "mount": "spacesfs.cli.mount:mount",
    "umount": "spacesfs.cli.umount:umount",
    "install-unit": "spacesfs.cli.unit:install_unit",
    "list": "spacesfs.cli.inspect:list_mounts",
    "status": "spacesfs.cli.inspect:status",
    "sync": "spacesfs.cli.sync:sync",
    "refresh": "spacesfs.cli.refresh:refresh",
    "set": "spacesfs.cli.change:set_options",
    "drop-cache": "spacesfs.cli.live:drop_cache",
    "warm": "spacesfs.cli.live:warm",
    "pending": "spacesfs.cli.pending:pending",
    "config": "spacesfs.cli.settings:config",
    "demo": "spacesfs.cli.demo:demo",
    "ls": "spacesfs.cli.remote:ls",
    "stat": "spacesfs.cli.remote:stat",
    "cat": "spacesfs.cli.remote:cat",
    "put": "spacesfs.cli.transfer:put",
    "get": "spacesfs.cli.transfer:get",
    "cp": "spacesfs.cli.transfer:cp",
    "mv": "spacesfs.cli.transfer:mv",
    "rm": "spacesfs.cli.remote:rm",
    "du": "spacesfs.cli.remote:du",
    "acl": "spacesfs.cli.sharing:acl",
    "share": "spacesfs.cli.sharing:share",
    "buckets": "spacesfs.cli.buckets:buckets",
    "uploads": "spacesfs.cli.uploads:uploads",
    "cdn": "spacesfs.cli.cdn:cdn",
    "doctor": "spacesfs.cli.doctor:doctor",
    "version": "spacesfs.cli.version:show_version",
}
_INTERRUPTED = 130  # as shells say it: 128 + SIGINT


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return all commands, in the order of everyday use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import one command, or return None for an unknown name."""
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
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where whatever is left becomes a line
        failure = explain(error)
        complain(failure.message)
        _give_up_output()
        return failure.exit_status
    return status if isinstance(status, int) else 0


def _give_up_output() -> None:
    """Leave nothing for the interpreter to write at its end, should the reader be gone or the disk be full."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
