"""Move one object's worth of bytes by several clients in turn, each in a process of its own, against one RADOS gateway.

``python -m tests.bench.wire`` prints a Markdown table: medians of the rate and of the CPU seconds that the client's own
process takes for each GiB, and both in relation to httpx's own transport and to a bare loop over sockets. 8 requests of
8 MiB are on the wire at once; plain http goes straight to the gateway, TLS through the edge. Our client, with either
transport, signs, retries and verifies what it sends by MD5; the bare loop sends and receives signed URLs and nothing
more, for uploads it hashes too. obstore (``pip install obstore``) is left out where it is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import boto3
import trio
from botocore.config import Config

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.transport import ClientOptions
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from obstore.store import ClientConfig
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

BUCKET = "wire"
KEY = "source"
PIECE_BYTES = 8 << 20
CONNECTIONS = 8
GIB = 1 << 30
METHODS = {"download": "GET", "upload": "PUT"}
T = TypeVar("T")
BODY = random.Random(1).randbytes(PIECE_BYTES)


@dataclass(frozen=True)
class Job:
    """One measurement: who moves how many pieces in which direction, and where to.

    ``signed`` holds signed URLs, one for reading and ``CONNECTIONS`` for writing.
    """

    client: str
    direction: str
    pieces: int
    url: str
    ca_bundle: str
    access_key: str
    secret_key: str
    signed: tuple[str, ...]


@dataclass(frozen=True)
class Measurement:
    """Megabytes (10**6 bytes) a second, and CPU seconds for each GiB."""

    rate: float
    cpu_seconds: float


async def with_spacesfs(job: Job, transport: Literal["own", "httpx"]) -> None:
    """Our client, on one of its two transports."""
    options = ClientOptions(
        max_connections=CONNECTIONS, ca_bundle=Path(job.ca_bundle) if job.ca_bundle else None, http_transport=transport
    )
    credentials = Credentials(job.access_key, job.secret_key)
    async with SpacesClient(resolve_endpoint(None, job.url), credentials, options=options) as client:
        bucket = client.bucket(BUCKET)

        async def work(worker: int, numbers: Iterator[int]) -> None:
            buffer = memoryview(bytearray(PIECE_BYTES))
            for number in numbers:
                if job.direction == "upload":
                    await bucket.put(f"up-{worker}", BODY)
                else:
                    await bucket.get_range(KEY, number * PIECE_BYTES, buffer)

        await in_parallel(work, job.pieces)


async def with_sockets(job: Job) -> None:
    """The least that Python can do: non-blocking sockets, signed URLs, heads cut off and not looked at."""
    tls = ssl.create_default_context(cafile=job.ca_bundle or None)

    async def work(worker: int, numbers: Iterator[int]) -> None:
        url = urlsplit(job.signed[worker])
        sock = socket.create_connection((url.hostname or "", url.port or 0))
        sock.setblocking(False)
        if url.scheme == "https":
            sock = tls.wrap_socket(sock, server_hostname=url.hostname, do_handshake_on_connect=False)
            await unblocked(sock, sock.do_handshake, trio.lowlevel.wait_readable)
        request = f"{METHODS[job.direction]} {url.path}?{url.query} HTTP/1.1\r\nhost: {url.netloc}\r\n"
        buffer = memoryview(bytearray(PIECE_BYTES))
        with sock:
            for number in numbers:
                if job.direction == "upload":
                    await put(sock, request)
                else:
                    await get(sock, request, number * PIECE_BYTES, buffer)

    await in_parallel(work, job.pieces)


async def put(sock: socket.socket, request: str) -> None:
    await trio.to_thread.run_sync(hashlib.md5, BODY)
    await send(sock, memoryview(f"{request}content-length: {PIECE_BYTES}\r\n\r\n".encode()))
    await send(sock, memoryview(BODY))
    assert (await receive_head(sock)).startswith(b"HTTP/1.1 200")


async def get(sock: socket.socket, request: str, start: int, buffer: memoryview) -> None:
    await send(sock, memoryview(f"{request}range: bytes={start}-{start + PIECE_BYTES - 1}\r\n\r\n".encode()))
    head, _, begun = (await receive_head(sock)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206")
    buffer[: len(begun)] = begun
    await receive(sock, buffer[len(begun) :])


async def send(sock: socket.socket, data: memoryview) -> None:
    while data:
        sent = await unblocked(sock, partial(sock.send, data), trio.lowlevel.wait_writable)
        data = data[sent:]


async def receive(sock: socket.socket, view: memoryview) -> None:
    while view:
        count = await unblocked(sock, partial(sock.recv_into, view), trio.lowlevel.wait_readable)
        assert count, "cut short"
        view = view[count:]


async def receive_head(sock: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await unblocked(sock, partial(sock.recv, 4096), trio.lowlevel.wait_readable)
    return head


async def unblocked(sock: socket.socket, call: Callable[[], T], wait: Callable[[socket.socket], Awaitable[None]]) -> T:
    """Call until it does not block; ``wait`` is for what plain sockets wait for, TLS says itself."""
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)
        except BlockingIOError:
            await wait(sock)


async def with_obstore(job: Job) -> None:
    """A client in Rust; copies into a buffer of ours, as the others read into one."""
    from obstore.store import S3Store

    # It takes no bundle of certificates; what it saves in the few handshakes is nothing.
    options: ClientConfig = {"allow_http": True, "allow_invalid_certificates": True}
    store = S3Store(
        BUCKET,
        endpoint=job.url,
        region="us-east-1",
        access_key_id=job.access_key,
        secret_access_key=job.secret_key,
        virtual_hosted_style_request=False,
        client_options=options,
    )

    async def work(worker: int, numbers: Iterator[int]) -> None:
        for number in numbers:
            if job.direction == "upload":
                await store.put_async(f"up-{worker}", BODY, use_multipart=False)
            else:
                piece = await store.get_range_async(KEY, start=number * PIECE_BYTES, length=PIECE_BYTES)
                assert len(piece) == PIECE_BYTES

    numbers = iter(range(job.pieces))
    await asyncio.gather(*(work(worker, numbers) for worker in range(CONNECTIONS)))


async def in_parallel(work: Callable[[int, Iterator[int]], Awaitable[None]], pieces: int) -> None:
    """Run one worker for each connection; they take the pieces in turn."""
    numbers = iter(range(pieces))
    async with trio.open_nursery() as nursery:
        for worker in range(CONNECTIONS):
            nursery.start_soon(work, worker, numbers)


CLIENTS: dict[str, Callable[[Job], None]] = {
    "httpx": lambda job: trio.run(with_spacesfs, job, "httpx"),
    "own": lambda job: trio.run(with_spacesfs, job, "own"),
    "raw": lambda job: trio.run(with_sockets, job),
    "obstore": lambda job: asyncio.run(with_obstore(job)),
}
NAMES = {"httpx": "httpx's transport", "own": "ours", "raw": "bare loop", "obstore": "obstore"}


def measure(job: Job) -> Measurement:
    """Do a job in this process and say what it took."""
    used, start = time.process_time(), time.perf_counter()
    CLIENTS[job.client](job)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    size = job.pieces * PIECE_BYTES
    return Measurement(size / seconds / 1e6, cpu * GIB / size)


def in_a_process(job: Job) -> Measurement:
    """Do a job in a process of its own; what it must know goes through a pipe, since it holds a key."""
    command = [sys.executable, "-m", "tests.bench.wire", "--job"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(**json.loads(done.stdout))


def jobs(rgw: RadosGateway, edge: Edge, pieces: int, clients: list[str]) -> Iterator[tuple[str, Job]]:
    """Return every job with the title of its column."""
    for title, url, ca_bundle in (("http", rgw.endpoint, ""), ("TLS", edge.https_url, str(edge.ca_bundle))):
        s3 = space(rgw, url)
        for direction in ("download", "upload"):
            method = "put_object" if direction == "upload" else "get_object"
            keys = [f"up-{worker}" if direction == "upload" else KEY for worker in range(CONNECTIONS)]
            signed = tuple(s3.generate_presigned_url(method, Params={"Bucket": BUCKET, "Key": key}) for key in keys)
            for client in clients:
                job = Job(client, direction, pieces, url, ca_bundle, rgw.access_key, rgw.secret_key, signed)
                yield f"{direction}, {title}", job


def space(rgw: RadosGateway, url: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )


def fill(s3: S3Client, pieces: int) -> None:
    """Store the object that is read, in parts."""
    s3.create_bucket(Bucket=BUCKET)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
    parts: list[CompletedPartTypeDef] = []
    for number in range(1, pieces + 1):
        part = s3.upload_part(Bucket=BUCKET, Key=KEY, UploadId=upload, PartNumber=number, Body=BODY)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket=BUCKET, Key=KEY, UploadId=upload, MultipartUpload={"Parts": parts})


def table(results: dict[str, dict[str, list[Measurement]]]) -> str:
    """Return the medians as a Markdown table."""
    lines = ["| work | client | MB/s | CPU s per GiB | CPU to httpx's | CPU to the loop's | rate to obstore's |"]
    lines.append("|---|---|---|---|---|---|---|")
    for title, by_client in results.items():
        middle = {client: median(taken) for client, taken in by_client.items()}
        for client, found in middle.items():
            ratios = (
                ratio(found.cpu_seconds, middle.get("httpx"), lambda other: other.cpu_seconds),
                ratio(found.cpu_seconds, middle.get("raw"), lambda other: other.cpu_seconds),
                ratio(found.rate, middle.get("obstore"), lambda other: other.rate),
            )
            figures = f"{found.rate:.0f} | {found.cpu_seconds:.2f} | {' | '.join(ratios)}"
            lines.append(f"| {title} | {NAMES[client]} | {figures} |")
    return "\n".join(lines)


def median(taken: list[Measurement]) -> Measurement:
    return Measurement(*(statistics.median(values) for values in zip(*map(astuple, taken), strict=True)))


def ratio(value: float, other: Measurement | None, what: Callable[[Measurement], float]) -> str:
    return f"{value / what(other):.2f}" if other else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="bytes to move (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: %(default)s)")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="default: all")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job = json.load(sys.stdin)
        print(json.dumps(asdict(measure(Job(**job | {"signed": tuple(job["signed"])})))), flush=True)
        os._exit(0)  # obstore's threads sometimes abort at an ordinary end
    clients = [name for name in options.clients if name != "obstore" or importlib.util.find_spec("obstore")]
    pieces = options.mib * (1 << 20) // PIECE_BYTES
    results: dict[str, dict[str, list[Measurement]]] = {}
    with RadosGateway() as rgw, Edge(rgw.endpoint) as edge:
        fill(space(rgw, rgw.endpoint), pieces)
        for _ in range(options.rounds):  # in turn, so that a slow minute of the machine hits all
            for title, job in jobs(rgw, edge, pieces, clients):
                found = in_a_process(job)
                results.setdefault(title, {}).setdefault(job.client, []).append(found)
                print(f"{title}, {job.client}: {found}", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()
