"""The one way to the server: sign a call, send it, read its reply or raise what it means, and retry.

Everything above builds a `Call` and reads a `Reply`; nothing above sees httpx's client, a signature or a socket.
"""

from __future__ import annotations

import itertools
import random
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import httpx
import trio

from spacesfs.client import documents, errors
from spacesfs.client.admission import Admission, ClientStatistics, Visit
from spacesfs.client.call import Call, Reply, RequestRecord
from spacesfs.client.credentials import Awaited, Credentials
from spacesfs.client.credentials_renewal import FindKey
from spacesfs.client.endpoint import Endpoint, EndpointError
from spacesfs.client.errors import (
    AccessDenied,
    BadReply,
    DeadlineExceeded,
    InvalidRequest,
    NoKeyYet,
    NotConnected,
    NotFound,
    SpacesError,
    Throttled,
    Unreachable,
    Untrusted,
)
from spacesfs.client.hashing import Body
from spacesfs.client.http import HttpClient
from spacesfs.client.retry import Allowance, RetryPolicy, parse_retry_after
from spacesfs.client.signer import SignatureVersion, Signer
from spacesfs.client.signing import Signable, encode_query
from spacesfs.client.tls import tls_settings
from spacesfs.client.traffic import BodyStream, Landing, Traffic
from spacesfs.client.wire.pace import Bandwidth
from spacesfs.client.wire.stock import StockTransport
from spacesfs.client.wire.transport import SINK, WireTransport
from spacesfs.client.xmltree import Malformed

T = TypeVar("T")
Observer = Callable[[RequestRecord], None]

