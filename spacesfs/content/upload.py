"""What uploading a file needs, and may end with."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from spacesfs.client.hashing import md5_hex
from spacesfs.client.models import ObjectProperties, Part, Upload
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.records import SentPart, UploadRecord
from spacesfs.errors import FsError

ROUNDS = 5  # of reading or sending what changed meanwhile; a file that is written that much is asked for again later

Check = Callable[[], Awaitable[None]]
"""Raises if the Space does not hold the version that the upload replaces."""

Seal = Callable[[str], Awaitable[None]]
"""Told the ETag that the object may have from now on, whatever the reply says.

What the staged file holds when it is called is what the object will hold, so before its first await it calls
`StagedFile.begin_sending`. It may be called again, when an attempt has failed.
"""


class Busy(Exception):
    """The file was changed faster than it could be sent. Nothing is lost: ask again later."""


class OnlyInUpload(FsError):
    """Bytes that were let go are in an upload that can't be completed as it is, or were in one that is gone."""


class UploadStore(Protocol):
    """What is needed of a bucket here."""

    async def put(
        self,
        key: str,
        body: bytes | bytearray | memoryview,
        properties: ObjectProperties = ...,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Store an object in one request; return its ETag."""

    async def create_upload(self, key: str, properties: ObjectProperties = ...) -> str:
        """Begin a multipart upload; return its id."""

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray | memoryview) -> Part:
        """Send one part, verified by its MD5."""

    async def copy_part(  # noqa: PLR0917 - the order in which the S3 call names them
        self,
        key: str,
        upload_id: str,
        number: int,
        source_key: str,
        start: int,
        end: int,
        *,
        source_etag: str | None = None,
    ) -> Part:
        """Copy one part from another object inside the Space."""

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part], *, tags: str | None = None) -> str:
        """End a multipart upload, and tag the object; return its ETag."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw a multipart upload away."""

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the server has of an upload."""

    async def list_uploads(self, prefix: str = "") -> list[Upload]:
        """Return the uploads in progress under a prefix."""


class Source(Protocol):
    """The bytes of the file that is uploaded."""

    async def read_all(self, extent: Extent) -> memoryview:
        """Return the bytes of an extent: staged ones, the others from the version that the file was made from."""


class UploadJournal(Protocol):
    """Keeps what must be known of an upload after a crash. Parts whose bytes change later are found by their MD5."""

    async def keep(self, record: UploadRecord) -> None:
        """Return when an upload is known on stable storage: before it is created unseen, and before its first part."""

    def has_part(self, content: int, part: SentPart) -> None:
        """The upload of a content has this part now, in place of any other of its number."""

    def ended(self, content: int) -> None:
        """There is no upload of this content any more."""


class Uploader:
    """Uploads files to one bucket; their bytes are in memory only as far as the budget lets them."""

    def __init__(
        self, store: UploadStore, budget: ByteBudget, journal: UploadJournal, now: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.budget = budget
        self.journal = journal
        self.now = now

    async def md5_of(self, source: Source, extent: Extent) -> str:
        """Return the hex MD5 of an extent as it is now."""
        async with self.budget.reserve(extent.length):
            return await md5_hex(await source.read_all(extent))
