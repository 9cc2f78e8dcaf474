"""The life of a mount: build the parts, serve, drain, take them down."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import pyfuse3
import trio

from spacesfs import __version__
from spacesfs.attributes import AttributeDefaults, attributes_of
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.endpoint import EndpointError
from spacesfs.client.errors import AccessDenied, NoSuchBucket, SpacesError
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import MountConfig
from spacesfs.content.file import FileFactory
from spacesfs.content.reader import Spawn
from spacesfs.content.reading import ReadingOptions, ReadSide, open_reading, pages_bytes
from spacesfs.content.staging import StagingArea
from spacesfs.content.upload import Uploader
from spacesfs.errors import FsError, LeftBehind, MountError
from spacesfs.filesystem import FileSystem, note_confirmed
from spacesfs.fuse.access import find_key, first_key, locate
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.kernel import KernelLimits, tune
from spacesfs.fuse.messages import MountStatus, PendingChange, RequestCounts, SyncProgress, Throttling, Usage
from spacesfs.fuse.mountpoint import recover_stale_mount
from spacesfs.fuse.observing import reading_of
from spacesfs.fuse.operations import Operations
from spacesfs.fuse.process import prepare_process
from spacesfs.fuse.sockets import control_socket_path
from spacesfs.fuse.systemd import notify
from spacesfs.metrics import RequestCounter
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.executor import Executor
from spacesfs.pending.scheduler import Scheduler
from spacesfs.properties import PropertyKeeper
from spacesfs.publication import Publisher
from spacesfs.tasks import open_team
from spacesfs.tree.inodes import InodeTable
from spacesfs.tree.resolver import Resolver
from spacesfs.tree.view import View

log = logging.getLogger(__name__)

_KEPT_TASKS = 8  # that wait for the kernel's next request; one more when they are busy costs little, but not nothing
_PROBE_NAME = ".spacesfs-may-write"  # the key of a multipart upload that is aborted at once; it never becomes an object


@dataclass(slots=True)
class Mount:
    """One mount while it lives; what the control socket shows and asks for."""

    config: MountConfig
    filesystem: FileSystem
    client: SpacesClient
    requests: RequestCounter
    reading: ReadSide
    kernel: KernelLimits
    staging: StagingArea
    notices: Iterable[str]
    read_only_reason: str | None
    kernel_notice: str | None = None
    is_draining: bool = False
    since: float = field(default_factory=time.time)

    def status(self) -> MountStatus:
        """Return how the mount is now."""
        now = time.time()
        network = self.client.statistics()
        pending = [
            PendingChange(
                path=opened.inode.key.removeprefix(self.config.prefix),
                kind="write",
                size_bytes=opened.file.size,
                age_seconds=now - (opened.dirty_since or now),
                attempts=opened.attempts,
                error=opened.error or None,
            )
            for opened in self.filesystem.files.unpublished()
        ]
        return MountStatus(
            bucket=self.config.bucket,
            prefix=self.config.prefix,
            mountpoint=str(self.config.mountpoint),
            endpoint=self.config.address.url,
            pid=os.getpid(),
            version=__version__,
            state="draining" if self.is_draining else "serving",
            since=self.since,
            durability=self.config.durability,
            read_only=self.read_only_reason is not None,
            read_only_reason=self.read_only_reason,
            pending=pending,
            pending_bytes=sum(change.size_bytes for change in pending),
            memory=Usage(self.reading.pages.used_bytes + self.reading.budget.used_bytes, self.config.memory),
            staging=Usage(self.staging.used_bytes, self.staging.limit_bytes),
            requests={
                name: RequestCounts(
                    totals.sent, totals.failed, totals.throttled, totals.bytes_sent, totals.bytes_received
                )
                for name, totals in self.requests.totals.items()
            },
            notices=[*self.notices, *self.reading.notices, *filter(None, [self.kernel_notice])],
            offline_since=network.offline_since,
            throttling={
                name: Throttling(lane.window, lane.full_window, lane.rate, lane.full_rate, lane.waiting)
                for name, lane in network.lanes.items()
                if lane.is_slowed
            },
            reading=reading_of(self.reading),
        )

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        """Bring all changes to the Space, or those at and below ``path``."""
        async for changes_left, bytes_left, bytes_total in self.filesystem.sync(path or ""):
            yield SyncProgress(changes_left, bytes_left, bytes_total)


async def serve(config: MountConfig, *, on_ready: Callable[[], None]) -> None:
    """Mount, serve until unmounted or told to stop, bring everything to the Space, unmount.

    ``on_ready`` is called when the mount answers.

    Raises:
        MountError: The mount can't start or go on.
        LeftBehind: It ended before everything was in the Space.
    """
    prepare_process()
    key = await first_key(config)
    config = await locate(config, key)
    requests = RequestCounter()
    options = ClientOptions(
        timeout_seconds=config.timeout,
        deadline_seconds=config.timeout,
        ca_bundle=config.ca_bundle,
        proxy=proxy_for(config.address.url, os.environ),
    )
    try:
        client = SpacesClient(
            config.address,
            key,
            options=options,
            on_request=requests.observe,
            find_again=partial(find_key, config),
        )
    except EndpointError as error:
        raise MountError(str(error)) from error
    async with client:
        read_only_reason = await _check_bucket(client.bucket(config.bucket), config)
        async with open_team() as nursery:
            mount = await _build(config, client, requests, read_only_reason, nursery)
            await _serve_kernel(mount, nursery, on_ready)
            nursery.cancel_scope.cancel()


async def _check_bucket(bucket: Bucket, config: MountConfig) -> str | None:
    """Make sure that the bucket is there and readable; return why it can only be read, or None."""
    try:
        await bucket.list_page(config.prefix, max_keys=1)
    except NoSuchBucket as error:
        raise MountError(
            f"there is no bucket {config.bucket} at {config.address.url}; check the name and region"
        ) from error
    except AccessDenied as error:
        reason = f"{config.address.url} refuses this key for bucket {config.bucket} ({error.code or 'AccessDenied'})"
        raise MountError(f"{reason}; check the access key, its secret and its rights") from error
    except SpacesError as error:
        raise MountError(f"can't read bucket {config.bucket} at {config.address.url}: {error}") from error
    if config.read_only:
        return "asked for"
    try:
        key = config.prefix + _PROBE_NAME
        await bucket.abort_upload(key, await bucket.create_upload(key))
    except AccessDenied:
        log.warning("the key may not write to %s: the mount is read-only", config.bucket)
        return "the key may not write"
    except SpacesError as error:
        raise MountError(f"can't tell whether the key may write to {config.bucket}: {error}") from error
    return None


async def _build(
    config: MountConfig,
    client: SpacesClient,
    requests: RequestCounter,
    read_only_reason: str | None,
    nursery: trio.Nursery,
) -> Mount:
    """Join the parts. A quarter of the memory is for the kernel's requests, the rest for pages and transfers."""
    bucket = client.bucket(config.bucket)
    mounted_ns = time.time_ns()
    defaults = AttributeDefaults(config.uid, config.gid, config.file_mode, config.dir_mode)
    kernel = KernelLimits.within(config.memory)
    reading = await open_reading(bucket, _reading_options(config, kernel), _spawner(nursery))
    view = View(bucket, defaults, config.metadata_ttl, mounted_ns, reading.glimpse)
    staging = _staging_area(config)
    executor = Executor(bucket)
    scheduler = Scheduler(executor, lambda intent, stored: note_confirmed(view, intent, stored))
    properties = PropertyKeeper(view, executor, scheduler)
    content = FileFactory(bucket, staging, Uploader(bucket, reading.budget), reading.reader, reading.read_ahead)
    marker = await view.marker(config.prefix) if config.prefix else None
    table = InodeTable(config.prefix, attributes_of(marker, defaults) if marker else defaults.for_directory(mounted_ns))
    publisher = Publisher(table, view, scheduler, properties)
    files = OpenFiles(content, table, scheduler, publisher)
    resolver = Resolver(table, view, files, config.metadata_ttl)
    filesystem = FileSystem(table, view, resolver, files, scheduler, properties, reading.reader, reading.glimpse)
    return Mount(config, filesystem, client, requests, reading, kernel, staging, publisher.notices, read_only_reason)


