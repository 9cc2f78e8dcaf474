"""Moving many files at once; the failure of one is not the end of the others."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import trio

from spacesfs.attributes import AttributeDefaults, attributes_of
from spacesfs.cli.failures import explain
from spacesfs.cli.meter import Meter
from spacesfs.cli.places import STANDARD, Place, SpacePlace, bring_up_to_date
from spacesfs.cli.remote import to_standard_output
from spacesfs.cli.sources import Item, items
from spacesfs.cli.spaces import Spaces
from spacesfs.client.buffers import Buffers
from spacesfs.client.client import Bucket
from spacesfs.client.downloads import copy_to_file
from spacesfs.client.errors import NoSuchBucket, NotConnected, PreconditionFailed, SpacesError
from spacesfs.client.localfile import NewFile
from spacesfs.client.models import ObjectProperties
from spacesfs.tasks import open_team
from spacesfs.tree.names import is_name

FILES_AT_ONCE = 16  # as many as there are connections
BUFFER_BYTES = 128 << 20

_SECOND_NS = 10**9
_READ_BYTES = 1 << 20
_PLAIN = AttributeDefaults(0, 0, 0o644, 0o755)
_HOPELESS = (NoSuchBucket, NotConnected)  # the next file would fare no better
_HOPELESS_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE}
_RELAYS = 4  # copies that pass through this machine, at once; each has memory of its own at both ends


@dataclass(frozen=True, slots=True)
class Orders:
    """How to move.

    Attributes:
        recursive: Folders too.
        overwrite: Replace what is there.
        moves: Delete each source in a Space once its copy is there.
        properties: What objects carry that are made of local files.
    """

    recursive: bool = False
    overwrite: bool = True
    moves: bool = False
    properties: ObjectProperties = field(default_factory=ObjectProperties)


class Refused(click.ClickException):
    """One item can't go where it should."""


async def transfer(spaces: Spaces, sources: Sequence[Place], target: Place, orders: Orders, meter: Meter) -> None:
    """Move all sources to a target; what fails is said and counted by the meter.

    Raises:
        SpacesError, MountError, OSError: Nothing more can be moved.
    """
    mover = _Mover(spaces, orders, meter)
    send, receive = trio.open_memory_channel[Item](FILES_AT_ONCE)

    async def plan() -> None:
        async with send:
            for source in sources:
                walk = items(spaces, source, meter, is_only=len(sources) == 1, recursive=orders.recursive)
                async with aclosing(walk):
                    try:
                        async for item in walk:
                            meter.plan(item.size)
                            await send.send(item)
                    except click.ClickException as error:
                        meter.fail(error.format_message())

    async def work() -> None:
        async for item in receive:
            await mover.move(item, target)

    places = [place for place in (*sources, target) if isinstance(place, SpacePlace)]
    for place in sorted(places, key=lambda place: place.endpoint is None):  # a mount tells where its bucket is
        await spaces.bucket(place)  # here, because clients belong to the task that opens them
    if isinstance(target, SpacePlace):
        bring_up_to_date(target)  # what a mount sends later would meet ours, and be kept beside it as a conflict
    async with open_team() as team:
        team.start_soon(plan)
        for _ in range(1 if target == STANDARD else FILES_AT_ONCE):  # there, one after the other, as they were named
            team.start_soon(work)


def target_of(item: Item, target: Place) -> Place:
    """Return where an item goes.

    Raises:
        Refused: It has no name, and the target is none.
    """
    is_folder = target.is_folder if isinstance(target, SpacePlace) else target != STANDARD and target.is_dir()
    if item.may_rename and not is_folder:
        return target
    if not item.name:
        raise Refused(f"{target}: is a folder; give the name that standard input shall have")
    if isinstance(target, SpacePlace):
        return target.below(item.name)
    if target == STANDARD:
        return target
    return target.joinpath(*_segments(item))


def _segments(item: Item) -> list[str]:
    """Return an item's path below a local folder, which a key must never lead out of.

    Raises:
        Refused: There can be no such path.
    """
    segments = item.name.removesuffix("/").split("/")
    if not all(map(is_name, segments)):
        raise Refused(f"{item.source}: its key can't be a path here")
    return segments


