"""A mount without the kernel: all parts of the file system over a real server, every call seen and, if wanted, held."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio
from types_boto3_s3 import S3Client

from spacesfs.assembly import MountOptions, Parts
from spacesfs.assembly import assemble as join
from spacesfs.attributes import AttributeDefaults
from spacesfs.client.call import Call, Reply
from spacesfs.client.client import Bucket
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.transport import ClientOptions, Transport
from spacesfs.filesystem import AttributeChange, Caller, FileSystem
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import Identity, StateFolder
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.servers.rgw import RadosGateway

T = TypeVar("T")
Hook = Callable[[Call], Awaitable[None]]

ME = Caller(1000, 1000)
MEMORY_BYTES = 64 << 20
STAGING_BYTES = 256 << 20


async def pass_on(call: Call) -> None:
    """Hold nothing."""


class WatchedTransport(Transport):
    """The way to a real server, with somebody at the gate.

    Attributes:
        calls: All calls so far, in order.
        before: Awaited before a call goes out; may wait or raise instead of the server.
        after: Awaited when the reply is there, before the caller has it.
    """

    calls: list[Call]
    before: Hook
    after: Hook

    async def send(self, call: Call, parse: Callable[[Reply], T]) -> T:
        """Send a call."""
        self.calls.append(call)
        await self.before(call)
        result = await super().send(call, parse)
        await self.after(call)
        return result


def watched_transport(rgw: RadosGateway) -> WatchedTransport:
    """Return the way to the server under the key that owns the test buckets."""
    endpoint, credentials = resolve_endpoint(None, rgw.endpoint), Credentials(rgw.access_key, rgw.secret_key)
    transport = WatchedTransport(endpoint, credentials, ClientOptions(), None)
    transport.calls, transport.before, transport.after = [], pass_on, pass_on
    return transport


class Hold:
    """Holds the first call of an operation until ``opened``; later ones pass."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self.arrived = trio.Event()
        self.opened = trio.Event()

    async def __call__(self, call: Call) -> None:
        if call.operation == self._operation and not self.arrived.is_set():
            self.arrived.set()
            await self.opened.wait()


@dataclass(slots=True)
class Host:
    """One host's mount of a bucket, and short words for what a program does in it."""

    fs: FileSystem
    parts: Parts
    wire: WatchedTransport

    async def settle(self) -> None:
        """Bring everything to the Space."""
        async for _ in self.fs.sync(""):
            pass

    async def frees_all(self) -> None:
        """Wait until nothing is staged: a file's bytes go once the journal has forgotten them."""
        with trio.fail_after(10):
            while self.parts.staging.used_bytes:  # noqa: ASYNC110 - a background task's doing
                await trio.sleep(0.02)

    def unsent(self) -> list[str]:
        """Return the keys of what is not in the Space: acknowledged, or not even that."""
        unsaved = [opened.inode.key for opened in self.fs.files.unsaved()]
        return sorted({*unsaved, *(intent.key for intent in self.parts.ledger.overlay)})

    async def create(self, name: str, data: bytes = b"", flags: int = 0, parent: int = ROOT_NUMBER) -> int:
        """Create a file, write to it, and leave it open."""
        handle, _ = await self.fs.create(parent, name.encode(), 0o644, flags | 2, ME)
        if data:
            await self.fs.files.write(handle, 0, data)
        return handle

    async def open(self, name: str, flags: int = 2, parent: int = ROOT_NUMBER) -> int:
        """Open an existing file."""
        inode = await self.fs.lookup(parent, name.encode())
        return await self.fs.open(inode.number, flags)

    async def close(self, handle: int) -> None:
        """Close the only descriptor of a handle, as the kernel does it: flush, then release whatever flush said."""
        try:
            await self.fs.files.flush(handle)
        finally:
            await self.fs.files.release(handle)

    async def write(self, name: str, data: bytes, parent: int = ROOT_NUMBER) -> None:
        """Create, write, close."""
        await self.close(await self.create(name, data, parent=parent))

    async def read(self, name: str, parent: int = ROOT_NUMBER) -> bytes:
        """Open, read all, close."""
        handle = await self.open(name, 0, parent)
        try:
            return bytes(await self.fs.read(handle, 0, 1 << 30))
        finally:
            await self.close(handle)

    async def names(self, number: int = ROOT_NUMBER) -> list[str]:
        """List a directory."""
        handle = await self.fs.opendir(number)
        found = [name for name, _ in self.entries(handle)]
        self.fs.releasedir(handle)
        return found

    def entries(self, handle: int) -> list[tuple[str, int]]:
        """Return the names in an open directory with their modes."""
        found: list[tuple[str, int]] = []
        position = 0
        while (entry := self.fs.entry(handle, position)) is not None:
            name, inode, position = entry
            found.append((name, inode.attributes.mode))
            self.fs.drop_unused(inode)
        return found

    async def rename(self, name: str, new_name: str) -> None:
        """Rename in the root."""
        await self.fs.names.rename(ROOT_NUMBER, name.encode(), ROOT_NUMBER, new_name.encode(), may_replace=True)

    async def chmod(self, name: str, mode: int) -> None:
        """Change permissions."""
        inode = await self.fs.lookup(ROOT_NUMBER, name.encode())
        await self.fs.setattr(inode.number, AttributeChange(mode=mode), None)

    def sent(self) -> Counter[str]:
        """Return how often each operation was called since the last time."""
        operations = Counter(call.operation for call in self.wire.calls)
        self.wire.calls.clear()
        return operations