def _staging_area(config: MountConfig) -> StagingArea:
    directory = config.cache_dir / "staging"
    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        raise MountError(f"can't use {directory} for staging: {error.strerror}; give another --cache-dir") from error
    os.close(probe)
    return StagingArea(directory, config.cache_size - pages_bytes(config.cache_size))


def _reading_options(config: MountConfig, kernel: KernelLimits) -> ReadingOptions:
    return ReadingOptions(
        memory_bytes=config.memory - kernel.memory_bytes,
        directory=config.cache_dir / "pages",
        disk_bytes=pages_bytes(config.cache_size),
        space=f"{config.address.url} {config.bucket}",
    )


def _spawner(nursery: trio.Nursery) -> Spawn:
    def spawn(run: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(run)

    return spawn


async def _serve_kernel(mount: Mount, nursery: trio.Nursery, on_ready: Callable[[], None]) -> None:
    config = mount.config
    operations = Operations(mount.filesystem, config.metadata_ttl)
    try:
        # Only now, for what lies below shows from here to the next line.
        recovered = recover_stale_mount(config.mountpoint)
        pyfuse3.init(operations, str(config.mountpoint), _mount_options(mount))
    except RuntimeError as error:
        raise MountError(
            f"can't mount on {config.mountpoint}: {error}; fusermount3 says more with --foreground"
        ) from error
    if recovered:
        log.warning("%s", recovered)
    is_ending = False
    try:
        await nursery.start(serve_control, control_socket_path(config.mountpoint), mount)
        nursery.start_soon(mount.filesystem.files.retry_failed)
        async with open_team() as serving:
            serving.start_soon(_stop_on_signal, mount)
            serving.start_soon(_announce, mount, on_ready)
            await pyfuse3.main(min_tasks=_KEPT_TASKS, max_tasks=mount.kernel.tasks)
            mount.is_draining = True
            notify("STOPPING=1\nSTATUS=bringing the last changes to the Space")
            await _drain(mount)
            serving.cancel_scope.cancel()
        is_ending = True
    except MountError:
        is_ending = True
        raise
    finally:
        # After a crash the dead mount stays: programs get errors, where an empty directory would say "all is deleted".
        pyfuse3.close(unmount=is_ending)


def _mount_options(mount: Mount) -> set[str]:
    options = {"default_permissions", "subtype=spacesfs", f"fsname={mount.config.bucket}"}
    if mount.config.allow_other:
        options.add("allow_other")
    if mount.read_only_reason is not None:
        options.add("ro")
    return options


async def _announce(mount: Mount, on_ready: Callable[[], None]) -> None:
    """Tell that the mount answers, once the kernel's first request was answered."""
    try:
        await trio.to_thread.run_sync(os.stat, mount.config.mountpoint, abandon_on_cancel=True)
    except OSError as error:
        raise MountError(f"the mount on {mount.config.mountpoint} does not answer: {error.strerror}") from error
    mount.kernel_notice = await trio.to_thread.run_sync(tune, mount.config.mountpoint, mount.kernel.background)
    notify(f"READY=1\nSTATUS={mount.config.bucket} is mounted on {mount.config.mountpoint}")
    on_ready()


async def _stop_on_signal(mount: Mount) -> None:
    """End the mount on the first signal, and at once on the second."""
    was_told = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if was_told:
                raise LeftBehind(_left_behind(mount))
            was_told = True
            log.info("%s: bringing the last changes to the Space", signal.Signals(number).name)
            if not mount.is_draining:  # else somebody has unmounted it, which is no signal
                mount.is_draining = True
                pyfuse3.terminate()


async def _drain(mount: Mount) -> None:
    files = mount.filesystem.files
    await files.delete_doomed()
    try:
        async for _ in mount.filesystem.sync(""):
            pass
    except (FsError, SpacesError) as error:
        if files.unpublished():
            raise LeftBehind(f"{_left_behind(mount)}: {error}") from error
        log.warning("the last change: %s", error)  # a conflict, and both versions are in the Space


def _left_behind(mount: Mount) -> str:
    status = mount.status()
    names = ", ".join(change.path for change in status.pending[:3])
    more = f" and {len(status.pending) - 3} more" if len(status.pending) > 3 else ""  # noqa: PLR2004 - as shown above
    return f"not in the Space: {len(status.pending)} files, {status.pending_bytes} bytes ({names}{more})"
