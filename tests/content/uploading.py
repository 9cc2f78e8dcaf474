"""What tests of uploads share: a staged file over a real directory, a journal that keeps records, a way to finish."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion, Part
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.multipart import MultipartUpload
from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.content.staging import StagedFile, StagingArea
from spacesfs.content.upload import Uploader, UploadStore
from tests.content.staged_bytes import content
from tests.memory_store import MemoryStore

MIB = 1 << 20
CELL = 8 * MIB
BODY = random.Random(2).randbytes(5 * CELL + 77)
OLD = random.Random(3).randbytes(20 * CELL)
PROPERTIES = ObjectProperties(content_type="text/plain", metadata={"mode": "33188"})


class Store(UploadStore, Protocol):
    """A bucket whose objects can be read."""

    async def head(self, key: str) -> ObjectInfo: ...
    async def get_range(
        self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None
    ) -> ObjectInfo: ...


class Journal:
    """Keeps what it is told, as the real one does."""

    def __init__(self) -> None:
        self.records: dict[int, UploadRecord] = {}
        self.history: list[str] = []

    async def keep(self, record: UploadRecord) -> None:
        self.history.append("began" if record.upload_id else "asked")
        self.records[record.content] = record

    def has_part(self, content: int, part: SentPart) -> None:
        old = self.records[content]
        parts = {each.number: each for each in (*old.parts, part)}
        self.records[content] = UploadRecord(
            old.key, content, old.upload_id, old.started, tuple(parts[number] for number in sorted(parts))
        )

    def ended(self, content: int) -> None:
        self.history.append("ended")
        self.records.pop(content, None)


class Bytes:
    """A source: staged bytes, the others from the base version."""

    def __init__(self, store: Store, staged: StagedFile, base: ObjectVersion | None) -> None:
        self._store, self._staged, self._base = store, staged, base
        self.reads: list[Extent] = []

    async def read_all(self, extent: Extent) -> memoryview:
        self.reads.append(extent)
        buffer = memoryview(bytearray(extent.length))
        for part in self._staged.present.within(*extent):
            await self._staged.read_aside(part.start, buffer[part.start - extent.start : part.end - extent.start])
        for gap in self._staged.gaps(extent):
            assert self._base is not None
            view = buffer[gap.start - extent.start : gap.end - extent.start]
            await self._store.get_range(self._base.key, gap.start, view, if_match=self._base.etag)
        return buffer


class Bench:
    """One staged file, the store it goes to, and the memory it may use."""

    def __init__(self, store: Store, directory: Path, base: ObjectVersion | None, budget_bytes: int = 4 * CELL) -> None:
        self.store = store
        self.base = base
        numbers = itertools.count(1)
        self._make_area: Callable[[], StagingArea] = lambda: StagingArea(
            directory, 1 << 30, lambda: next(numbers), 0.0, lambda _: None
        )
        self.budget = ByteBudget(budget_bytes)
        self.journal = Journal()
        self.uploader = Uploader(store, self.budget, self.journal, now=lambda: 1000.0)
        self.staged = self._make_area().create(base.size if base else 0)
        self.source = Bytes(store, self.staged, base)
        self.upload = MultipartUpload(self.uploader, "k", self.staged, PROPERTIES)
        self.sealed: list[tuple[str, int]] = []
        self.checks = 0
        self.token = 0
        self.when_checked: Callable[[], Awaitable[None]] | None = None

    def write(self, offset: int, data: bytes) -> None:
        self.staged.write(offset, data)

    def body(self, base: bytes = b"") -> bytes:
        return content(self.staged, base)

    def has_all(self, extent: Extent) -> bool:
        """Say whether the upload has all bytes of an extent as they are now."""
        had = ExtentSet()
        for part in self.upload.record().parts:
            had.add(*part.extent)
        return had.covers(*extent)

    async def pump(self) -> None:
        await self.upload.pump(self.staged.size, self.source)

    async def check(self) -> None:
        self.checks += 1
        if self.when_checked is not None:
            await self.when_checked()

    async def seal(self, etag: str) -> None:
        if self.token:
            self.staged.not_sent(self.token)
        self.token = self.staged.begin_sending()
        self.sealed.append((etag, self.staged.changes))

    async def finish(self) -> ObjectVersion:
        made = await self.upload.finish(self.source, self.base, self.check, self.seal)
        assert made.etag == self.sealed[-1][0]
        self.staged.sent(self.token)
        return made

    def restart(self, record: ContentRecord) -> None:
        """Begin anew from what the journal knows."""
        self.staged = self._make_area().restore(record)
        self.source = Bytes(self.store, self.staged, self.base)
        self.upload = MultipartUpload(self.uploader, "k", self.staged, PROPERTIES)


class MemoryBench(Bench):
    """A bench over a store in memory."""

    def __init__(self, directory: Path, base: bytes = b"", budget_bytes: int = 4 * CELL) -> None:
        self.memory = MemoryStore()
        version = self.memory.set("k", base) if base else None
        super().__init__(self.memory, directory, version, budget_bytes)

    def listed(self) -> list[Part]:
        """Return what ListParts would."""
        (parts,) = self.memory.uploads.values()
        return [
            Part(number, hashlib.md5(body, usedforsecurity=False).hexdigest(), len(body))
            for number, body in sorted(parts.items())
        ]

    def is_clean(self) -> bool:
        return not self.memory.uploads and self.budget.used_bytes == 0 and not self.journal.records