SLOWEST_BYTES_PER_SECOND = 64 * 1024  # what a line must do on average, else the call runs into its deadline
PROBE_SECONDS = 3.0  # what a server that is there needs at most to answer a request about nothing
KEEPALIVE_SECONDS = 15.0  # less than the servers' own idle limits, so that we seldom write into a closed connection

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SIGNED = {"content-md5", "content-type", "host", "range"}


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How the client behaves.

    Attributes:
        timeout_seconds: How long a connection may stand without a byte moving, and how long connecting may take.
        deadline_seconds: How long a whole call may take, all attempts and the pauses between them together, plus a
            second for each 64 KiB of body that it moves. Waiting for a turn does not count, nor does what throttling
            costs.
        patience_seconds: How long the Space may make one call wait by throttling it (503, 429), all in all; the call
            fails after that, so that it has an end.
        max_connections: How many calls are on the wire at once; the others wait for their turn, see `Limiter`.
        max_attempts: How often a call is sent at most, not counting attempts that the server throttled.
        ca_bundle: File of trusted certificates in PEM, instead of the system's.
        http_transport: What moves the bytes: ours, or httpx's own, which takes several times the CPU.
        proxy: URL of an HTTP proxy to go through, by httpx's own transport.
        limit_down, limit_up: Bytes a second that may come and go, all connections together; 0 for no limit. Not through
            a proxy.
        signature_version: Of Amazon's two ways to sign; 2 is for servers that know nothing newer.
    """

    timeout_seconds: float = 30.0
    deadline_seconds: float = 90.0
    patience_seconds: float = 300.0
    max_connections: int = 16
    max_attempts: int = 6
    ca_bundle: Path | None = None
    http_transport: Literal["own", "httpx"] = "own"
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    limit_down: int = 0
    limit_up: int = 0
    signature_version: SignatureVersion = 4


class Transport:
    """Owns the connections to one endpoint, the access key and the idea of the server's clock.

    Any task may call `send`; at most ``max_connections`` requests are on the wire at once. Only while some task runs
    `watch` does it notice that the Space is away.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | Awaited | None,
        options: ClientOptions,
        on_request: Observer | None,
        find_again: FindKey | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._signer = Signer(endpoint, credentials, options.signature_version, find_again)
        self._options = options
        self._on_request = on_request
        self._policy = RetryPolicy(max_attempts=options.max_attempts)
        # httpx's own queue costs milliseconds a request when it is long, so ours is in front of it.
        self._admission = Admission(options.max_connections, self._probe)
        self._asked_bucket = ""
        self._origins: dict[str, httpx.URL] = {}
        self._timeout = httpx.Timeout(options.timeout_seconds, pool=None).as_dict()
        self.bandwidth = Bandwidth(options.limit_down, options.limit_up)
        self._wire = _wire(endpoint, options, self.bandwidth)
        # It reads no environment, follows no redirect and adds no header of its own.
        self._http = HttpClient(transport=self._wire, trust_env=False)

    @property
    def endpoint(self) -> Endpoint:
        """Where the requests go."""
        return self._endpoint

    @property
    def access_key(self) -> Credentials | None:
        """The key that the next request is signed with; None also while one is awaited."""
        return None if isinstance(self._signer.key, Awaited) else self._signer.key

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def _seconds_on_the_way(self, bytes_up: int, bytes_down: int) -> float:
        """Return how long bodies may take; where bandwidth is limited, each call may have its share only."""
        seconds = 0.0
        for count, pace in ((bytes_up, self.bandwidth.up), (bytes_down, self.bandwidth.down)):
            share = pace.bytes_per_second / self._options.max_connections or SLOWEST_BYTES_PER_SECOND
            seconds += count / min(share, SLOWEST_BYTES_PER_SECOND)
        return seconds

    async def watch(self) -> NoReturn:
        """Notice when the Space goes and returns, close idle connections, look for a key that is awaited.

        One task of the client's does this.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._signer.find_awaited)
            if isinstance(self._wire, WireTransport):  # httpx's own closes them with the next request
                nursery.start_soon(self._wire.tend)
            await self._admission.watch()
        raise AssertionError("it watches for ever")

    def statistics(self) -> ClientStatistics:
        """Return how fast calls may go at present, and whether the Space is there."""
        return self._admission.statistics()

    def server_time_ns(self) -> int:
        """Return the latest time that the server's clock may show now, in nanoseconds since the epoch."""
        return int(self._signer.clock.latest(datetime.now(UTC)).timestamp() * 1e9)

    async def send(self, call: Call, parse: Callable[[Reply], T]) -> T:
        """Send a call until it succeeds or retrying makes no sense.

        Args:
            call: What to send.
            parse: Makes the result of a successful reply. It may raise `Malformed`, which becomes `BadReply`, or a
                `SpacesError`; where that is retryable the call is sent again.

        Raises:
            SpacesError: How the last attempt ended, with the number of attempts.
        """
        _check_headers(call)
        payload_hash = await self._signer.payload_hash(call.body)
        seconds = self._options.deadline_seconds + self._seconds_on_the_way(_length(call.body), call.expected_bytes)
        allowance = Allowance(seconds, self._options.patience_seconds)
        visit: Visit | None = None
        faults = 0
        for attempt in itertools.count(1):
            traffic = Traffic(attempt, self._admission.heard)
            async with self._admission.turn(call, visit, allowance) as visit:
                key = self._signer.key
                try:
                    if isinstance(key, Awaited):
                        raise call.error(NoKeyYet, f"there is no access key yet: {key.reason}")
                    return await self._attempt(call, payload_hash, key, traffic, allowance.seconds, parse)
                except SpacesError as error:
                    failure = visit.failure = error
                finally:
                    visit.was_answered = traffic.status is not None
            failure.attempts = attempt
            faults += not isinstance(failure, Throttled)
            if isinstance(failure, AccessDenied) and not failure.retryable and not isinstance(key, Awaited):
                with trio.move_on_after(allowance.seconds):
                    failure.retryable = await self._has_another_key(call, failure, key)
            allowance.spend(failure, trio.current_time() - visit.started)
            pause = self._policy.pause_seconds(
                failure, faults=faults, left_seconds=allowance.left(failure), random=random.random
            )
            if pause is None:
                raise failure
            allowance.spend(failure, pause)
            await self._admission.pause(pause)
        raise AssertionError("itertools.count ended")

    async def _has_another_key(self, call: Call, refusal: AccessDenied, key: Credentials | None) -> bool:
        """Tell whether there is another key than the one a call was refused with; looking for it holds no turn."""

        async def ask() -> None:
            if call.key:
                asked = replace(call, operation="GetObject", method="GET", headers={"range": "bytes=0-0"})
            else:
                asked = replace(call, operation="GetBucketLocation", method="GET", query=(("location", ""),))
            with suppress(SpacesError):
                await self.send(asked, lambda _: None)

        # A reply to HEAD has no body, so it does not tell whether the key is to blame; one to GET does.
        return await self._signer.finds_another(refusal, key, ask if call.method == "HEAD" else None)

    async def _attempt(  # noqa: PLR0917
        self,
        call: Call,
        payload_hash: str,
        key: Credentials | None,
        traffic: Traffic,
        left_seconds: float,
        parse: Callable[[Reply], T],
    ) -> T:
        """Send a call once, within the time that is left, and tell the observer how it went."""
        self._asked_bucket = call.bucket
        started = trio.current_time()
        try:
            with self._admission.under_way(call), trio.move_on_after(left_seconds):
                return await self._exchange(call, payload_hash, key, traffic, parse)
            raise call.error(DeadlineExceeded, "no complete answer in time")
        except Malformed as problem:
            raise call.error(BadReply, f"the server answered with {problem}", status=traffic.status) from None
        except UnicodeEncodeError:
            raise call.error(InvalidRequest, "a name that is not UTF-8") from None
        except httpx.TransportError as problem:
            raise self._broken(call, problem) from None  # the cause holds the signed request
        finally:
            if self._on_request is not None:
                seconds = trio.current_time() - started
                self._on_request(traffic.record(call, seconds))

    async def _probe(self) -> bool:
        """Tell whether the server answers. Unsigned: a refusal is an answer too."""
        request = httpx.Request("HEAD", self._origin(self._asked_bucket), extensions={"timeout": self._timeout})
        with trio.move_on_after(PROBE_SECONDS):
            try:
                response = await self._http.send(request, stream=True)
            except httpx.TransportError:
                return False
            await response.aclose()
            return True
        return False

    async def _exchange(
        self,
        call: Call,
        payload_hash: str,
        key: Credentials | None,
        traffic: Traffic,
        parse: Callable[[Reply], T],
    ) -> T:
        """Put one request on the wire and read its reply."""
        body = BodyStream(call.body, traffic)
        landing = Landing(call, traffic)
        request = self._request(call, payload_hash, body, key)
        request.extensions[SINK] = landing.sink
        try:
            response = await self._http.send(request, stream=True)
            try:
                reply = await landing.receive(response)
            finally:
                await response.aclose()
        finally:
            traffic.received = max(traffic.received, landing.sink.filled)
            body.drop()
            landing.drop()
            del request.extensions[SINK]  # it refers to the caller's buffer, and httpx keeps the request
        self._signer.clock.hear(reply.headers.get("date", ""), datetime.now(UTC))
        if not httpx.codes.is_success(reply.status) or documents.is_error(reply.body):
            raise self._refused(call, reply)
        return parse(reply)

    def _request(self, call: Call, payload_hash: str, body: BodyStream, key: Credentials | None) -> httpx.Request:
        """Sign a call as of now."""
        origin = self._origin(call.bucket)
        path = self._endpoint.path(call.bucket, call.key)
        headers = {"host": origin.netloc.decode("ascii"), "accept-encoding": "identity", **call.headers}
        signed = {name: value for name, value in headers.items() if name in _SIGNED or name.startswith("x-amz-")}
        host_bucket = self._endpoint.host_bucket(call.bucket)
        signable = Signable(call.method, path, call.query, signed, payload_hash, host_bucket)
        headers |= self._signer.authorize(signable, key)
        if call.method in {"PUT", "POST"}:
            headers["content-length"] = str(_length(call.body))
        target = f"{path}?{encode_query(call.query)}" if call.query else path
        return httpx.Request(
            call.method,
            origin,
            headers=[(name.encode("ascii"), value.encode()) for name, value in headers.items()],
            stream=body,
            # The target goes out as it is; httpx would resolve "." and ".." in the path of a URL.
            extensions={"target": target.encode("ascii"), "timeout": self._timeout},
        )

    def _origin(self, bucket: str) -> httpx.URL:
        """Return the URL of the host that a bucket's requests go to; parsed once."""
        origin = self._endpoint.origin(bucket)
        if origin not in self._origins:
            self._origins[origin] = httpx.URL(origin)
        return self._origins[origin]

    def _refused(self, call: Call, reply: Reply) -> SpacesError:
        """Return the exception that an error reply means."""
        said = documents.parse_error(reply.body)
        kind = errors.error_class(reply.status, said.code, has_key=bool(call.key))
        if issubclass(kind, NotFound) and reply.body and not said.code:
            kind = BadReply  # some proxy's page: not a word about the object, which must not look deleted
        error = call.error(
            kind,
            errors.reason(kind, reply.status, said.code, said.message),
            status=reply.status,
            code=said.code,
            request_id=said.request_id or reply.headers.get("x-amz-request-id", ""),
        )
        now = datetime.now(UTC)
        retry_after = reply.headers.get("retry-after")
        error.retry_after_seconds = parse_retry_after(retry_after, self._signer.clock.now(now))
        if reply.status == HTTPStatus.FORBIDDEN and self._signer.clock.correct(reply.headers.get("date"), now):
            error.retryable = True  # the next signature carries the server's time
        return error

    def _broken(self, call: Call, problem: httpx.TransportError) -> SpacesError:
        """Return the exception for a reply that did not come, or not whole."""
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
            return self._not_connected(call, problem)
        if isinstance(problem, httpx.TimeoutException):
            return call.error(DeadlineExceeded, f"no byte moved for {self._options.timeout_seconds:g} seconds")
        return call.error(Unreachable, "the connection broke")

    def _not_connected(self, call: Call, problem: httpx.TransportError) -> NotConnected:
        """Return the exception for a connection that could not be made, with the first cause that says why."""
        server = self._endpoint.origin(call.bucket)
        for cause in _causes(problem):
            if isinstance(cause, ssl.SSLCertVerificationError):
                text = f"the certificate of {server} is not trusted: {cause.verify_message}"
                return call.error(Untrusted, text)
            if isinstance(cause, OSError) and cause.strerror:
                why = cause.strerror.rpartition("): ")[2]  # trio puts the address before it
                return call.error(NotConnected, f"{server} can't be reached: {why}")
        return call.error(NotConnected, f"{server} can't be reached: no answer in time")


