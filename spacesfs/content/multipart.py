"""From a changed file to an object in parts, which go up while the file is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import trio

from spacesfs.client.errors import (
    IntegrityError,
    InvalidRange,
    InvalidRequest,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    SpacesError,
)
from spacesfs.client.hashing import md5_hex, multipart_etag
from spacesfs.client.models import ObjectProperties, ObjectVersion, Part, Upload
from spacesfs.content.extents import Extent
from spacesfs.content.plan import MAX_OBJECT_BYTES, PlannedPart, cell, complete_cells, plan_parts
from spacesfs.content.records import SentPart, UploadRecord
from spacesfs.content.staged import StagedFile
from spacesfs.content.upload import ROUNDS, Busy, Check, OnlyInUpload, Seal, Source, Uploader
from spacesfs.errors import FileTooBig, FsError
from spacesfs.tasks import open_team

_CLOCK_SLACK_SECONDS = 5.0  # between our clock and the server's, when an upload is recognised by its time
_ABORT_SECONDS = 10.0
_COPIES_AT_ONCE = 16  # they take no memory here, and each moves about 250 MB/s
_MD5 = re.compile("[0-9a-f]{32}")


class UnseenStore(Protocol):
    """What is needed of a bucket to find an upload again."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw a multipart upload away."""

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the server has of an upload."""

    async def list_uploads(self, prefix: str = "") -> list[Upload]:
        """Return the uploads in progress under a prefix."""


async def abort_unseen(store: UnseenStore, key: str, started: float) -> None:
    """Throw away what a creation made whose reply did not come: an upload of this key, since then, without a part.

    One that has parts is another host's: of ours, the journal knows the id before the first part goes.

    Args:
        store: The bucket.
        key: Where the object was to be.
        started: When the upload was asked for, in seconds since the epoch.
    """
    for upload in await store.list_uploads(key):
        may_be_ours = upload.key == key and upload.initiated_ns >= (started - _CLOCK_SLACK_SECONDS) * 1e9
        with suppress(NoSuchUpload):
            if may_be_ours and not await store.list_parts(key, upload.upload_id):
                await store.abort_upload(key, upload.upload_id)


class _Flight:
    """A part on its way to an upload. Its bytes are those of the file until a change marks it as stale."""

    def __init__(self, part: PlannedPart, upload_id: str) -> None:
        self.part = part
        self.upload_id = upload_id
        self.is_stale = False
        self.has_turn = trio.Event()
        self.has_ended = trio.Event()


class MultipartUpload:
    """One multipart upload of one staged file, which may be written all the while; it hears of that by `on_change`.

    `pump` may run many times at once, and beside `finish`. A request that fails leaves the upload usable: call again.
    It ends by `finish` or `abort`. Sent bytes may be let go, by whole cells; finish before those are changed or cut.

    Invariants: ``_parts`` are those that the server has, with the bytes that the file has. ``_used`` are all numbers
    that the server may have a part of: each of them must be in the list that completes the upload.
    """

    def __init__(self, uploader: Uploader, key: str, staged: StagedFile, properties: ObjectProperties) -> None:
        self._store, self._budget = uploader.store, uploader.budget
        self._journal, self._now = uploader.journal, uploader.now
        self._key = key
        self._staged = staged
        self._properties = properties
        self._upload_id = ""
        self._started = 0.0
        self._parts: dict[int, SentPart] = {}
        self._used: set[int] = set()
        self._copied_from: ObjectVersion | None = None
        self._flights: dict[int, _Flight] = {}
        self._creating = trio.Lock()
        self._copying = trio.CapacityLimiter(_COPIES_AT_ONCE)
        self._is_sealed = False  # no part may join the list that is being completed
        self._is_over = False
        staged.on_change = self._changed

    def sent_bytes(self) -> int:
        """Return how much of the file the server has."""
        return sum(part.extent.length for part in self._parts.values())

    def size(self) -> int:
        """Return the bytes of the file as it is now."""
        return self._staged.size

    def record(self) -> UploadRecord:
        """Return what the journal is to keep."""
        parts = tuple(self._parts[number] for number in sorted(self._parts))
        return UploadRecord(self._key, self._staged.number, self._upload_id, self._started, parts)

    def thin(self) -> bool:
        """Let the staged file forget the cells that are sent, but for the first, which is often written last.

        Returns:
            Whether there were any. The disk is freed by the next `StagedFile.trim`.
        """
        sent = [p.extent for n, p in self._parts.items() if n > 1 and not p.is_copy and p.extent == cell(n)]
        here = [extent for extent in sent if self._staged.present.covers(*extent)]
        if not here or self._flights or self._is_sealed:
            return False
        token = self._staged.begin_sending()
        for extent in here:
            self._staged.let_go(extent)
        self._staged.not_sent(token)  # it differs from the source all the same
        return True

    async def resume(
        self, record: UploadRecord, listed: Sequence[Part], source: Source, base: ObjectVersion | None
    ) -> None:
        """Go on with an upload of an earlier process, of which the server lists these parts.

        Parts that were sent count where their MD5 is that of the bytes that are here: what came after the last record
        of the journal may have changed them. Those that were copied from ``base``, and those whose bytes are not here
        any more, count as the journal says.
        """
        self._upload_id, self._started, self._copied_from = record.upload_id, record.started, base
        self._used = {part.number for part in listed}
        known = {part.number: part for part in record.parts}
        for part in listed:
            start = cell(part.number).start
            extent = Extent(start, start + part.size)
            told = known.get(part.number)
            is_told = told is not None and (told.etag, told.extent) == (part.etag, extent)
            is_copy = told is not None and told.is_copy
            if extent.end > self._staged.size:
                continue
            if is_copy:
                counts = is_told and not self._staged.changed().within(*extent)
            elif self._staged.only_in_upload(extent):
                counts = is_told
            else:
                counts = await self._is_same(part, extent, source)
            if counts:
                self._parts[part.number] = SentPart(part.number, extent, part.etag, is_copy)

    async def pump(self, settled_to: int, source: Source) -> None:
        """Send the cells that are complete, changed and before ``settled_to``, and that were never sent.

        Those that were changed after they had been sent wait for `finish`: a header is often patched many times.

        Raises:
            SpacesError, FsError: A part could not be sent; the others that were on their way have arrived.
        """
        cells = complete_cells(settled_to, self._staged.present, self._staged.changed())
        await self._send([part for part in cells if part.number not in self._used], source, None)

    async def finish(self, source: Source, base: ObjectVersion | None, check: Check, seal: Seal) -> ObjectVersion:
        """Bring the rest to the Space and make the object; return it. What differs from ``base`` is sent.

        Raises:
            Busy: The file is being written without a pause.
            FileTooBig: It is over what an object may hold.
            OnlyInUpload: The upload must begin anew, or is gone, and bytes that were let go would be lost, or are.
            PreconditionFailed: The base version is gone; or what ``check`` raises.
            SpacesError, FsError: A part or the completion failed.
        """
        for _ in range(ROUNDS):
            await self._send_rest(source, base)
            if self._is_whole(base):
                await check()
            if self._is_whole(base) and (made := await self._complete(seal)) is not None:
                return made
        raise Busy

    async def abort(self) -> bool:
        """Throw the upload away; say whether it is gone. If not, the journal still has it."""
        self._end()
        with trio.move_on_after(_ABORT_SECONDS, shield=True):
            try:
                await self._abandon()
            except SpacesError:
                return False
            return True
        return False

    # --- what is to do

    def _changed(self, start: int, end: int) -> None:
        for number, part in list(self._parts.items()):
            if part.extent.start < end and start < part.extent.end:
                del self._parts[number]
        for flight in self._flights.values():
            if flight.part.extent.start < end and start < flight.part.extent.end:
                flight.is_stale = True

    def _missing(self, base: ObjectVersion | None) -> list[PlannedPart]:
        """Return the parts that the server does not have as they must be, in the order of the file."""
        source_size = base.size if base is not None else 0
        plan = plan_parts(self._staged.size, self._staged.changed(), source_size, self._used)
        return [part for part in plan if not self._has(part)]

    def _has(self, part: PlannedPart) -> bool:
        sent = self._parts.get(part.number)
        return sent is not None and sent.extent == part.extent

    def _is_whole(self, base: ObjectVersion | None) -> bool:
        return bool(self._upload_id) and not self._flights and not self._is_cut() and not self._missing(base)

    def _is_cut(self) -> bool:
        """Say whether the upload has a part beyond the end: of no use, and it can't be left out."""
        return any(cell(number).start >= max(self._staged.size, 1) for number in self._used)

    def _takes_parts(self, upload_id: str) -> bool:
        return bool(upload_id) and self._upload_id == upload_id and not self._is_sealed and not self._is_over

    async def _is_same(self, part: Part, extent: Extent, source: Source) -> bool:
        if self._staged.gaps(extent):
            return False
        async with self._budget.reserve(extent.length):
            changes = self._staged.changes
            etag = await md5_hex(await source.read_all(extent))
            return etag == part.etag and self._staged.changes == changes

    # --- requests

    async def _send_rest(self, source: Source, base: ObjectVersion | None) -> None:
        for flight in list(self._flights.values()):
            await flight.has_ended.wait()
        if self._staged.size > MAX_OBJECT_BYTES:
            raise FileTooBig
        if self._is_cut() or self._copied_from not in {None, base}:
            await self._begin_anew()
        missing = self._missing(base)
        if any(self._staged.only_in_upload(part.extent) for part in missing):
            raise OnlyInUpload
        await self._send(missing, source, base)

    async def _send(self, parts: Iterable[PlannedPart], source: Source, base: ObjectVersion | None) -> None:
        """Bring parts to the server, in parallel; the first failure is raised when all are through.

        Parts that are on their way already, and all while the upload is being completed, are left out.
        """
        todo = list(parts)
        upload_id = await self._create() if todo else ""
        failures: list[Exception] = []
        async with open_team() as team:
            for part in todo:
                if not self._takes_parts(upload_id):
                    break
                if part.number not in self._flights and not self._has(part):
                    flight = self._flights[part.number] = _Flight(part, upload_id)
                    team.start_soon(self._fly, flight, source, base, failures)
                    await flight.has_turn.wait()  # paces the loop: 10,000 parts do not become as many tasks
        if failures:
            raise failures[0]

    async def _fly(
        self, flight: _Flight, source: Source, base: ObjectVersion | None, failures: list[Exception]
    ) -> None:
        try:
            if not failures:
                await self._bring(flight, source, base)
        except NoSuchUpload:
            if self._upload_id == flight.upload_id:
                self._forget()
        except (SpacesError, FsError, OSError) as error:
            failures.append(error)
        finally:
            flight.has_turn.set()
            del self._flights[flight.part.number]
            flight.has_ended.set()

    async def _bring(self, flight: _Flight, source: Source, base: ObjectVersion | None) -> None:
        part = flight.part
        if part.is_copy:
            async with self._copying:
                flight.has_turn.set()
                await self._copy(flight, base)
            return
        async with self._budget.reserve(part.extent.length):
            flight.has_turn.set()
            if not self._takes_parts(flight.upload_id) or part.extent.end > self._staged.size:
                return
            flight.is_stale = False
            body = await source.read_all(part.extent)
            if not flight.is_stale:
                self._used.add(part.number)
                sent = await self._store.upload_part(self._key, flight.upload_id, part.number, body)
                self._arrived(flight, sent)

    async def _copy(self, flight: _Flight, base: ObjectVersion | None) -> None:
        assert base is not None, "only a base version is copied from"
        part = flight.part
        if flight.is_stale or not self._takes_parts(flight.upload_id):
            return
        self._used.add(part.number)
        self._copied_from = base
        try:
            copied = await self._store.copy_part(
                self._key, flight.upload_id, part.number, base.key, *part.extent, source_etag=base.etag
            )
        except (NoSuchKey, InvalidRange) as error:
            raise PreconditionFailed(f"{base.key} was changed during the upload", key=base.key) from error
        self._arrived(flight, copied)

    def _arrived(self, flight: _Flight, sent: Part) -> None:
        part = flight.part
        if sent.size != part.extent.length or not _MD5.fullmatch(sent.etag):
            raise IntegrityError(f"part {part.number} has {sent.size} bytes and ETag {sent.etag!r}", key=self._key)
        if self._upload_id == flight.upload_id and not flight.is_stale:
            arrived = SentPart(part.number, part.extent, sent.etag, part.is_copy)
            self._parts[part.number] = arrived
            self._journal.has_part(self._staged.number, arrived)

    async def _create(self) -> str:
        async with self._creating:
            if not self._upload_id and not self._is_over:
                await self._abort_unseen()
                self._started = self._now()
                await self._journal.keep(self.record())
                upload_id = await self._store.create_upload(self._key, self._properties)
                await self._journal.keep(replace(self.record(), upload_id=upload_id))
                self._upload_id = upload_id
            return self._upload_id

    async def _complete(self, seal: Seal) -> ObjectVersion | None:
        """Make the object of the parts that are there; nothing was awaited since they were found to be all.

        Returns:
            The object, or None if the upload is gone and must begin anew.
        """
        size = self._staged.size
        parts = [Part(number, part.etag, part.extent.length) for number, part in sorted(self._parts.items())]
        expected = multipart_etag([part.etag for part in parts])
        self._is_sealed = True
        try:
            await seal(expected)
            etag = await self._store.complete_upload(self._key, self._upload_id, parts, tags=self._properties.tags)
        except NoSuchUpload:
            self._forget()
            return None
        except InvalidRequest as error:
            if error.code != "InvalidPart":
                raise
            await self._begin_anew()  # it has a part that we don't know of: sent before a crash, and late
            return None
        finally:
            self._is_sealed = False
        if etag != expected:
            raise IntegrityError(f"completed with ETag {etag}, its parts make {expected}", key=self._key)
        self._end()
        self._forget()
        return ObjectVersion(self._key, expected, size)

    async def _begin_anew(self) -> None:
        if self._staged.only_in_upload(Extent(0, self._staged.size)):
            raise OnlyInUpload
        await self._abandon()

    async def _abandon(self) -> None:
        async with self._creating:  # the reply to a creation is awaited: it may make an upload
            if self._upload_id:
                with suppress(NoSuchUpload):
                    await self._store.abort_upload(self._key, self._upload_id)
            else:
                await self._abort_unseen()
            self._forget()

    async def _abort_unseen(self) -> None:
        if self._started:
            await abort_unseen(self._store, self._key, self._started)

    def _end(self) -> None:
        self._is_over = True
        self._staged.on_change = None

    def _forget(self) -> None:
        """The server has no such upload."""
        if self._started:
            self._journal.ended(self._staged.number)
        self._upload_id, self._started, self._copied_from = "", 0.0, None
        self._parts.clear()
        self._used.clear()
