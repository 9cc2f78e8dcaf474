"""`SpacesClient`: one endpoint, one access key; its buckets and their calls."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import trio

from spacesfs.client.addresses import AddressCalls
from spacesfs.client.admission import ClientStatistics
from spacesfs.client.bucket import no_result
from spacesfs.client.buckets import SettingCalls
from spacesfs.client.call import Call
from spacesfs.client.copies import CopyCalls
from spacesfs.client.credentials import Awaited, Credentials
from spacesfs.client.credentials_renewal import FindKey
from spacesfs.client.documents import parse_buckets
from spacesfs.client.downloads import DownloadCalls
from spacesfs.client.endpoint import Endpoint
from spacesfs.client.errors import InvalidRequest, NoSuchBucket
from spacesfs.client.listing import ListingCalls
from spacesfs.client.transport import ClientOptions, Observer, Transport
from spacesfs.client.uploads import UploadCalls
from spacesfs.client.versions import VersionCalls
from spacesfs.client.wire.pace import Bandwidth

# Old buckets may have capitals, dots and underscores, and up to 255 characters; nothing that changes a URL.
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


def check_bucket_name(name: str) -> str:
    """Return a name that a bucket can have.

    Raises:
        InvalidRequest: None can.
    """
    if not _BUCKET_NAME.fullmatch(name) or ".." in name:
        raise InvalidRequest(f"{name!r} is not a bucket name: 3 to 63 lower-case letters, digits and dashes")
    return name


class Bucket(AddressCalls, ListingCalls, VersionCalls, DownloadCalls, UploadCalls, CopyCalls, SettingCalls):
    """One bucket. Cheap to make, holds no state but its name; any number of tasks may use it."""


class SpacesClient:
    """The calls to one endpoint under one access key; use as an async context manager.

    Every call raises a `spacesfs.client.errors.SpacesError` when it fails, after the retries that make sense, and
    ends within its deadline (see `ClientOptions`).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | Awaited | None,
        *,
        options: ClientOptions | None = None,
        on_request: Observer | None = None,
        find_again: FindKey | None = None,
    ) -> None:
        """Make a client; nothing is connected yet.

        Args:
            endpoint: Where the buckets are.
            credentials: The access key, or None to ask as anybody would. One that is awaited is looked for by
                ``find_again`` from the start; until it is there calls fail with `NoKeyYet`.
            options: How the client behaves.
            on_request: Is told of every attempt of every call, on the event loop; it must not block or raise.
            find_again: Looks for the access key anew when the server does not accept it any more, at most once in five
                seconds; so a key can be changed while the client lives. Raises `CredentialsError` if there is none.

        Raises:
            EndpointError: The CA bundle can't be used.
        """
        self._transport = Transport(endpoint, credentials, options or ClientOptions(), on_request, find_again)

    async def __aenter__(self) -> Self:
        self._watching = trio.open_nursery()
        nursery = await self._watching.__aenter__()
        nursery.start_soon(self._transport.watch)
        self._stop_watching = nursery.cancel_scope.cancel
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_watching()
        try:
            await self._watching.__aexit__(None, None, None)  # what ends the block must not come out in a group
        finally:
            await self._transport.close()

    def statistics(self) -> ClientStatistics:
        """Return how fast calls may go at present, and whether the Space is there."""
        return self._transport.statistics()

    @property
    def bandwidth(self) -> Bandwidth:
        """How many bytes a second may come and go; may be set."""
        return self._transport.bandwidth

    def bucket(self, name: str) -> Bucket:
        """Return a bucket, which may or may not exist.

        Raises:
            InvalidRequest: No bucket can have this name.
        """
        return Bucket(self._transport, check_bucket_name(name))

    async def list_buckets(self) -> list[tuple[str, int]]:
        """Return the names and creation times (ns) of the account's buckets; limited keys may not."""
        return await self._transport.send(Call("ListBuckets", "list", "GET"), lambda reply: parse_buckets(reply.body))

    async def create_bucket(self, name: str) -> None:
        """Create a bucket in the endpoint's region.

        Raises:
            Conflict: It exists, here or with somebody else; some servers answer success for an own one.
            InvalidRequest: No bucket can have this name.
        """
        await self._transport.send(Call("CreateBucket", "write", "PUT", self.bucket(name).name), no_result)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            Conflict: It is not empty.
            NoSuchBucket
        """
        try:
            await self._transport.send(Call("DeleteBucket", "write", "DELETE", self.bucket(name).name), no_result)
        except NoSuchBucket as error:
            if error.attempts == 1:  # else an earlier attempt did it, only its reply was lost
                raise
