"""``spacesfs refresh``: forget what is known of names, so that another host's changes are seen at once."""

from __future__ import annotations

import click

from spacesfs.cli.client import refresh_mount, serving
from spacesfs.cli.paths import complete_path, relative_path, resolved
from spacesfs.errors import MountError


@click.command()
@click.argument("path", shell_complete=complete_path)
def refresh(path: str) -> None:
    """See what other hosts have changed at and below PATH in a mount now, and not when metadata-ttl is over."""
    full = resolved(path)
    mountpoint, control = serving(full)
    if not refresh_mount(control, relative_path(full, mountpoint)):
        raise MountError(f"the kernel is busy with {full}: some of it may be seen as it was until metadata-ttl is over")
