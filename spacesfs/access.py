"""What is needed before a Space can be used: the access key, and where the bucket is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import trio

from spacesfs.client.credentials import Awaited, Credentials, CredentialsError
from spacesfs.client.credentials_chain import KeySearch
from spacesfs.client.endpoint import Endpoint, EndpointError, spaces_endpoints
from spacesfs.client.errors import SpacesError
from spacesfs.client.regions import RegionFinder, RegionMemory, RegionUnknown
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import Options, SpaceConfig
from spacesfs.errors import MountError
from spacesfs.logs import hide_secret

log = logging.getLogger(__name__)

Config = TypeVar("Config", bound=SpaceConfig)

_KEY_SECONDS = 5.0  # that who goes on for a dead mount waits for a command, before it goes on without a key
_ASK_SECONDS = 5.0  # for a region at the other end of the world to answer, TLS included
_MEMORY = "regions.json"


async def find_key(config: Options) -> Credentials:
    """Look for the access key, now as later, and keep it out of the logs.

    Raises:
        CredentialsError: There is none that can be used.
    """
    bucket = config.bucket if isinstance(config, SpaceConfig) else None
    search = KeySearch(os.environ, Path.home(), config.profile, config.credential_command, bucket)
    # In a thread: a command takes its time, and so may a home directory on another host.
    found = await trio.to_thread.run_sync(search.find, abandon_on_cancel=True)
    hide_secret(found.secret_access_key)
    if found.session_token:
        hide_secret(found.session_token)
    return found


async def first_key(config: Options) -> Credentials:
    """Return the access key to begin with.

    Raises:
        MountError: There is none that can be used.
    """
    try:
        return await find_key(config)
    except CredentialsError as error:
        raise MountError(str(error)) from error


async def key_at_hand(config: Options) -> Credentials | Awaited:
    """As `first_key`, for who goes on for a mount that died: it serves what is here until a command has the key.

    Only a command is waited for: it may need the network, and what is away may be that.

    Raises:
        MountError: There is no key that can be used, and no command that will have one.
    """
    if config.credential_command is None or config.profile:
        return await first_key(config)
    reason = f"the credential command has taken more than {_KEY_SECONDS:g} s"
    with trio.move_on_after(_KEY_SECONDS):
        try:
            return await find_key(config)
        except CredentialsError as error:
            reason = str(error)
    log.warning("%s; the mount goes on with what is here", reason)
    return Awaited(reason)


async def locate(config: Config, key: Credentials | Awaited, endpoints: Mapping[str, Endpoint] | None = None) -> Config:
    """Return the configuration with the place of the bucket, which is searched unless the user has given it.

    Args:
        config: What to use.
        key: Its access key; needs no right but to use the bucket. While it is awaited, the bucket is where it was.
        endpoints: Whom to ask, by region; all regions of Spaces if not given.

    Raises:
        MountError: It can't be found out.
    """
    if config.is_located:
        return config
    seconds, regions = min(_ASK_SECONDS, config.timeout), endpoints or spaces_endpoints()
    options = ClientOptions(
        timeout_seconds=seconds,
        deadline_seconds=seconds,
        patience_seconds=seconds,
        max_connections=1,
        max_attempts=2,  # the first may find out that this machine's clock is wrong
        ca_bundle=config.ca_bundle,
        proxy=proxy_for(next(iter(regions.values())).url, os.environ),
    )
    finder = RegionFinder(regions, options, RegionMemory(config.state_dir / _MEMORY))
    try:
        found = (await finder.find(config.bucket, key)) if isinstance(key, Credentials) else finder.last(config.bucket)
    except RegionUnknown as error:
        raise MountError(f"{error}; check the name, or say where it is with --region or --endpoint") from error
    except (EndpointError, SpacesError) as error:
        raise MountError(str(error)) from error
    log.info("bucket %s is at %s", config.bucket, found.url)
    return config.model_copy(update={"endpoint": found.url, "region": found.region})
