"""``spacesfs set``: change options of a running mount without a remount."""

from __future__ import annotations

import click

from spacesfs.cli.client import ask_change, serving
from spacesfs.cli.layers import Collected, Given
from spacesfs.cli.options import changeable_options
from spacesfs.cli.paths import complete_path, resolved
from spacesfs.config import CHANGEABLE, OPTIONS, Options
from spacesfs.fuse.messages import Change

_FLAGS = [OPTIONS[name].flag for name in CHANGEABLE]


@click.command(name="set")
@click.argument("mountpoint", shell_complete=complete_path)
@changeable_options
def set_options(mountpoint: str, **flags: str | None) -> None:
    """Change options of the running mount on MOUNTPOINT. They hold until it ends."""
    given = {name: value for name, value in flags.items() if value is not None}
    for name in given:
        if name not in CHANGEABLE:
            flag = OPTIONS[name].flag
            reason = f"{flag} can't change while a mount serves; unmount it, and mount it again with {flag}"
            raise click.UsageError(reason, click.get_current_context())
    if not given:
        choice = f"{', '.join(_FLAGS[:-1])} or {_FLAGS[-1]}"
        raise click.UsageError(f"say what to set: {choice}", click.get_current_context())
    options = Collected({name: Given(value, OPTIONS[name].flag) for name, value in given.items()}).check(Options)
    _, control = serving(resolved(mountpoint))
    ask_change(control, Change(**{name: getattr(options, name) for name in given}))
