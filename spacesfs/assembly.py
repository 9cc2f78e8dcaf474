"""The parts of a mount, joined; all but the kernel."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from spacesfs.attributes import AttributeDefaults
from spacesfs.cache.attribute_store import AttributeStore
from spacesfs.client.client import Bucket
from spacesfs.client.errors import DeadlineExceeded, Unreachable
from spacesfs.content.content import Contents
from spacesfs.content.file import FileFactory
from spacesfs.content.reader import Spawn
from spacesfs.content.reading import DiskOptions, ReadSide, open_reading, read_ahead_within
from spacesfs.content.staging import StagingArea
from spacesfs.content.upload import Uploader
from spacesfs.errors import FsError
from spacesfs.filesystem import FileSystem
from spacesfs.localview import LocalView, Surroundings
from spacesfs.namespace import Namespace
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.carried import Carried
from spacesfs.pending.changes import DropContent, SaveFact
from spacesfs.pending.conditions import ConditionalPuts
from spacesfs.pending.entries import Entries
from spacesfs.pending.executor import Executor
from spacesfs.pending.journal import Journal
from spacesfs.pending.ledger import Ledger
from spacesfs.pending.outcomes import Outcomes
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Scheduler
from spacesfs.pending.streaming import Streams
from spacesfs.pending.uploads import UploadRows, Uploads
from spacesfs.properties import PropertyKeeper
from spacesfs.tree.inodes import INODE_BYTES, LEAST_INODES, InodeTable, Kernel, NoKernel
from spacesfs.tree.refresh import Refresher
from spacesfs.tree.resolver import Resolver
from spacesfs.tree.view import Found, View
from spacesfs.xattrs import Xattrs

log = logging.getLogger(__name__)

_SAVE_LEFT_SECONDS = 5.0
_INODE_SHARE = 2  # of as much memory as contents may take, for names that the kernel holds
_IDLE_SHARE = 6  # of the memory, for small files that wait


@dataclass(frozen=True, slots=True)
class AttributeOptions:
    """Where descriptions are kept, how many bytes the file may take, and what tells this bucket from all others."""

    path: Path
    limit_bytes: int
    space: str


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the parts need to know. Sizes in bytes, times in seconds; ``prefix`` is empty or ends in ``/``.

    ``is_direct``: every acknowledged change is in the Space. ``sends_on_fsync``: after fsync it is. ``pages_on_disk``:
    where what was read is kept; ``attributes_on_disk``: where descriptions are; None for nowhere. ``asks_objects``:
    files have the attributes that their objects carry.
    """

    prefix: str
    defaults: AttributeDefaults
    memory_bytes: int
    staging_bytes: int
    ttl_seconds: float
    timeout_seconds: float
    grace_seconds: float
    is_direct: bool
    sends_on_fsync: bool
    pages_on_disk: DiskOptions | None = None
    attributes_on_disk: AttributeOptions | None = None
    asks_objects: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running mount that others speak to."""

    filesystem: FileSystem
    table: InodeTable
    ledger: Ledger
    reading: ReadSide
    staging: StagingArea
    surroundings: Surroundings
    uploads: Uploads
    factory: FileFactory
    attributes: AttributeStore | None

    async def resize(self, options: MountOptions) -> None:
        """Keep to the sizes of these options from now on."""
        idle_bytes = options.memory_bytes // _IDLE_SHARE
        read_bytes = options.memory_bytes - idle_bytes
        on_disk = options.pages_on_disk
        self.factory.contents.resize_idle(idle_bytes)
        self.factory.read_ahead = read_ahead_within(read_bytes)
        self.table.limit = _most_inodes(options.memory_bytes)
        self.staging.resize(options.staging_bytes)
        if self.attributes is not None and options.attributes_on_disk is not None:
            self.attributes.resize(options.attributes_on_disk.limit_bytes)
        await self.reading.resize(read_bytes, on_disk.limit_bytes if on_disk is not None else 0)


async def assemble(  # noqa: PLR0917 - what a mount is made of
    bucket: Bucket,
    journal: Journal,
    staged: Path,
    options: MountOptions,
    nursery: trio.Nursery,
    kernel: Kernel | None = None,
) -> Parts:
    """Join the parts over what an earlier process left, and let changes go out in ``nursery`` until it is cancelled.

    A sixth of the memory is for small files that wait, the rest for pages kept and bytes on their way.
    """
    mounted_ns = time.time_ns()
    spawn = _spawner(nursery)
    idle_bytes = options.memory_bytes // _IDLE_SHARE
    reading = await open_reading(bucket, options.memory_bytes - idle_bytes, options.pages_on_disk, spawn)
    attributes = _attribute_store(options, spawn)
    view = View(
        bucket,
        options.defaults,
        options.ttl_seconds,
        mounted_ns,
        reading.glimpse,
        attributes,
        spawn,
        asks_objects=options.asks_objects,
    )
    overlay = _recovered_overlay(journal)
    staging = StagingArea(staged, options.staging_bytes, journal.next_content_number, options.timeout_seconds, spawn)

    def forgotten(number: int, delete: Callable[[], None] | None) -> None:
        if delete is None:
            journal.post(DropContent(number))
            return
        spawn(partial(_forget, journal, number, delete))
        spawn(partial(uploads.abandon, number))

    contents = Contents(
        bucket, staging, lambda number: bool(overlay.users(number)), journal.inline, forgotten, idle_bytes
    )
    _recover_contents(journal, overlay, contents)
    scheduler = Scheduler(overlay, options.grace_seconds)
    puts = ConditionalPuts(
        bucket, dict(journal.recovered.facts), lambda name, value: journal.post(SaveFact(name, value))
    )
    uploader = Uploader(bucket, reading.budget, UploadRows(journal))
    uploads = Uploads(uploader, bucket, puts, journal.recovered.uploads, journal, staging.is_tight)
    entries = Entries(overlay, journal, contents, scheduler, uploads.at, is_direct=options.is_direct)
    ledger, outcomes = Ledger(entries, grace_seconds=options.grace_seconds), Outcomes(entries)
    root = await _root(view, options.prefix)
    table = InodeTable(options.prefix, root.attributes, kernel, _most_inodes(options.memory_bytes))
    carried = Carried(bucket, view.known)
    factory = FileFactory(contents, reading.reader, read_ahead_within(options.memory_bytes - idle_bytes))
    streams = Streams(uploads, carried, spawn)
    files = OpenFiles(factory, table, ledger, streams, sends_on_fsync=options.sends_on_fsync)
    resolver = Resolver(table, view, LocalView(overlay, view, files), options.ttl_seconds)
    refresher = Refresher(table, view, kernel or NoKernel(), options.ttl_seconds)
    surroundings = Surroundings(table, view, overlay, files)
    executor = Executor(bucket, outcomes, carried, puts, uploads, reading.budget, surroundings)
    properties = PropertyKeeper(view, ledger, files, carried)
    names = Namespace(bucket, table, view, resolver, files, ledger, outcomes)
    xattrs = Xattrs(properties, scheduler, bucket)
    filesystem = FileSystem(
        table, view, resolver, files, names, ledger, properties, reading.reader, reading.glimpse, refresher, xattrs
    )
    for intent in overlay:
        scheduler.changed(intent.key, 0.0)
    nursery.start_soon(scheduler.run, executor)
    nursery.start_soon(journal.gather)
    nursery.start_soon(_save_left, files)
    nursery.start_soon(uploads.clean_up, lambda number: bool(overlay.users(number)))
    return Parts(filesystem, table, ledger, reading, staging, surroundings, uploads, factory, attributes)


def _most_inodes(memory_bytes: int) -> int:
    return max(memory_bytes // _INODE_SHARE // INODE_BYTES, LEAST_INODES)


async def _root(view: View, prefix: str) -> Found:
    """Return what is known of the directory that is mounted; nothing where the Space is away."""
    try:
        return await view.directory(prefix) if prefix else view.plain_directory()
    except (Unreachable, DeadlineExceeded) as error:
        log.info("%s is shown with the attributes that this host knows: %s", prefix, error)
        return await view.recalled_directory(prefix)


def _attribute_store(options: MountOptions, spawn: Spawn) -> AttributeStore | None:
    on_disk = options.attributes_on_disk
    if on_disk is None or not options.asks_objects:
        return None
    store = AttributeStore(on_disk.path, on_disk.limit_bytes, on_disk.space)
    spawn(store.run)
    return store


def _recovered_overlay(journal: Journal) -> Overlay:
    overlay = Overlay()
    for intent in journal.recovered.intents.values():
        overlay.put(intent)
    return overlay


def _recover_contents(journal: Journal, overlay: Overlay, contents: Contents) -> None:
    """Know again what an earlier process left, and free what no intent needs, unless some are damaged."""
    wanted: set[int] = set()
    for number, record in journal.recovered.contents.items():
        keys = overlay.users(number)
        if not keys:
            if not journal.recovered.has_damage:
                journal.post(DropContent(number))
            continue
        wanted.add(number)
        wants = [overlay.present(key) for key in keys]
        source = next((want.source for want in wants if want is not None), None)
        contents.recover(record, source)
    if not journal.recovered.has_damage:
        contents.area.sweep(wanted)


async def _forget(journal: Journal, number: int, delete: Callable[[], None]) -> None:
    """Delete a content, but not before no row can name it: after a crash its bytes would be missed."""
    while True:
        try:
            await journal.commit(DropContent(number))
        except FsError as error:
            log.info("content %d stays until the journal can be written: %s", number, error)
            await trio.sleep(_SAVE_LEFT_SECONDS)
        else:
            delete()
            return


async def _save_left(files: OpenFiles) -> None:
    """Try again, as long as the mount lives, what could not be made safe when its last handle went."""
    while True:
        await trio.sleep(_SAVE_LEFT_SECONDS)
        await files.save_left()


def _spawner(nursery: trio.Nursery) -> Spawn:
    def spawn(run: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(run)

    return spawn
