"""Local contents: bytes that are staged here, over the version of an object that has the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import trio
from cachetools import LRUCache

from spacesfs.client.models import ObjectVersion
from spacesfs.content.extents import Extent
from spacesfs.content.reader import RangeStore, read_version
from spacesfs.content.records import ContentRecord
from spacesfs.content.staging import StagedFile, StagedFileLost, StagingArea

_IDLE_BYTES = 2 << 10  # what a content takes beside its bytes


class Content:
    """One file's bytes, shared by its handles and by the change that brings them to the Space.

    Attributes:
        source: The version that has what is not staged; None when everything is.
        holders: Open files that use it.
        saved_changes: ``staged.changes`` when the journal last had all of it; -1 for never.
        is_thin: Some changed bytes are in an open upload only.
        lock: Held while it is saved, filled or emptied; writing does not need it.
    """

    def __init__(self, store: RangeStore, staged: StagedFile, source: ObjectVersion | None) -> None:
        self._store = store
        self.staged = staged
        self.source = source
        self.holders = 0
        self.saved_changes = -1
        self.is_thin = False
        self.lock = trio.Lock()

    @property
    def number(self) -> int:
        """Its identity in the journal."""
        return self.staged.number

    @property
    def is_clean(self) -> bool:
        """Say whether the source holds the same bytes."""
        staged, source = self.staged, self.source
        return source is not None and not staged.dirty and staged.size == source.size

    @property
    def is_saved(self) -> bool:
        """Say whether nothing would be lost with the process."""
        return self.saved_changes == self.staged.changes or self.is_clean

    @property
    def is_whole(self) -> bool:
        """Say whether all bytes are here."""
        return not self.staged.gaps(Extent(0, self.staged.size))

    def is_missing(self, start: int, end: int) -> bool:
        """Say whether changed bytes are needed that only an open upload has: it must be completed first."""
        return self.is_thin and bool(self.staged.only_in_upload(Extent(start, min(end, self.staged.size))))

    def read_present(self, extent: Extent, buffer: memoryview) -> None:
        """Copy what is staged of an extent to where it belongs in ``buffer``."""
        for present in self.staged.present.within(*extent):
            self.staged.read_into(present.start, buffer[present.start - extent.start : present.end - extent.start])

    async def read_all(self, extent: Extent) -> memoryview:
        """Return the bytes of an extent, fetching what is not here; the caller has room in the memory budget.

        Raises:
            StaleFile: The source is gone.
        """
        buffer = memoryview(bytearray(extent.length))
        source = self.source
        for gap in self.staged.gaps(extent):
            assert source is not None, "bytes that are not staged have a source"
            view = buffer[gap.start - extent.start : gap.end - extent.start]
            await read_version(self._store, source, gap.start, view)
        self.read_present(extent, buffer)  # after the awaits: what was written meanwhile counts
        return buffer

    async def fill_gaps(self) -> None:
        """Bring all bytes here.

        Raises:
            StaleFile: The source is gone.
            NoSpace: They don't fit.
        """
        for gap in self.staged.gaps(Extent(0, self.staged.size)):
            assert self.source is not None, "bytes that are not staged have a source"
            buffer = memoryview(bytearray(gap.length))
            await read_version(self._store, self.source, gap.start, buffer)
            for still in self.staged.gaps(gap):  # not over what was written meanwhile
                self.staged.fill(still.start, buffer[still.start - gap.start : still.end - gap.start])


class Contents:
    """All local contents by number: those of open files, and those that are acknowledged and on their way.

    Small ones that only wait are in memory up to ``idle_bytes``; the others are read from the journal when their turn
    comes. They count against the cap of the area all the while.

    A content goes when no file holds it and ``is_wanted`` says that no intent does. Then ``forgotten`` is told its
    number, and what deletes its file, if it has one: not to be called before the journal has forgotten the number too.
    """

    def __init__(  # noqa: PLR0917 - what it works with
        self,
        store: RangeStore,
        area: StagingArea,
        is_wanted: Callable[[int], bool],
        inline: Callable[[int], Awaitable[bytes]],
        forgotten: Callable[[int, Callable[[], None] | None], None],
        idle_bytes: int,
    ) -> None:
        self._store = store
        self._is_wanted = is_wanted
        self._inline = inline
        self._forgotten = forgotten
        self._live: dict[int, Content] = {}
        self._stored: dict[int, tuple[ContentRecord, ObjectVersion | None]] = {}
        self._reading: Counter[int] = Counter()
        self._idle: LRUCache[int, Content] = _Idle(idle_bytes, self._put_away)
        self.area = area

    def resize_idle(self, idle_bytes: int) -> None:
        """Have so much in memory at most from now on of what only waits."""
        waiting = dict(self._idle)
        self._idle = _Idle(idle_bytes, self._put_away)
        self._idle.update(waiting)

    def new(self, size_bytes: int = 0, source: ObjectVersion | None = None) -> Content:
        """Return a new content of which nothing is staged; ``source`` has its bytes, if it has any."""
        content = Content(self._store, self.area.create(size_bytes), source)
        self._live[content.number] = content
        return content

    def recover(self, record: ContentRecord, source: ObjectVersion | None) -> None:
        """Know of a content that an earlier process left; a small one is read when it is asked for."""
        self._stored[record.number] = record, source
        if record.inline is not None:
            self.area.take_held(record.size)
        else:
            with suppress(StagedFileLost):  # whoever asks for it hears of that
                self._restore(record, source)

    def _restore(self, record: ContentRecord, source: ObjectVersion | None) -> Content:
        if record.inline is not None:
            self.area.give(record.size)  # the staged file takes them anew
        content = Content(self._store, self.area.restore(record), source)
        content.saved_changes = content.staged.changes
        self._live[record.number] = content
        del self._stored[record.number]
        self.rest(content)
        return content

    def is_in_memory(self, number: int) -> bool:
        """Say whether a content is at hand without asking the journal."""
        return number in self._live

    def is_clean(self, number: int) -> bool:
        """Say whether an object of the Space has all the bytes of a content, or it is gone."""
        live = self._live.get(number)
        return live.is_clean if live is not None else number not in self._stored

    def is_whole(self, number: int) -> bool:
        """Say whether all bytes of a content are surely here: what waits in the journal alone is small, and whole."""
        live = self._live.get(number)
        return (
            live.is_whole if live is not None else number in self._stored and self._stored[number][0].inline is not None
        )

    async def get(self, number: int) -> Content:
        """Return a content. It stays until the caller's next await, even if nobody wants it by now.

        Raises:
            StagedFileLost: Its staged file is gone.
        """
        live = self._live.get(number)
        if live is not None:
            return live
        record, _ = self._stored[number]
        if record.inline is not None:
            self._reading[number] += 1
            try:
                record = replace(record, inline=await self._inline(number))
            finally:
                self._reading[number] -= 1
                if not self._is_wanted(number):  # any more; whoever asked may hold it until then
                    trio.lowlevel.current_trio_token().run_sync_soon(self.tidy, number)
        if number in self._live:  # somebody else was quicker
            return self._live[number]
        return self._restore(record, self._stored[number][1])

    def move_source(self, number: int, source: ObjectVersion) -> None:
        """What a content lies over has another name or version by now."""
        live = self._live.get(number)
        if live is not None:
            live.source = source
        elif number in self._stored:
            self._stored[number] = self._stored[number][0], source

    def hold(self, content: Content) -> None:
        """Somebody begins to use a content."""
        content.holders += 1
        self._idle.pop(content.number, None)

    def release(self, content: Content) -> None:
        """Somebody lets go of a content."""
        content.holders -= 1
        self.tidy(content.number)
        self.rest(content)

    def rest(self, content: Content) -> None:
        """A content that nobody uses waits for its turn, out of memory if need be."""
        is_here = self._live.get(content.number) is content
        if is_here and not content.holders and content.is_saved and not content.staged.has_file:
            self._idle[content.number] = content

    def _put_away(self, content: Content) -> None:
        del self._live[content.number]
        self._stored[content.number] = replace(content.staged.record(), inline=b""), content.source

    def tidy(self, number: int) -> None:
        """Free a content that nobody needs any more."""
        live = self._live.get(number)
        if self._is_wanted(number) or self._reading[number] or (live is not None and live.holders):
            return
        if live is None and number not in self._stored:
            return
        self._live.pop(number, None)
        self._idle.pop(number, None)
        record, _ = self._stored.pop(number, (None, None))
        if record is not None and record.inline is not None:
            self.area.give(record.size)
        if live is not None and not live.staged.has_file:
            live.staged.delete()
            live = None
        self._forgotten(number, live.staged.delete if live is not None else None)


class _Idle(LRUCache[int, Content]):
    """Contents in memory that only wait; the ones that have waited longest are put away."""

    def __init__(self, limit_bytes: int, put_away: Callable[[Content], None]) -> None:
        super().__init__(limit_bytes, getsizeof=lambda content: min(content.staged.size + _IDLE_BYTES, limit_bytes))
        self._put_away = put_away

    def popitem(self) -> tuple[int, Content]:
        """Put the one away that has waited longest."""
        number, content = super().popitem()
        self._put_away(content)
        return number, content
