"""What a Space lets us do: asked when a mount starts, and known already to one that takes the place of a dead one.

A fresh process goes on for one that died, so it needs no more of the Space than that one did to live: while the Space
is away it serves what is here, and its journal takes changes. What it would have asked is in the journal.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from spacesfs.access import Config
from spacesfs.client.errors import AccessDenied, NoSuchBucket, SpacesError
from spacesfs.errors import MountError
from spacesfs.pending.changes import SaveFact
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import unfinished
from spacesfs.start import Connection

log = logging.getLogger(__name__)

_PROBE_NAME = ".spacesfs-may-write"  # the key of a multipart upload that is aborted at once; it never becomes an object
_ASKED_FOR = "asked for"
_READ_ONLY = "read-only"  # a fact of the journal: why the key can only read, or empty
_PATIENCE_SECONDS = 5.0


class SpaceAway(MountError):
    """The Space can't be asked at present."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the Space has said. ``read_only_reason`` is why there can only be reading, or None."""

    read_only_reason: str | None


async def ask(connection: Connection[Config], *, goes_on: bool) -> Standing | None:
    """Ask the Space; return None if that can't be done at present and who asks goes on for a mount that died.

    Raises:
        MountError: The bucket is not there, or the key may not read it; who begins anew can't reach it.
    """
    if not goes_on:
        return Standing(await check_bucket(connection))
    with trio.move_on_after(_PATIENCE_SECONDS):
        try:
            return Standing(await check_bucket(connection))
        except SpaceAway as error:
            log.warning("%s; the mount goes on with what is here", error)
    return None


async def settle(connection: Connection[Config], journal: Journal, asked: Standing | None) -> Standing:
    """Return how things stand, and note it for the next one: what was asked, else what the journal knows.

    Raises:
        MountError: The journal does not know, and the bucket is not there, or can't be asked.
    """
    if connection.config.read_only:
        return Standing(_ASKED_FOR)
    known = journal.recovered.facts.get(_READ_ONLY)
    if asked is None and known is not None:
        return Standing(known or None)
    if asked is None:
        asked = Standing(await check_bucket(connection))
    reason = asked.read_only_reason or ""
    if reason != known:
        journal.post(SaveFact(_READ_ONLY, reason))
    return asked


async def check_bucket(connection: Connection[Config]) -> str | None:
    """Make sure that the bucket is there and readable; return why it can only be read, or None.

    Raises:
        SpaceAway: It can't be asked at present.
        MountError: It is not there, or the key may not read it.
    """
    bucket, config = connection.bucket, connection.config
    try:
        await bucket.list_page(config.prefix, max_keys=1)
    except NoSuchBucket as error:
        missing = f"there is no bucket {config.bucket} at {config.address.url}; check the name and region"
        raise MountError(f"{missing}{_parked(connection)}") from error
    except AccessDenied as error:
        reason = f"{config.address.url} refuses this key for bucket {config.bucket} ({error.code or 'AccessDenied'})"
        raise MountError(f"{reason}; check the access key, its secret and its rights") from error
    except SpacesError as error:
        raise _unasked(error, f"can't read bucket {config.bucket} at {config.address.url}: {error}") from error
    if config.read_only:
        return _ASKED_FOR
    try:
        key = config.prefix + _PROBE_NAME
        await bucket.abort_upload(key, await bucket.create_upload(key))
    except AccessDenied:
        log.warning("the key may not write to %s: the mount is read-only", config.bucket)
        return "the key may not write"
    except SpacesError as error:
        raise _unasked(error, f"can't tell whether the key may write to {config.bucket}: {error}") from error
    return None


def _unasked(error: SpacesError, message: str) -> MountError:
    return SpaceAway(message) if error.retryable else MountError(message)


def _parked(connection: Connection[Config]) -> str:
    """Say what waits for a bucket that is gone, and how to save it."""
    identity = connection.identity
    left = next((left for left in unfinished(connection.config.state_dir) if left.identity == identity), None)
    if left is None:
        return ""
    return f". Changes that wait for it stay in the journal: `spacesfs pending export {identity.space} DIR` saves them"
