"""What a mount begins with, and so does a drain without one: the client, the bucket's answer, the state folder."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic

import trio

from spacesfs.access import Config, find_key, first_key, locate
from spacesfs.assembly import AttributeOptions, MountOptions
from spacesfs.attributes import AttributeDefaults
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Awaited, Credentials
from spacesfs.client.endpoint import EndpointError
from spacesfs.client.errors import SpacesError
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import AttributeSource, Durability, MountConfig, SpaceConfig
from spacesfs.content.reading import DiskOptions, pages_bytes
from spacesfs.errors import MountError
from spacesfs.metrics import RequestCounter
from spacesfs.pending.changes import SaveFact
from spacesfs.pending.intents import Present
from spacesfs.pending.journal import Journal
from spacesfs.pending.schema import park
from spacesfs.pending.statedir import Identity, StateFolder, filesystem_of, is_volatile

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Told what the user should know at once, in one line."""

_MADE = "bucket-made-at"  # a fact of the journal, in nanoseconds since the epoch
_MAX_ATTRIBUTE_BYTES = 256 << 20
_CLOSE_SECONDS = 10.0  # for the journal's last commits
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # Docker's and Podman's


@dataclass(frozen=True, slots=True)
class Connection(Generic[Config]):
    """The way to a bucket. ``config`` says where it is."""

    config: Config
    client: SpacesClient
    requests: RequestCounter

    @property
    def bucket(self) -> Bucket:
        """The bucket."""
        return self.client.bucket(self.config.bucket)

    @property
    def identity(self) -> Identity:
        """What the journal belongs to."""
        return Identity(self.config.address.url, self.config.bucket, self.config.prefix)


@asynccontextmanager
async def connected(
    config: Config, key_of: Callable[[Config], Awaitable[Credentials | Awaited]] = first_key
) -> AsyncIterator[Connection[Config]]:
    """Find the key and the bucket's place, and open the way there for the time of the block.

    Raises:
        MountError: There is no key, or no such place.
    """
    key = await key_of(config)
    config = await locate(config, key)
    requests = RequestCounter()
    options = ClientOptions(
        timeout_seconds=config.timeout,
        deadline_seconds=config.timeout,
        ca_bundle=config.ca_bundle,
        proxy=proxy_for(config.address.url, os.environ),
        limit_down=config.limit_down,
        limit_up=config.limit_up,
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
        yield Connection(config, client, requests)


async def claim(connection: Connection[Config], tell: Tell) -> StateFolder:
    """Take the state folder; wait for an old process that still sends what it has, and say so.

    Raises:
        MountError: A mount serves it, another one overlaps, or the disk is in the way.
    """
    return await trio.to_thread.run_sync(
        StateFolder.claim, connection.config.state_dir, connection.identity, tell, None, abandon_on_cancel=True
    )


@asynccontextmanager
async def opened(folder: StateFolder, connection: Connection[Config] | None = None) -> AsyncIterator[Journal]:
    """Open the journal for the time of the block.

    With a connection, one whose bucket was deleted and made anew is parked: its changes were not meant for this bucket.

    Raises:
        MountError: It can't be opened, or is a newer program's.
    """
    made = await _made_at(connection) if connection is not None else None
    journal = Journal.open(folder.path, folder.identity)
    if made is not None:
        journal = await _of_this_bucket(journal, folder, made)
    try:
        yield journal
    finally:
        await _close(journal)


async def _of_this_bucket(journal: Journal, folder: StateFolder, made: str) -> Journal:
    """Return the journal, or a fresh one if it belongs to an earlier bucket of the same name."""
    known, count = journal.recovered.facts.get(_MADE), len(journal.recovered.intents)
    if known == made:
        return journal
    if known is not None and count:
        await _close(journal)
        try:
            aside = park(folder.path)
        except OSError as error:
            raise MountError(f"can't set aside the journal in {folder.path}: {error.strerror}") from error
        journal = Journal.open(folder.path, folder.identity)
        journal.recovered.notices.append(
            f"the bucket was deleted and made anew since {count} changes were made, so they are kept in {aside}; "
            f"`spacesfs pending export {folder.identity.space} DIR` saves them"
        )
    journal.post(SaveFact(_MADE, made))
    return journal


async def _made_at(connection: Connection[Config]) -> str | None:
    """Return when the bucket was made, where the key may know that; limited keys may not."""
    try:
        buckets = dict(await connection.client.list_buckets())
    except SpacesError:
        return None
    made = buckets.get(connection.config.bucket)
    return str(made) if made is not None else None


async def _close(journal: Journal) -> None:
    with trio.move_on_after(_CLOSE_SECONDS, shield=True):
        await journal.aclose()


def recovered_notices(journal: Journal) -> Iterator[str]:
    """Yield what the user should know of what an earlier process left, one line each."""
    yield from journal.recovered.notices
    intents = journal.recovered.intents.values()
    if intents:
        size = sum(intent.want.size for intent in intents if isinstance(intent.want, Present))
        count = f"{len(intents)} change{'s' * (len(intents) > 1)}"
        yield f"an earlier process left {count}, {size} bytes: they go to the Space now"


def with_safe_durability(config: Config) -> tuple[Config, list[str]]:
    """Return the configuration with a durability that the state folder can keep, and what to say of it."""
    folder = config.state_dir
    if config.durability is Durability.SPACE:
        return config, []
    if is_volatile(folder):
        volatile = f"the state folder {folder} is in memory and is gone after a reboot"
        if "durability" in config.model_fields_set:
            return config, [f"{volatile}: so is what {config.durability} acknowledged and is not in the Space by then"]
        space = config.model_copy(update={"durability": Durability.SPACE})
        return space, [f"{volatile}: changes are acknowledged when they are in the Space (durability space)"]
    if filesystem_of(folder) == "overlay" and any(mark.exists() for mark in _CONTAINER_MARKS):
        return config, [f"the state folder {folder} goes with this container: give it a volume"]
    return config, []


def serving_options(config: MountConfig, kernel_bytes: int) -> MountOptions:
    """Return what the parts of a mount need to know whose kernel's requests take ``kernel_bytes`` of the memory."""
    space = f"{config.address.url} {config.bucket}"
    return replace(
        mount_options(config),
        memory_bytes=config.memory - kernel_bytes,
        pages_on_disk=DiskOptions(config.cache_dir / "pages", pages_bytes(config.cache_size), space),
        attributes_on_disk=AttributeOptions(
            config.cache_dir / "attributes.sqlite", attribute_bytes(config.cache_size), space
        ),
    )


def mount_options(config: SpaceConfig) -> MountOptions:
    """Return what the parts need to know where there is no kernel; what they read is not kept on the disk."""
    return MountOptions(
        prefix=config.prefix,
        defaults=AttributeDefaults(config.uid, config.gid, config.file_mode, config.dir_mode),
        memory_bytes=config.memory,
        staging_bytes=config.cache_size - pages_bytes(config.cache_size) - attribute_bytes(config.cache_size),
        ttl_seconds=config.metadata_ttl,
        timeout_seconds=config.timeout,
        grace_seconds=config.grace,
        is_direct=config.durability is Durability.SPACE,
        sends_on_fsync=config.durability is Durability.FSYNC,
        asks_objects=config.attributes is AttributeSource.SPACE,
    )


def attribute_bytes(cache_bytes: int) -> int:
    """Return which part of a cache is for descriptions of objects, about 500 bytes each."""
    return min(cache_bytes // 32, _MAX_ATTRIBUTE_BYTES)