def _check_headers(call: Call) -> None:
    """Refuse what no header can carry; some values are the user's, or come from a server."""
    for name, value in call.headers.items():
        if _CONTROL.search(value) or value != value.strip(" "):
            raise call.error(InvalidRequest, f"the value of {name} has control characters, or spaces at an end")


def _wire(endpoint: Endpoint, options: ClientOptions, bandwidth: Bandwidth) -> httpx.AsyncBaseTransport:
    """Make what moves the bytes."""
    tls = tls_settings(endpoint, options.ca_bundle)
    places = options.max_connections + 1  # the limiter sees to the calls; the last place is the probe's
    if options.http_transport == "own" and options.proxy is None:
        return WireTransport(tls, connections_per_host=places, idle_seconds=KEEPALIVE_SECONDS, bandwidth=bandwidth)
    try:
        return StockTransport(tls, connections=places, idle_seconds=KEEPALIVE_SECONDS, proxy=options.proxy)
    except ValueError as problem:
        raise EndpointError(f"the proxy can't be used: {problem}") from None  # its URL may hold a password


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Walk the chain of causes, the problem first."""
    following: BaseException | None = problem
    while following is not None:
        yield following
        if isinstance(following, BaseExceptionGroup):  # trio tries all addresses of a host
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__


def _length(body: Body) -> int:
    return memoryview(body).nbytes
