"""The CDN in front of Spaces: its endpoints and its cache, by DigitalOcean's own API.

No access key works here, and no API token works on a Space. The API allows five requests on CDN endpoints in ten
seconds and fifty names to purge in twenty; calls wait for that here, so that nobody is refused. It refuses a purge
that is under way already, so purges go one after the other.
"""

from __future__ import annotations

import itertools
import random
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec
import trio

from spacesfs.client import errors
from spacesfs.client.endpoint import EndpointError, resolve_endpoint
from spacesfs.client.errors import (
    BadReply,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    ServerFault,
    SpacesError,
    Throttled,
    Unreachable,
)
from spacesfs.client.retry import RetryPolicy, parse_retry_after
from spacesfs.client.wire.stock import StockTransport

API_URL = "https://api.digitalocean.com"
TTLS_SECONDS = (60, 600, 3600, 86_400, 604_800)  # DigitalOcean API v2, CDN endpoints: ttl
REQUESTS = (5, 10.0)  # DigitalOcean API v2: requests on CDN endpoints, in seconds
FILES = (50, 20.0)  # as above: names to purge, in seconds; a wildcard counts as one

_TRAVEL_SECONDS = 1.0  # requests arrive later than they are sent, and not all equally late
_PAGE_SIZE = 200  # DigitalOcean API v2: per_page is at most that
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")

T = TypeVar("T")


class CdnEndpoint(msgspec.Struct, frozen=True):
    """One CDN endpoint as the API describes it.

    Attributes:
        origin: The bucket's own host, ``BUCKET.REGION.digitaloceanspaces.com``.
        endpoint: The host that serves it, ``BUCKET.REGION.cdn.digitaloceanspaces.com``.
        ttl: How long the CDN keeps an object that does not say itself, in seconds.
        custom_domain: A host of one's own, or "".
        certificate_id: The certificate for it, or "".
    """

    id: str
    origin: str
    endpoint: str
    created_at: str = ""
    ttl: int = 3600
    custom_domain: str = ""
    certificate_id: str = ""


class _Meta(msgspec.Struct):
    total: int


class _Page(msgspec.Struct):
    endpoints: list[CdnEndpoint] = []
    meta: _Meta = msgspec.field(default_factory=lambda: _Meta(0))


class _One(msgspec.Struct):
    endpoint: CdnEndpoint


class _Nothing(msgspec.Struct):
    """A reply whose success says all."""


class _Problem(msgspec.Struct):
    id: str = ""
    message: str = ""
    request_id: str = ""


