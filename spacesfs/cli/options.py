"""Command line options, made from the fields of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from spacesfs.config import CHANGEABLE, OPTIONS, Option

Command = Callable[..., Any]

_WAY_TO_A_SPACE = ("endpoint", "region", "profile", "credential_command", "timeout", "allow_insecure", "ca_bundle")


_OF_A_JOURNAL = ("region", "profile", "credential_command", "state_dir", "timeout", "allow_insecure", "ca_bundle")


def mount_options(command: Command) -> Command:
    """Give ``command`` a flag for every option; each arrives as text, or as None when not given."""
    for option in reversed(list(OPTIONS.values())):
        command = _click_option(option)(command)
    return command


def space_options(command: Command) -> Command:
    """Give ``command`` the flags that lead to a Space; they arrive as those of `mount_options`."""
    for name in reversed(_WAY_TO_A_SPACE):
        command = _click_option(OPTIONS[name])(command)
    return command


def changeable_options(command: Command) -> Command:
    """Give ``command`` a flag for each option, as `mount_options`; help shows what can change while a mount serves."""
    for option in reversed(list(OPTIONS.values())):
        is_shown = option.name in CHANGEABLE
        if option.is_switch:
            parameter = click.option(f"{option.flag}/--no-{option.key}", option.name, default=None, hidden=not is_shown)
        else:
            parameter = click.option(
                option.flag, option.name, metavar=option.metavar, help=option.help, hidden=not is_shown
            )
        command = parameter(command)
    return command


def journal_options(command: Command) -> Command:
    """Give ``command`` the flags of what is needed to reach a Space whose journal says where it is."""
    for name in reversed(_OF_A_JOURNAL):
        command = _click_option(OPTIONS[name])(command)
    return command


def journal_parameters() -> list[click.Parameter]:
    """Return the same flags, for a command that exists already."""

    @journal_options
    def nothing() -> None:
        """Carry the flags."""

    return click.command()(nothing).params


def _click_option(option: Option) -> Callable[[Command], Command]:
    default = option.write(option.field.get_default(call_default_factory=True))
    if option.is_switch:
        return click.option(f"{option.flag}/--no-{option.key}", option.name, default=None, help=option.help)
    shown = f"{option.help}  [default: {default}]" if default else option.help
    return click.option(option.flag, option.name, metavar=option.metavar, help=shown)
