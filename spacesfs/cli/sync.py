"""``spacesfs sync``: wait until changes are in the Space."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spacesfs.cli.client import all_statuses, serving, sync_steps
from spacesfs.cli.output import say
from spacesfs.cli.paths import complete_path, names_space, relative_path, resolved
from spacesfs.cli.progress import progress_shown, show_sync
from spacesfs.errors import MountError
from spacesfs.fuse.messages import SyncProgress
from spacesfs.fuse.sockets import find_socket
from spacesfs.logs import log_to_stderr

if TYPE_CHECKING:
    from spacesfs.cli.journals import JournalFolder
    from spacesfs.pending.scheduler import Left


class _WithFlagsOfASpace(click.Command):
    """Takes flags that only a Space without a mount needs; what they are is loaded when one is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(word.startswith("-") for word in args):
            from spacesfs.cli.options import journal_parameters  # noqa: PLC0415 - as the class says

            self.params = self.params[:1] + journal_parameters()
        return super().parse_args(ctx, args)


@click.command(cls=_WithFlagsOfASpace)
@click.argument("target", metavar="[PATH|BUCKET[:PREFIX]]", required=False, shell_complete=complete_path)
def sync(target: str | None, **flags: object) -> None:
    """Bring changes to the Space, and wait for it: those at and below PATH in a mount, or all that wait for BUCKET.

    Without an argument those of all your mounts. BUCKET need not be mounted.
    """
    if target is None:
        _sync_all(flags)
    elif names_space(target):
        _sync_space(target, flags)
    else:
        full = resolved(target)
        mountpoint, control = serving(full)
        show_sync(sync_steps(control, relative_path(full, mountpoint) or None), str(full))


def _sync_space(space: str, flags: dict[str, object]) -> None:
    from spacesfs.cli.journals import journal_folders, state_dir_of  # noqa: PLC0415 - a mount's path needs none of it

    for journal in journal_folders(space, state_dir_of(flags)):
        sync_journal(journal, flags)


def _sync_all(flags: dict[str, object]) -> None:
    from spacesfs.cli.journals import state_dir_of, waiting_unmounted  # noqa: PLC0415 - as above

    mountpoints = [status.mountpoint for status in all_statuses()]
    waiting = waiting_unmounted(state_dir_of(flags))
    if not mountpoints and not waiting:
        raise MountError("no Space is mounted; nothing to sync")
    for mountpoint in mountpoints:
        if (control := find_socket(Path(mountpoint))) is not None:
            show_sync(sync_steps(control, None), mountpoint)
    for journal in waiting:
        say(f"{journal.title} is not mounted and has changes that wait; run: spacesfs sync {journal.title}")


def sync_journal(journal: JournalFolder, flags: dict[str, object]) -> None:
    """Send all that waits in a journal, by its mount if it has one.

    Raises:
        MountError: It can't be done, or not all of it.
    """
    if journal.control is not None:
        show_sync(sync_steps(journal.control, None), journal.title)
        return
    import trio  # noqa: PLC0415 - most commands need no event loop

    from spacesfs.cli.journals import config_for  # noqa: PLC0415
    from spacesfs.unmounted import drain  # noqa: PLC0415

    log_to_stderr("error")
    total = 0
    with progress_shown(journal.title) as show:

        def step(left: Left) -> None:
            nonlocal total
            total = max(total, left.bytes)
            show(SyncProgress(left.changes, left.bytes, total))

        trio.run(partial(drain, config_for(journal, flags), say, step))