@dataclass(frozen=True, slots=True)
class _Mover:
    """Moves one item after the other; any number of tasks may share it."""

    spaces: Spaces
    orders: Orders
    meter: Meter
    buffers: Buffers = field(default_factory=lambda: Buffers(BUFFER_BYTES))
    relays: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(_RELAYS))
    _folders: set[Path] = field(default_factory=set)

    async def move(self, item: Item, target: Place) -> None:
        """Move an item to where it goes in a target.

        Raises:
            SpacesError, OSError: No other could be moved either.
        """
        place = target
        try:
            place = target_of(item, target)
            await self._move(item, place)
        except PreconditionFailed as error:
            self.meter.fail(str(error) if self.orders.overwrite else f"{place}: is there already")
        except (click.ClickException, SpacesError, OSError) as error:
            if isinstance(error, _HOPELESS) or (isinstance(error, OSError) and error.errno in _HOPELESS_ERRNOS):
                raise
            self.meter.fail(explain(error).message)
        else:
            self.meter.finish()

    async def _move(self, item: Item, target: Place) -> None:
        if isinstance(target, SpacePlace):
            if isinstance(item.source, SpacePlace):
                await self._copy(item, item.source, target)
            else:
                await self._send(item.source, target)
        elif isinstance(item.source, SpacePlace):
            if target == STANDARD:
                await to_standard_output(await self.spaces.bucket(item.source), item.source.key)
            else:
                await self._receive(item, item.source, target)
        else:
            raise Refused(f"{item.source}: neither it nor the target is in a Space; use cp(1)")

    async def _send(self, path: Path, target: SpacePlace) -> None:
        bucket = await self.spaces.bucket(target)
        given = self.orders.properties
        overwrite, buffers, on_bytes = self.orders.overwrite, self.buffers, self.meter.move
        status = None if path == STANDARD else os.stat(path)
        if status is not None and stat.S_ISREG(status.st_mode):
            metadata = {"mtime": _time_text(status.st_mtime_ns)} | dict(given.metadata)
            await bucket.upload_file(
                target.key,
                path,
                replace(given, metadata=metadata),
                overwrite=overwrite,
                buffers=buffers,
                on_bytes=on_bytes,
            )
        else:
            await bucket.upload_stream(
                target.key, _read(path), given, overwrite=overwrite, buffers=buffers, on_bytes=on_bytes
            )

    async def _receive(self, item: Item, source: SpacePlace, path: Path) -> None:
        is_marker = source.key.endswith("/")
        if is_marker and item.size:
            raise Refused(f"{source}: holds data, but its key is that of a folder")
        self._make_room(path, is_marker=is_marker, has_folder=item.may_rename)
        if is_marker:
            return
        bucket = await self.spaces.bucket(source)
        with NewFile(path, overwrite=self.orders.overwrite) as file:
            reading = bucket.stream(source.key, buffers=self.buffers, size_hint=item.size)
            info = await copy_to_file(reading, file, self.meter.move)
            file.set_time(attributes_of(info, _PLAIN, is_directory=False).mtime_ns)
            file.commit()

    def _make_room(self, path: Path, *, is_marker: bool, has_folder: bool) -> None:
        """Make the folder that a marker stands for, or that a file goes to; that of a single file must be there.

        Raises:
            OSError: Something else has the name.
        """
        folder = path if is_marker else path.parent
        if (is_marker or not has_folder) and folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    async def _copy(self, item: Item, source: SpacePlace, target: SpacePlace) -> None:
        origin, bucket = await self.spaces.bucket(source), await self.spaces.bucket(target)
        overwrite = self.orders.overwrite
        there, here = await self.spaces.way(source), await self.spaces.way(target)
        if (there.endpoint, there.key) == (here.endpoint, here.key):
            elsewhere = None if origin.name == bucket.name else origin.name
            await bucket.copy_object(source.key, target.key, source_bucket=elsewhere, overwrite=overwrite)
        else:
            async with self.relays:
                await self._relay(origin, source.key, bucket, target.key)
        self.meter.move(item.size)
        if self.orders.moves:
            # No server looks at conditions on a delete, so we look just before.
            if (await origin.head(source.key)).etag != item.etag:
                raise Refused(f"{source}: was replaced meanwhile; it stays, and an older version is at {target}")
            await origin.delete(source.key)

    async def _relay(self, origin: Bucket, source_key: str, bucket: Bucket, target_key: str) -> None:
        """Copy an object by way of this machine, with all that it carries."""
        outgoing, incoming = (Buffers(BUFFER_BYTES // _RELAYS // 2) for _ in range(2))
        async with origin.stream(source_key, buffers=outgoing) as stream:
            tags = await origin.get_tags(source_key) if stream.info.tag_count else None
            carried = replace(stream.info.properties, acl=await origin.get_acl(source_key), tags=tags)
            await bucket.upload_stream(target_key, stream, carried, overwrite=self.orders.overwrite, buffers=incoming)


def _time_text(time_ns: int) -> str:
    """Write a time as s3fs, rclone and our mounts read it: nine digits of fraction, or none."""
    seconds, fraction = divmod(time_ns, _SECOND_NS)
    return f"{seconds}.{fraction:09d}" if fraction else str(seconds)


async def _read(path: Path) -> AsyncGenerator[bytes, None]:
    """Read standard input, or a pipe or a device, which may each let us wait for ever."""
    if path == STANDARD:  # not through Python's buffer, whose lock an abandoned thread would keep
        descriptor = 0
    else:
        descriptor = await trio.to_thread.run_sync(os.open, path, os.O_RDONLY | os.O_CLOEXEC, abandon_on_cancel=True)
    try:
        while chunk := await trio.to_thread.run_sync(os.read, descriptor, _READ_BYTES, abandon_on_cancel=True):
            yield chunk
    finally:
        if descriptor:
            os.close(descriptor)
