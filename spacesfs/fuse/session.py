"""The life of a mount: build the parts, serve, drain, take them down."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pyfuse3
import trio

from spacesfs import __version__
from spacesfs.assembly import MountOptions, Parts, assemble
from spacesfs.attributes import AttributeDefaults
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.endpoint import EndpointError
from spacesfs.client.errors import AccessDenied, NoSuchBucket, SpacesError
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import Durability, MountConfig
from spacesfs.errors import FsError, LeftBehind, MountError
from spacesfs.fuse.access import find_key, first_key, locate
from spacesfs.fuse.control import serve_control
from spacesfs.fuse.messages import MountStatus, PendingChange, RequestCounts, SyncProgress, Throttling, Usage
from spacesfs.fuse.mountpoint import recover_stale_mount
from spacesfs.fuse.operations import Operations
from spacesfs.fuse.process import prepare_process
from spacesfs.fuse.sockets import control_socket_path
from spacesfs.fuse.systemd import notify
from spacesfs.metrics import RequestCounter
from spacesfs.pending.intents import Present, kind_of
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import Identity, StateFolder
from spacesfs.tasks import open_team

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 10.0  # for the journal's last commits
_PROBE_NAME = ".spacesfs-may-write"  # the key of a multipart upload that is aborted at once; it never becomes an object


@dataclass(slots=True)
class Mount:
    """One mount while it lives; what the control socket shows and asks for."""

    config: MountConfig
    parts: Parts
    client: SpacesClient
    requests: RequestCounter
    journal: Journal
    read_only_reason: str | None
    is_draining: bool = False
    since: float = field(default_factory=time.time)

    def status(self) -> MountStatus:
        """Return how the mount is now."""
        network = self.client.statistics()
        pending = self._pending()
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
            memory=Usage(self.parts.pages.used_bytes + self.parts.budget.used_bytes, self.config.memory),
            staging=Usage(self.parts.staging.used_bytes, self.parts.staging.limit_bytes),
            requests={
                name: RequestCounts(
                    totals.sent, totals.failed, totals.throttled, totals.bytes_sent, totals.bytes_received
                )
                for name, totals in self.requests.totals.items()
            },
            notices=[*self.journal.recovered.notices, *self.parts.surroundings.notices],
            offline_since=network.offline_since,
            throttling={
                name: Throttling(lane.window, lane.full_window, lane.rate, lane.full_rate, lane.waiting)
                for name, lane in network.lanes.items()
                if lane.is_slowed
            },
        )

    def _pending(self) -> list[PendingChange]:
        """Return what is not in the Space: what is acknowledged, and what open files hold beyond that."""
        now, ledger = time.time(), self.parts.ledger
        scheduler = ledger.scheduler
        pending = []
        for intent in ledger.overlay:
            attempts, error = scheduler.attempts(intent.key)
            size = intent.want.size if isinstance(intent.want, Present) else 0
            path = intent.key.removeprefix(self.config.prefix)
            change = PendingChange(path, kind_of(intent), size, now - intent.since, attempts, error or None)
            pending.append(change)
        for opened in self.parts.filesystem.files.unsaved():
            if opened.inode.key not in ledger.overlay:
                path = opened.inode.key.removeprefix(self.config.prefix)
                age = now - (opened.dirty_since or now)
                pending.append(PendingChange(path, "open", opened.file.size, age))
        return pending

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        """Bring all changes to the Space, or those at and below ``path``."""
        total = 0
        async for left in self.parts.filesystem.sync(path or ""):
            total = max(total, left.bytes)
            yield SyncProgress(left.changes, left.bytes, total)


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
        folder = await trio.to_thread.run_sync(_claim, config, abandon_on_cancel=True)
        try:
            async with _journal(folder) as journal, open_team() as nursery:
                bucket = client.bucket(config.bucket)
                parts = await assemble(bucket, journal, folder.staged, _options(config), nursery)
                mount = Mount(config, parts, client, requests, journal, read_only_reason)
                folder.note(f"mounted on {config.mountpoint}")
                await _serve_kernel(mount, nursery, on_ready)
                folder.note("ending")
                nursery.cancel_scope.cancel()
        finally:
            folder.release()


def _claim(config: MountConfig) -> StateFolder:
    identity = Identity(config.address.url, config.bucket, config.prefix)
    return StateFolder.claim(config.state_dir, identity, lambda line: log.warning("%s", line), None)


@asynccontextmanager
async def _journal(folder: StateFolder) -> AsyncIterator[Journal]:
    journal = Journal.open(folder.path, folder.identity)
    try:
        yield journal
    finally:
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await journal.aclose()


def _options(config: MountConfig) -> MountOptions:
    return MountOptions(
        prefix=config.prefix,
        defaults=AttributeDefaults(config.uid, config.gid, config.file_mode, config.dir_mode),
        memory_bytes=config.memory,
        staging_bytes=config.cache_size,
        ttl_seconds=config.metadata_ttl,
        timeout_seconds=config.timeout,
        grace_seconds=config.grace,
        is_direct=config.durability is Durability.SPACE,
        sends_on_fsync=config.durability is Durability.FSYNC,
    )


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


async def _serve_kernel(mount: Mount, nursery: trio.Nursery, on_ready: Callable[[], None]) -> None:
    config = mount.config
    operations = Operations(mount.parts.filesystem, config.metadata_ttl)
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
        async with open_team() as serving:
            serving.start_soon(_stop_on_signal, mount)
            serving.start_soon(_announce, mount, on_ready)
            await pyfuse3.main()
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
    """Bring everything to the Space. What can't be brought there stays in the journal."""
    try:
        async for _ in mount.parts.filesystem.sync(""):
            pass
    except (FsError, SpacesError) as error:
        if mount.status().pending:
            raise LeftBehind(f"{_left_behind(mount)}: {error}") from error
        log.warning("the last change: %s", error)  # a conflict, and both versions are in the Space


def _left_behind(mount: Mount) -> str:
    status = mount.status()
    names = ", ".join(change.path for change in status.pending[:3])
    more = f" and {len(status.pending) - 3} more" if len(status.pending) > 3 else ""  # noqa: PLR2004 - as shown above
    return f"not in the Space: {len(status.pending)} changes, {status.pending_bytes} bytes ({names}{more})"
