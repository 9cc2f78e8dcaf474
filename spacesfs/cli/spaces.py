"""The way from the command line to Spaces: which key, which server; one client for each, for the time of a command."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import click
import trio

from spacesfs.access import find_key, first_key, locate
from spacesfs.cli.layers import collect
from spacesfs.cli.places import SpacePlace
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint, resolve_endpoint
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import Options, SpaceConfig
from spacesfs.tasks import open_team

Flags = Mapping[str, object]
T = TypeVar("T")

_TERMINATED = 128 + signal.SIGTERM  # as shells say it


@dataclass(frozen=True, slots=True)
class Way:
    """How one bucket is reached."""

    config: Options
    endpoint: Endpoint
    key: Credentials


@dataclass(slots=True)
class Spaces:
    """Opens clients as they are needed, and closes them at the end of its block. For one task."""

    flags: Flags
    _ways: dict[tuple[str, str | None], Way] = field(default_factory=dict)
    _clients: dict[tuple[Endpoint, Credentials], SpacesClient] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def bucket(self, place: SpacePlace) -> Bucket:
        """Return the bucket of a place.

        Raises:
            MountError, ConfigError: There is no way to it.
        """
        way = await self.way(place)
        return (await self.client(way)).bucket(place.bucket)

    async def way(self, place: SpacePlace) -> Way:
        """Find out how a place is reached: by the endpoint that a mount told for it, or for its bucket before.

        Raises:
            MountError, ConfigError: It can't be found out.
        """
        known = self._ways.get((place.bucket, place.endpoint))
        if known is None and place.endpoint is None:
            known = next((way for (bucket, _), way in self._ways.items() if bucket == place.bucket), None)
        if known is None:
            config = space_config(self.flags, place)
            key = await first_key(config)
            config = await locate(config, key)
            known = self._ways[place.bucket, place.endpoint] = Way(config, config.address, key)
        return known

    async def endpoint(self, place: SpacePlace) -> Endpoint:
        """Return where a place is; without a key, if that is said.

        Raises:
            MountError, ConfigError: It can't be found out.
        """
        config = space_config(self.flags, place)
        return config.address if config.is_located else (await self.way(place)).endpoint

    async def client(self, way: Way) -> SpacesClient:
        """Return the client for a way."""
        known = self._clients.get((way.endpoint, way.key))
        if known is None:
            known = await self._stack.enter_async_context(client_of(way))
            self._clients[way.endpoint, way.key] = known
        return known


def client_of(way: Way) -> SpacesClient:
    """Make a client.

    Raises:
        EndpointError: The CA bundle or the proxy can't be used.
    """
    config = way.config
    options = ClientOptions(
        timeout_seconds=config.timeout,
        ca_bundle=config.ca_bundle,
        proxy=proxy_for(way.endpoint.url, os.environ),
    )
    return SpacesClient(way.endpoint, way.key, options=options, find_again=partial(find_key, config))


def space_config(flags: Flags, place: SpacePlace) -> SpaceConfig:
    """Return the configuration for a place's bucket; where a mount told its server, with that one.

    Raises:
        ConfigError: An option is wrong.
    """
    collected = collect(flags, place.bucket)
    if place.endpoint is None or any(flags.get(name) for name in ("endpoint", "region")):
        return collected.check(SpaceConfig, bucket=place.bucket)
    region = resolve_endpoint(None, place.endpoint, allow_insecure=True).region
    at = {
        "endpoint": place.endpoint,
        "region": region,
        "allow_insecure": True,
    }  # the mount's server, as the mount has it
    return collected.check(SpaceConfig, bucket=place.bucket, **at)


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's asynchronous part to its end; SIGTERM lets it clean up first, as SIGINT does.

    Raises:
        click.exceptions.Exit: It was terminated.
    """
    return trio.run(_until_terminated, work)


async def _until_terminated(work: Callable[[], Awaitable[T]]) -> T:
    async with open_team() as team:

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    team.cancel_scope.cancel()

        await team.start(watch)
        result = await work()
        team.cancel_scope.cancel()
        return result
    raise click.exceptions.Exit(_TERMINATED)
