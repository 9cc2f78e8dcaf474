"""``spacesfs umount``: everything to the Space first, then the mount goes, then its process."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

import click

from spacesfs.cli.client import MountGone, ask_status, daemon_pid, serving, sync_steps
from spacesfs.cli.output import say
from spacesfs.cli.paths import complete_path, resolved
from spacesfs.cli.progress import show_sync
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import mounted_at, recover_stale_mount, unmount


@click.command()
@click.argument("mountpoint", shell_complete=complete_path)
def umount(mountpoint: str) -> None:
    """Bring all changes to the Space, unmount MOUNTPOINT and wait until the mount's process is gone."""
    unmount_space(resolved(mountpoint))


def unmount_space(mountpoint: Path) -> None:
    """Sync, unmount, and wait for the process. When anything fails, the mount stays.

    Raises:
        MountError: Not a mount of ours, in use, or the changes can't be brought to the Space.
    """
    mount = mounted_at(mountpoint)
    if mount is None:
        raise MountError(f"nothing is mounted on {mountpoint}; `spacesfs list` shows what is")
    if not mount.is_ours:
        raise MountError(f"{mountpoint} is not a Space but {mount.source} ({mount.type}); use umount")
    if (recovered := recover_stale_mount(mountpoint)) is not None:
        say(recovered)
        return
    _, control = serving(mountpoint)
    processes = _watch(daemon_pid(control), ask_status(control).supervisor)
    try:
        _bring_all(control, mountpoint)
        unmount(mountpoint)
        _see_off(control, mountpoint)
        _wait_until_gone(processes)
    finally:
        for process in processes:
            os.close(process)


def _bring_all(control: Path, mountpoint: Path) -> None:
    """Sync before anything is taken down.

    Raises:
        MountError: Not all can be brought to the Space.
    """
    try:
        show_sync(sync_steps(control, None), str(mountpoint))
    except MountGone:
        raise
    except MountError as error:
        raise MountError(f"{error}; {mountpoint} stays mounted, and what waits is safe in its journal") from error


def _see_off(control: Path, mountpoint: Path) -> None:
    """Sync what was written while the mount was on its way out; the process ends when it has sent it.

    Raises:
        MountError: It can't be brought to the Space.
    """
    with suppress(MountGone):
        show_sync(sync_steps(control, None), str(mountpoint))


def _watch(*pids: int | None) -> list[int]:
    """Return descriptors that become readable when the processes end, of those that are there and ours to watch."""
    processes = []
    for pid in pids:
        with suppress(OSError):
            processes += [os.pidfd_open(pid)] if pid is not None else []
    return processes


def _wait_until_gone(processes: list[int]) -> None:
    for process in processes:
        select.select([process], [], [])