@asynccontextmanager
async def assemble(
    rgw: RadosGateway,
    bucket_name: str,
    state: Path,
    *,
    ttl_seconds: float = 60.0,
    grace_seconds: float = 0.05,
    is_direct: bool = True,
) -> AsyncIterator[Host]:
    """Join the parts of a mount as `spacesfs.fuse.session` does; nothing of it may be left running or open after."""
    wire = watched_transport(rgw)
    bucket = Bucket(wire, bucket_name)
    folder = StateFolder.claim(state, Identity(rgw.endpoint, bucket_name, ""), print, 10.0)
    journal = Journal.open(folder.path, folder.identity)
    options = MountOptions(
        prefix="",
        defaults=AttributeDefaults(1000, 1000, 0o644, 0o755),
        memory_bytes=MEMORY_BYTES,
        staging_bytes=STAGING_BYTES,
        ttl_seconds=ttl_seconds,
        timeout_seconds=30.0,
        grace_seconds=grace_seconds,
        is_direct=is_direct,
        sends_on_fsync=False,
    )
    async with trio.open_nursery() as nursery:
        parts = await join(bucket, journal, folder.staged, options, nursery)
        try:
            yield Host(parts.filesystem, parts, wire)
            parts.table.check_invariants()
            parts.ledger.overlay.check_invariants()
        finally:
            nursery.cancel_scope.cancel()
    await journal.aclose()
    folder.release()
    await wire.close()


class Space:
    """What another client sees and does."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def publish(self, key: str, body: bytes) -> None:
        self._s3.put_object(
            Bucket=self._bucket, Key=key, Body=body, ACL="public-read", ContentType="text/x-c", Metadata={"x": "y"}
        )

    def make_private(self, key: str) -> None:
        self._s3.put_object_acl(Bucket=self._bucket, Key=key, ACL="private")

    def is_public(self, key: str) -> bool:
        return len(self._s3.get_object_acl(Bucket=self._bucket, Key=key)["Grants"]) > 1

    def properties(self, key: str) -> tuple[str, str | None]:
        """Return the type and the metadata ``x``."""
        head = self._s3.head_object(Bucket=self._bucket, Key=key)
        return head["ContentType"], head["Metadata"].get("x")

    def remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def get(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", ())]

    def contents(self) -> dict[str, bytes]:
        return {key: self.get(key) for key in self.keys()}
