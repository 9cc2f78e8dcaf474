"""``spacesfs sync``: wait until changes are in the Space."""

from __future__ import annotations

from pathlib import Path

import click

from spacesfs.cli.client import all_statuses, serving, sync_steps
from spacesfs.cli.paths import resolved
from spacesfs.cli.progress import show_sync
from spacesfs.errors import MountError
from spacesfs.fuse.sockets import find_socket


@click.command()
@click.argument("path", required=False)
def sync(path: str | None) -> None:
    """Bring all changes at and below PATH to the Space, and wait for it; without PATH those of all your mounts."""
    if path is not None:
        full = resolved(path)
        mountpoint, control = serving(full)
        relative = str(full.relative_to(mountpoint))
        show_sync(sync_steps(control, None if relative == "." else relative), str(full))
        return
    mountpoints = [status.mountpoint for status in all_statuses()]
    if not mountpoints:
        raise MountError("no Space is mounted; nothing to sync")
    for mountpoint_name in mountpoints:
        if (control_of := find_socket(Path(mountpoint_name))) is not None:
            show_sync(sync_steps(control_of, None), mountpoint_name)
