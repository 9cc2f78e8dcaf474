"""The connections to the servers: kept open between requests, a limited number for each host, given out in order."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import NoReturn

import httpx
import trio

from spacesfs.client.wire.connection import Connection, Origin, Timeouts, connect
from spacesfs.client.wire.pace import Bandwidth

MAX_ORIGINS = 64  # a bucket may have a host of its own; of those that nobody uses no more than this are remembered


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """How many connections are in use and idle, and how many were made so far, by a short TLS handshake or not."""

    active: int
    idle: int
    connected: int
    resumed: int


@dataclass(slots=True)
class _Host:
    """One server: its idle connections, the oldest first, and the queue for a place."""

    places: trio.Semaphore
    idle: list[Connection] = field(default_factory=list)
    session: ssl.SSLSession | None = None

    @property
    def is_unused(self) -> bool:
        """Whether there is no connection, and nobody who is about to make one."""
        return not self.idle and self.places.value == self.places.max_value


class Pool:
    """Owns all connections.

    Invariant: every connection is either idle, or in the hands of one task that holds a place of its host. Places are
    given in the order of asking. Only `acquire` awaits; giving back is immediate, so a cancelled task leaks nothing.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        connections_per_host: int,
        idle_seconds: float,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        """Make an empty pool; ``idle_seconds`` is how long a connection may wait for its next request."""
        self._bandwidth = bandwidth or Bandwidth()
        self._tls = tls
        self._limit = connections_per_host
        self._idle_seconds = idle_seconds
        self._hosts: dict[Origin, _Host] = {}
        self._active: dict[Connection, _Host] = {}
        self._connected = 0
        self._resumed = 0
        self._has_idle = trio.Event()

    async def tend(self) -> NoReturn:
        """Close connections when they have been idle for too long; one task does this as long as the pool is in use.

        It sleeps until the oldest is due, and while there is none until one comes back: a pool at rest wakes nobody.
        """
        while True:
            due = [self._expires(host.idle[0]) for host in self._hosts.values() if host.idle]
            if due:
                await trio.sleep_until(min(due))
                self._drop_expired()
            else:
                self._has_idle = trio.Event()
                await self._has_idle.wait()

    async def acquire(self, origin: Origin, timeouts: Timeouts) -> Connection:
        """Return a connection that was idle and is still good, or a new one; `release` must follow.

        Raises:
            httpx.PoolTimeout: No place got free in time.
            httpx.ConnectTimeout, httpx.ConnectError: The server could not be reached.
        """
        host = self._host(origin)
        await self._take_place(host, timeouts.pool)
        try:
            connection = self._take_idle(host) or await self._connect(origin, host, timeouts)
        except BaseException:
            host.places.release()
            raise
        self._active[connection] = host
        return connection

    def release(self, connection: Connection, *, is_reusable: bool) -> None:
        """Take a connection back: keep it for the next request, or close it."""
        host = self._active.pop(connection)
        host.places.release()
        if is_reusable and connection.is_quiet():
            if connection.idle_since is None:  # the first time only: it costs half a millisecond
                host.session = connection.session
            connection.idle_since = trio.current_time()
            host.idle.append(connection)
            self._has_idle.set()
        else:
            connection.close()
        self._drop_expired()

    def close(self) -> None:
        """Close every connection; requests in flight end with an error."""
        for host in self._hosts.values():
            while host.idle:
                host.idle.pop().close()
        for connection in self._active:
            connection.close()

    def statistics(self) -> PoolStatistics:
        """Return how many connections there are."""
        idle = sum(len(host.idle) for host in self._hosts.values())
        return PoolStatistics(len(self._active), idle, self._connected, self._resumed)

    async def _take_place(self, host: _Host, seconds: float) -> None:
        try:
            host.places.acquire_nowait()
        except trio.WouldBlock:
            try:
                with trio.fail_after(seconds):
                    await host.places.acquire()
            except trio.TooSlowError as problem:
                raise httpx.PoolTimeout(f"no connection got free within {seconds:g} seconds") from problem

    async def _connect(self, origin: Origin, host: _Host, timeouts: Timeouts) -> Connection:
        try:
            connection = await connect(origin, self._tls, host.session, timeouts.connect, self._bandwidth)
        except httpx.ConnectError:
            host.session = None  # perhaps it is the session that the server can't stand
            raise
        self._connected += 1
        self._resumed += connection.is_resumed
        return connection

    def _take_idle(self, host: _Host) -> Connection | None:
        """Return the idle connection that was used last; those that the server has closed are dropped on the way."""
        self._drop_expired()
        while host.idle:
            connection = host.idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _drop_expired(self) -> None:
        """Close what has been idle for too long; the servers' patience is limited, too."""
        now = trio.current_time()
        for host in self._hosts.values():
            while host.idle and self._expires(host.idle[0]) <= now:
                host.idle.pop(0).close()

    def _expires(self, connection: Connection) -> float:
        assert connection.idle_since is not None
        return connection.idle_since + self._idle_seconds

    def _host(self, origin: Origin) -> _Host:
        """Return what is known of a server; unused ones make room for new ones."""
        if origin not in self._hosts:
            if len(self._hosts) >= MAX_ORIGINS:
                self._hosts = {known: host for known, host in self._hosts.items() if not host.is_unused}
            self._hosts[origin] = _Host(trio.Semaphore(self._limit, max_value=self._limit))
        return self._hosts[origin]
