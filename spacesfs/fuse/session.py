"""The life of a mount: build the parts, serve, drain, take them down."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pyfuse3
import trio

from spacesfs.access import first_key, key_at_hand
from spacesfs.assembly import assemble
from spacesfs.config import MountConfig, split_address
from spacesfs.errors import MountError
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.ending import Ending, end_on_signal, watch
from spacesfs.fuse.kernel import KernelLimits, KernelNotifier, tune
from spacesfs.fuse.mount import Mount
from spacesfs.fuse.mountpoint import is_dead, mounted_at
from spacesfs.fuse.operations import Operations
from spacesfs.fuse.place import Place, place_for
from spacesfs.fuse.process import prepare_process
from spacesfs.fuse.sockets import control_socket_path
from spacesfs.fuse.supervision import Supervision, beat_for_ever
from spacesfs.fuse.systemd import notify, patience
from spacesfs.fuse.waiting import take_requests_as_they_come
from spacesfs.pending.statedir import SERVING
from spacesfs.standing import ask, settle
from spacesfs.start import (
    Tell,
    claim,
    connected,
    opened,
    recovered_notices,
    serving_options,
    with_safe_durability,
)
from spacesfs.tasks import open_team
from spacesfs.usage import Usage

log = logging.getLogger(__name__)

_KEPT_TASKS = 8  # that wait for the kernel's next request; one more when they are busy costs little, but not nothing


async def serve(config: MountConfig, supervision: Supervision, *, on_ready: Callable[[], None], tell: Tell) -> None:
    """Mount, serve until unmounted or told to stop, bring everything to the Space, unmount.

    Args:
        config: What to mount, and where.
        supervision: Who watches over this process; hears from it as long as the event loop turns.
        on_ready: Called when the mount answers.
        tell: Told what the user should know meanwhile.

    Raises:
        MountError: The mount can't start or go on.
        LeftBehind: It ended before everything was in the Space.
    """
    prepare_process()
    async with open_team() as team:
        team.start_soon(beat_for_ever, supervision)
        await _serve(config, supervision, on_ready, tell)
        team.cancel_scope.cancel()


async def _serve(config: MountConfig, supervision: Supervision, on_ready: Callable[[], None], tell: Tell) -> None:
    config, notices = with_safe_durability(config)
    is_asked = supervision.replaces is None  # else this very configuration served until now
    goes_on = not is_asked or _is_ours_dead(config)
    async with connected(config, key_at_hand if goes_on else first_key) as connection:
        asked = await ask(connection, goes_on=goes_on) if is_asked else None
        async with patience():
            folder = await claim(connection, tell)
        try:
            async with opened(folder, connection if asked else None) as journal, open_team() as nursery:
                standing = await settle(connection, journal, asked)
                notices += recovered_notices(journal)
                notifier = KernelNotifier()
                limits = KernelLimits.within(config.memory)
                options = serving_options(connection.config, limits.memory_bytes)
                parts = await assemble(connection.bucket, journal, folder.staged, options, nursery, notifier)
                for notice in notices:
                    tell(notice)
                mount = Mount(connection, parts, folder.path, notifier, notices, standing, supervision)
                folder.note(f"{SERVING} {config.mountpoint}")
                await _serve_kernel(mount, Ending(mount, folder), limits, nursery, on_ready)
                nursery.cancel_scope.cancel()
        finally:
            folder.release()


def _is_ours_dead(config: MountConfig) -> bool:
    """Tell whether a dead mount of this very bucket is in our place."""
    dead = mounted_at(config.mountpoint)
    return dead is not None and dead.source == config.bucket and is_dead(config.mountpoint)


class _Kernel:
    """The kernel's side of a mount, which is taken down once."""

    def __init__(self, mount: Mount, usage: Usage) -> None:
        self._is_open = True
        self._notifier = mount.kernel
        config = mount.config
        # Only now: where it must be emptied first, what lies below shows until pyfuse3 has mounted.
        self.place = place_for(config.mountpoint)
        try:
            operations = Operations(mount.parts.filesystem, usage, config.metadata_ttl)
            pyfuse3.init(operations, str(self.place.directory), _mount_options(mount))
        except RuntimeError as error:
            self.place.leave()
            raise MountError(
                f"can't mount on {config.mountpoint}: {error}; fusermount3 says more with --foreground"
            ) from error
        self._notifier.start()
        if self.place.recovered:
            log.warning("%s", self.place.recovered)
            mount.replaces = mount.supervision.replaces or "an earlier process died and left its mount"

    def terminate(self) -> None:
        """End the kernel's loop, if it was not ended by an unmount."""
        if self._is_open:
            pyfuse3.terminate()

    def close(self, *, unmount: bool) -> None:
        """Let go of the kernel. A dead mount is what remains without ``unmount``."""
        if self._is_open:
            self._is_open = False
            self._notifier.close()
            pyfuse3.close(unmount=unmount and self.place.leave())


async def _serve_kernel(
    mount: Mount, ending: Ending, limits: KernelLimits, nursery: trio.Nursery, on_ready: Callable[[], None]
) -> None:
    usage = Usage(mount.connection.bucket)
    kernel = _Kernel(mount, usage)
    try:
        await nursery.start(serve_control, control_socket_path(mount.config.mountpoint), mount)
        if mount.config.metrics_listen is not None:
            from spacesfs.fuse.exporting import serve_metrics  # noqa: PLC0415 - few mounts need it

            await nursery.start(serve_metrics, *split_address(mount.config.metrics_listen), mount.status)
        async with open_team() as serving:
            serving.start_soon(end_on_signal, ending, kernel.terminate)
            serving.start_soon(_announce, mount, kernel.place, limits, on_ready)
            serving.start_soon(watch, mount)
            serving.start_soon(usage.keep)
            take_requests_as_they_come()
            await pyfuse3.main(min_tasks=_KEPT_TASKS, max_tasks=limits.tasks)
            ending.begin()
            kernel.close(unmount=True)  # who still uses the mount is told now, not when the last byte is sent
            await ending.finish()
            serving.cancel_scope.cancel()
    except MountError:
        kernel.close(unmount=True)
        raise
    finally:
        # After a crash the dead mount stays: programs get errors, where an empty directory would say "all is deleted".
        kernel.close(unmount=False)


def _mount_options(mount: Mount) -> set[str]:
    options = {"default_permissions", "subtype=spacesfs", f"fsname={mount.config.bucket}"}
    if mount.config.allow_other:
        options.add("allow_other")
    if mount.standing.read_only_reason is not None:
        options.add("ro")
    return options


async def _announce(mount: Mount, place: Place, limits: KernelLimits, on_ready: Callable[[], None]) -> None:
    """Tell that the mount answers and is in its place, once the kernel's first request was answered."""
    try:
        await trio.to_thread.run_sync(os.stat, place.directory, abandon_on_cancel=True)
    except OSError as error:
        raise MountError(f"the mount on {mount.config.mountpoint} does not answer: {error.strerror}") from error
    await trio.to_thread.run_sync(place.settle)
    mount.kernel_notice = await trio.to_thread.run_sync(tune, mount.config.mountpoint, limits.background)
    notify(f"READY=1\nSTATUS={mount.config.bucket} is mounted on {mount.config.mountpoint}")
    on_ready()