class Pace:
    """How often something may happen in a sliding time: at most ``count`` times in any ``seconds``. Decides only."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=count)

    def book(self, now: float, times: int = 1) -> float:
        """Note that it happens ``times`` times, up to ``count``; return when, which is ``now`` or later."""
        assert 0 < times <= self.count, "so many never fit"
        oldest = len(self._times) + times - self.count - 1  # of those that would fall out of the time, the last
        when = now if oldest < 0 else max(now, self._times[oldest] + self._seconds)
        self._times.extend([when] * times)
        return when


@dataclass(frozen=True, slots=True)
class CdnOptions:
    """How calls behave.

    Attributes:
        api_url: Where the API is.
        timeout_seconds: How long a connection may stand without a byte moving.
        deadline_seconds: How long a call may take, all attempts together; waiting for the API's limits does not count.
        ca_bundle: File of trusted certificates in PEM, instead of the system's.
        proxy: URL of an HTTP proxy.
    """

    api_url: str = API_URL
    timeout_seconds: float = 30.0
    deadline_seconds: float = 90.0
    ca_bundle: Path | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a password


class CdnClient:
    """The CDN calls of one account; use as an async context manager. Any task may call.

    Every call raises a `spacesfs.client.errors.SpacesError` when it fails: `AccessDenied` where the token is wrong or
    lacks a right, `NotFound`, `InvalidRequest`, `Throttled`, `Unreachable` and their kind.
    """

    def __init__(self, token: str, options: CdnOptions | None = None) -> None:
        """Make a client; nothing is connected yet.

        Args:
            token: Of DigitalOcean's API, see `spacesfs.client.credentials_token`. Reading needs the scope cdn:read, the
                rest cdn:create, cdn:update and cdn:delete; a purge deletes.
            options: How calls behave.

        Raises:
            EndpointError: The API's address, the CA bundle or the proxy can't be used.
        """
        self._token = token
        self._options = options or CdnOptions()
        self._url = resolve_endpoint("none", self._options.api_url).url
        self._policy = RetryPolicy(max_attempts=5, cap_seconds=60.0)
        self._requests, self._files = (Pace(count, seconds + _TRAVEL_SECONDS) for count, seconds in (REQUESTS, FILES))
        self._purging = trio.Lock()
        self._http = _http_client(self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def endpoints(self) -> AsyncGenerator[CdnEndpoint, None]:
        """Return all endpoints of the account."""
        seen = 0
        for page in itertools.count(1):
            query = f"?page={page}&per_page={_PAGE_SIZE}"
            found = await self._call("list endpoints", "GET", query, None, _Page)
            for endpoint in found.endpoints:
                yield endpoint
            seen += len(found.endpoints)
            if not found.endpoints or seen >= found.meta.total:
                return

    async def find(self, origin: str) -> CdnEndpoint | None:
        """Return the endpoint in front of an origin (``BUCKET.REGION.digitaloceanspaces.com``), or None."""
        async with aclosing(self.endpoints()) as endpoints:
            async for endpoint in endpoints:
                if endpoint.origin == origin:
                    return endpoint
        return None

    async def get(self, endpoint_id: str) -> CdnEndpoint:
        """Return an endpoint."""
        return (await self._call("get endpoint", "GET", f"/{endpoint_id}", None, _One)).endpoint

    async def enable(
        self,
        origin: str,
        *,
        ttl: int | None = None,
        custom_domain: str | None = None,
        certificate_id: str | None = None,
    ) -> CdnEndpoint:
        """Put the CDN in front of an origin; one that is there already is brought to what is asked for.

        Args:
            origin: ``BUCKET.REGION.digitaloceanspaces.com``.
            ttl: One of `TTLS_SECONDS`. None, here and below, leaves an endpoint as it is, and a new one as the API
                makes it: with an hour, and no domain.
            custom_domain: A host of one's own, or "" for none.
            certificate_id: The certificate for it, of DigitalOcean's certificates.
        """
        before = await self.find(origin)
        settings = _settings(ttl, custom_domain, certificate_id)
        if before is not None:
            wanted = {name: value for name, value in settings.items() if getattr(before, name) != value}
            return await self._update(before.id, wanted) if wanted else before
        body = {"origin": origin} | {name: value for name, value in settings.items() if value}
        try:
            return (await self._call("create endpoint", "POST", "", body, _One)).endpoint
        except (BadReply, DeadlineExceeded, InvalidRequest, ServerFault, Unreachable):
            made = await self.find(origin)  # an attempt may have done it, and only its reply was lost
            if made is None:
                raise
            return made

    async def update(
        self,
        endpoint_id: str,
        *,
        ttl: int | None = None,
        custom_domain: str | None = None,
        certificate_id: str | None = None,
    ) -> CdnEndpoint:
        """Change an endpoint; None leaves a setting as it is, an empty domain removes it."""
        return await self._update(endpoint_id, _settings(ttl, custom_domain, certificate_id))

    async def disable(self, endpoint_id: str) -> None:
        """Take the CDN away; the bucket stays as it is."""
        try:
            await self._call("delete endpoint", "DELETE", f"/{endpoint_id}", None, _Nothing)
        except NotFound as error:
            if error.attempts == 1:
                raise

    async def purge(self, endpoint_id: str, files: Sequence[str]) -> None:
        """Drop objects from the cache, so that the CDN fetches them anew.

        Args:
            endpoint_id: The endpoint.
            files: Keys, and keys that end in ``*`` for all that begin so; ``*`` alone for everything. More than fifty
                take twenty seconds for each fifty.

        Raises:
            InvalidRequest: A name is empty.
        """
        if "" in files:
            raise InvalidRequest("the empty string is no key to purge")
        async with self._purging:
            for first in range(0, len(files), self._files.count):
                batch = list(files[first : first + self._files.count])
                await trio.sleep_until(self._files.book(trio.current_time(), len(batch)))
                await self._call("purge cache", "DELETE", f"/{endpoint_id}/cache", {"files": batch}, _Nothing)

    async def _update(self, endpoint_id: str, settings: Mapping[str, object]) -> CdnEndpoint:
        if not settings:
            raise InvalidRequest("nothing to change")
        return (await self._call("update endpoint", "PUT", f"/{endpoint_id}", settings, _One)).endpoint

    async def _call(self, what: str, method: str, path: str, body: object, kind: type[T]) -> T:
        """Send a call until it succeeds or retrying makes no sense."""
        left, faults = self._options.deadline_seconds, 0
        for attempt in itertools.count(1):
            await trio.sleep_until(self._requests.book(trio.current_time()))
            started = trio.current_time()
            try:
                with trio.move_on_after(left):
                    return await self._attempt(what, method, path, body, kind)
                raise DeadlineExceeded(f"CDN, {what}: no complete answer in time")
            except SpacesError as error:
                error.attempts = attempt
                faults += not isinstance(error, Throttled)
                left -= trio.current_time() - started
                pause = self._policy.pause_seconds(error, faults=faults, left_seconds=left, random=random.random)
                if pause is None:
                    raise
            left -= pause
            await trio.sleep(pause)
        raise AssertionError("itertools.count ended")

    async def _attempt(self, what: str, method: str, path: str, body: object, kind: type[T]) -> T:
        request = self._http.build_request(
            method,
            f"{self._url}/v2/cdn/endpoints{path}",
            content=None if body is None else msgspec.json.encode(body),
            headers={"authorization": f"Bearer {self._token}", "content-type": "application/json"},
        )
        try:
            response = await self._http.send(request)
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"CDN, {what}: {self._url} does not answer in time") from None
        except httpx.TransportError as problem:  # the cause holds the token
            raise Unreachable(f"CDN, {what}: {self._url} can't be reached: {problem}") from None
        if not response.is_success:
            raise _refused(what, response)
        try:
            return msgspec.json.decode(response.content or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadReply(f"CDN, {what}: an answer that makes no sense", status=response.status_code) from None


def _settings(ttl: int | None, custom_domain: str | None, certificate_id: str | None) -> dict[str, object]:
    """Return the settings that are given, as the API wants them.

    Raises:
        InvalidRequest: The API would refuse one.
    """
    if ttl is not None and ttl not in TTLS_SECONDS:
        raise InvalidRequest(f"a TTL of {ttl} seconds is none of {', '.join(map(str, TTLS_SECONDS))}")
    if custom_domain and not _DOMAIN.fullmatch(custom_domain):
        raise InvalidRequest(f"{custom_domain!r} is not a domain")
    if custom_domain and not certificate_id:
        raise InvalidRequest(f"the domain {custom_domain} needs a certificate")
    given = {"ttl": ttl, "custom_domain": custom_domain, "certificate_id": certificate_id}
    return {name: value for name, value in given.items() if value is not None}


def _refused(what: str, response: httpx.Response) -> SpacesError:
    """Return the exception that an error reply means."""
    try:
        said = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Problem()
    kind = errors.error_class(response.status_code, said.id or "-", has_key=False)
    reason = errors.reason(kind, response.status_code, said.id, said.message)
    error = kind(f"CDN, {what}: {reason}", status=response.status_code, code=said.id, request_id=said.request_id)
    error.retry_after_seconds = _wait_seconds(response.headers)
    return error


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long the API wants us to wait: as it says, or until its count begins anew."""
    now = datetime.now(UTC)
    asked = parse_retry_after(headers.get("retry-after"), now)
    reset = headers.get("ratelimit-reset", "")
    if asked is not None or headers.get("ratelimit-remaining") != "0" or not reset.isascii() or not reset.isdigit():
        return asked
    return max(float(reset[:12]) - now.timestamp(), 0.0)


def _http_client(options: CdnOptions) -> httpx.AsyncClient:
    try:
        tls = ssl.create_default_context(cafile=options.ca_bundle)
        transport = StockTransport(tls, connections=4, idle_seconds=15.0, proxy=options.proxy)
    except OSError as problem:  # also ssl.SSLError
        raise EndpointError(f"CA bundle {options.ca_bundle} can't be used: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise EndpointError(f"the proxy can't be used: {problem}") from None  # its URL may hold a password
    timeout = httpx.Timeout(options.timeout_seconds)
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
