"""The life of a mount: build the parts, serve, drain, take them down."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pyfuse3
import trio

from spacesfs.assembly import assemble
from spacesfs.config import MountConfig
from spacesfs.errors import MountError
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.ending import Ending, end_on_signal, watch
from spacesfs.fuse.kernel import KernelLimits, tune
from spacesfs.fuse.mount import Mount
from spacesfs.fuse.mountpoint import recover_stale_mount
from spacesfs.fuse.operations import Operations
from spacesfs.fuse.process import prepare_process
from spacesfs.fuse.sockets import control_socket_path
from spacesfs.fuse.systemd import notify, patience
from spacesfs.pending.statedir import SERVING
from spacesfs.start import (
    Tell,
    check_bucket,
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


async def serve(config: MountConfig, *, on_ready: Callable[[], None], tell: Tell) -> None:
    """Mount, serve until unmounted or told to stop, bring everything to the Space, unmount.

    Args:
        config: What to mount, and where.
        on_ready: Called when the mount answers.
        tell: Told what the user should know meanwhile.

    Raises:
        MountError: The mount can't start or go on.
        LeftBehind: It ended before everything was in the Space.
    """
    prepare_process()
    config, notices = with_safe_durability(config)
    async with connected(config) as connection:
        read_only_reason = await check_bucket(connection)
        async with patience():
            folder = await claim(connection, tell)
        try:
            async with opened(folder, connection) as journal, open_team() as nursery:
                notices += recovered_notices(journal)
                limits = KernelLimits.within(config.memory)
                options = serving_options(connection.config, limits.memory_bytes)
                parts = await assemble(connection.bucket, journal, folder.staged, options, nursery)
                for notice in notices:
                    tell(notice)
                mount = Mount(connection, parts, folder.path, notices, read_only_reason)
                folder.note(f"{SERVING} {config.mountpoint}")
                await _serve_kernel(mount, Ending(mount, folder), limits, nursery, on_ready)
                nursery.cancel_scope.cancel()
        finally:
            folder.release()


class _Kernel:
    """The kernel's side of a mount, which is taken down once."""

    def __init__(self, mount: Mount, usage: Usage) -> None:
        self._is_open = True
        config = mount.config
        try:
            # Only now, for what lies below shows from here to the next line.
            recovered = recover_stale_mount(config.mountpoint)
            operations = Operations(mount.parts.filesystem, usage, config.metadata_ttl)
            pyfuse3.init(operations, str(config.mountpoint), _mount_options(mount))
        except RuntimeError as error:
            raise MountError(
                f"can't mount on {config.mountpoint}: {error}; fusermount3 says more with --foreground"
            ) from error
        if recovered:
            log.warning("%s", recovered)

    def terminate(self) -> None:
        """End the kernel's loop, if it was not ended by an unmount."""
        if self._is_open:
            pyfuse3.terminate()

    def close(self, *, unmount: bool) -> None:
        """Let go of the kernel. A dead mount is what remains without ``unmount``."""
        if self._is_open:
            self._is_open = False
            pyfuse3.close(unmount=unmount)


async def _serve_kernel(
    mount: Mount, ending: Ending, limits: KernelLimits, nursery: trio.Nursery, on_ready: Callable[[], None]
) -> None:
    usage = Usage(mount.connection.bucket)
    kernel = _Kernel(mount, usage)
    try:
        await nursery.start(serve_control, control_socket_path(mount.config.mountpoint), mount)
        async with open_team() as serving:
            serving.start_soon(end_on_signal, ending, kernel.terminate)
            serving.start_soon(_announce, mount, limits, on_ready)
            serving.start_soon(watch, mount)
            serving.start_soon(usage.keep)
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
    if mount.read_only_reason is not None:
        options.add("ro")
    return options


async def _announce(mount: Mount, limits: KernelLimits, on_ready: Callable[[], None]) -> None:
    """Tell that the mount answers, once the kernel's first request was answered."""
    try:
        await trio.to_thread.run_sync(os.stat, mount.config.mountpoint, abandon_on_cancel=True)
    except OSError as error:
        raise MountError(f"the mount on {mount.config.mountpoint} does not answer: {error.strerror}") from error
    mount.kernel_notice = await trio.to_thread.run_sync(tune, mount.config.mountpoint, limits.background)
    notify(f"READY=1\nSTATUS={mount.config.bucket} is mounted on {mount.config.mountpoint}")
    on_ready()
