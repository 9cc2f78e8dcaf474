"""Large files on their way: one multipart upload for each content that needs one, from its first part to its object."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, NoSuchUpload, PreconditionFailed, SpacesError
from spacesfs.client.hashing import multipart_etag
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion, Part, Upload
from spacesfs.content.content import Content
from spacesfs.content.multipart import MultipartUpload, abort_unseen
from spacesfs.content.records import SentPart, UploadRecord
from spacesfs.content.upload import Uploader
from spacesfs.errors import Conflict, FsError
from spacesfs.pending.changes import Change, DropUpload, SaveContent, SavePart, SaveUpload
from spacesfs.pending.conditions import ConditionalPuts
from spacesfs.pending.progress import Progress, rate

log = logging.getLogger(__name__)

_CLEAN_UP_SECONDS = 60.0

NoteAttempt = Callable[[str, str], Awaitable[None]]
"""Told a key and the ETag that it may have from now on; returns when that is on stable storage."""


class PartStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the server has of an upload."""

    async def list_uploads(self, prefix: str = "") -> list[Upload]:
        """Return the uploads in progress under a prefix."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw a multipart upload away."""


class UploadKeeper(Protocol):
    """Where changes are safe."""

    async def commit(self, *changes: Change) -> None:
        """Return when changes are on stable storage."""

    def post(self, *changes: Change) -> None:
        """Bring changes to stable storage some time, in order."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an upload goes: the key, the version that may be replaced there (None: nothing), and ETags of our own."""

    key: str
    expected: ObjectVersion | None
    ours: Container[str]


class UploadRows:
    """Tells the journal of uploads. What it misses of one that it has heard of is found by asking the server."""

    def __init__(self, journal: UploadKeeper) -> None:
        self._commit = journal.commit
        self._post = journal.post

    async def keep(self, record: UploadRecord) -> None:
        """An upload is about to be created, or was; return when that is on stable storage."""
        await self._commit(SaveUpload(record))

    def has_part(self, content: int, part: SentPart) -> None:
        """An upload has a part."""
        self._post(SavePart(content, part))

    def ended(self, content: int) -> None:
        """There is no upload of a content any more."""
        self._post(DropUpload(content))


@dataclass(frozen=True, slots=True)
class _Begun:
    """An upload under way; its properties were given at its start, and are not known of an earlier process's.

    ``had_bytes`` were there already when this process went on with it, at ``since`` on trio's clock.
    """

    key: str
    upload: MultipartUpload
    properties: ObjectProperties | None
    had_bytes: int = 0
    since: float = field(default_factory=trio.current_time)


class Uploads:
    """The multipart uploads of a mount, by the number of their content.

    One begins when a large file is written in order, or when it is to be stored, or was left by an earlier process; it
    ends with its object, or with its content.
    """

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        uploader: Uploader,
        store: PartStore,
        puts: ConditionalPuts,
        recovered: dict[int, UploadRecord],
        journal: UploadKeeper,
        is_tight: Callable[[], bool],
    ) -> None:
        self._uploader = uploader
        self._store = store
        self._puts = puts
        self._commit = journal.commit
        self._rows = UploadRows(journal)
        self._is_tight = is_tight
        self._begun: dict[int, _Begun] = {}
        self._left = dict(recovered)
        self._is_pumping: set[int] = set()

    def key_of(self, content: Content) -> str | None:
        """Return the key that a content's upload goes to, if it has one."""
        begun = self._begun.get(content.number)
        if begun is not None:
            return begun.key
        left = self._left.get(content.number)
        return left.key if left is not None else None

    def under_way(self) -> Iterator[Progress]:
        """Yield how far each upload is of which something was sent."""
        for begun in self._begun.values():
            sent, size = begun.upload.sent_bytes(), begun.upload.size()
            if sent:
                a_second = rate(sent - begun.had_bytes, begun.since)
                yield Progress(begun.key, None, sent, size, max(size - sent, 0), a_second)

    def at(self, key: str) -> int | None:
        """Return the number of the content whose upload goes to a key, if there is one."""
        keys = {number: begun.key for number, begun in self._begun.items()}
        keys |= {number: record.key for number, record in self._left.items()}
        return next((number for number, other in keys.items() if other == key), None)

    async def finish(
        self, target: Target, content: Content, properties: ObjectProperties, note_attempt: NoteAttempt
    ) -> tuple[ObjectVersion, ObjectProperties | None]:
        """Make the object of a content; return it, and the properties that it was given when its upload began.

        Args:
            target: Where it goes; of an upload under way its own key.
            content: What to send; its source is copied from.
            properties: For an upload that has yet to begin.
            note_attempt: Awaited with the ETag before the object may appear.

        Raises:
            Conflict: Another host has the key, or changed the object, or what was to be copied is gone.
            Busy: The file is being written without a pause.
            SpacesError, FsError: It did not work; what was sent counts the next time.
        """
        key, expected = target.key, target.expected
        begun = await self._resumed(content) or self._begin(key, content, properties)
        staged, source = content.staged, content.source
        token: int | None = None

        async def check() -> None:
            await self._puts.check(key, expected.etag if expected is not None else None, target.ours)
            if source is not None and source.key != key:
                await self._puts.check(source.key, source.etag, ())

        async def seal(etag: str) -> None:
            nonlocal token
            if token is not None:
                staged.not_sent(token)
            token = staged.begin_sending()
            await note_attempt(key, etag)  # safely: it is made of parts, which nothing could tell again

        try:
            version = await begun.upload.finish(content, source, check, seal)
        except BaseException as error:
            if token is not None:
                staged.not_sent(token)
            if isinstance(error, PreconditionFailed):
                raise Conflict from error
            raise
        content.source, content.is_thin = version, False
        if token is not None:
            staged.sent(token)
        self._begun.pop(content.number, None)
        return version, begun.properties

    def begin(self, key: str, content: Content, properties: ObjectProperties) -> None:
        """Start to send a file that is still being written; nothing goes before the first `pump`."""
        if self.key_of(content) is None:
            self._begin(key, content, properties)

    async def pump(self, content: Content, settled_to: Callable[[], int]) -> None:
        """Send what is complete of a file that is being written, until nothing is. What fails is tried again later."""
        begun = self._begun.get(content.number)
        if begun is None or content.number in self._is_pumping:
            return
        self._is_pumping.add(content.number)
        try:
            done = -1
            while done < (now := settled_to()) and self._begun.get(content.number) is begun:
                done = now
                await begun.upload.pump(now, content)
                await self._thin(content, begun)
        except (SpacesError, FsError, OSError) as error:
            log.info("%s is not sent while it is written: %s", begun.key, error)
        finally:
            self._is_pumping.discard(content.number)

    async def _thin(self, content: Content, begun: _Begun) -> None:
        """When the disk's share is nearly used up, free what is sent."""
        if not self._is_tight() or not begun.upload.thin():
            return
        content.is_thin = True
        async with content.lock:
            record = content.staged.record()
            if content.saved_changes >= 0:  # the journal names the bytes: it must know first that they are elsewhere
                await self._commit(SaveContent(record))
            content.staged.trim(record)

    async def abandon(self, number: int) -> None:
        """A content is needed no more: its upload is thrown away, or left to `clean_up`."""
        begun = self._begun.pop(number, None)
        if begun is not None:
            if not await begun.upload.abort():
                self._left[number] = begun.upload.record()
        elif number in self._left:
            await self._abort_left(self._left.pop(number))

    async def clean_up(self, is_wanted: Callable[[int], bool]) -> None:
        """Throw away, as long as it takes, the uploads that are left and nobody will go on with; never returns."""
        while True:
            for number, record in list(self._left.items()):
                if not is_wanted(number) and self._left.pop(number, None) is not None:
                    await self._abort_left(record)
            await trio.sleep(_CLEAN_UP_SECONDS)

    def _begin(self, key: str, content: Content, properties: ObjectProperties) -> _Begun:
        begun = self._begun.get(content.number)
        if begun is None:
            upload = MultipartUpload(self._uploader, key, content.staged, properties)
            begun = self._begun[content.number] = _Begun(key, upload, properties)
        return begun

    async def _resumed(self, content: Content) -> _Begun | None:
        """Go on with an upload of an earlier process, if there is one and the server still has it."""
        record = self._left.pop(content.number, None)
        if record is None:
            return self._begun.get(content.number)
        try:
            listed = await self._listed(record)
            if listed is None:
                await self._abort_left(record)
                return None
            upload = MultipartUpload(self._uploader, record.key, content.staged, ObjectProperties())
            await upload.resume(record, listed, content, content.source)
        except BaseException:
            self._left[content.number] = record
            raise
        begun = self._begun[content.number] = _Begun(record.key, upload, None, upload.sent_bytes())
        return begun

    async def _listed(self, record: UploadRecord) -> list[Part] | None:
        if not record.upload_id:
            return None
        try:
            return await self._store.list_parts(record.key, record.upload_id)
        except NoSuchUpload:
            return None

    async def completed_before(self, content: Content) -> ObjectVersion | None:
        """Return the object that an earlier process made of a content and did not live to hear of; None if it did not.

        The parts that the journal has are compared with the bytes that are here.
        """
        record = self._left.get(content.number)
        if record is None or not record.parts or await self._listed(record) is not None:
            return None
        parts = sorted(record.parts, key=lambda part: part.number)
        etag = multipart_etag([part.etag for part in parts])
        version = ObjectVersion(record.key, etag, content.staged.size)
        if parts[-1].extent.end != version.size or not await self._holds(version):
            return None
        for part in parts:
            if not part.is_copy and part.etag != await self._uploader.md5_of(content, part.extent):
                return None
        self._left.pop(content.number, None)
        self._rows.ended(content.number)
        return version

    async def _holds(self, version: ObjectVersion) -> bool:
        try:
            return (await self._store.head(version.key)).etag == version.etag
        except NoSuchKey:
            return False

    async def _abort_left(self, record: UploadRecord) -> None:
        """Throw an earlier process's upload away; also one that was asked for and whose reply did not come."""
        try:
            if not record.upload_id:
                await abort_unseen(self._store, record.key, record.started)
            else:
                with suppress(NoSuchUpload):
                    await self._store.abort_upload(record.key, record.upload_id)
        except SpacesError as error:
            log.info("an upload of %s is left for later: %s", record.key, error)
            self._left.setdefault(record.content, record)
            return
        self._rows.ended(record.content)
