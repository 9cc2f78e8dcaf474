"""The reading side of a handle: which bytes it wants next, and which it will want."""

from __future__ import annotations

from spacesfs.cache.pages import GRAIN_BYTES
from spacesfs.client.models import ObjectVersion
from spacesfs.content.extents import Extent
from spacesfs.content.readahead import START_BYTES, ReadAhead, ReadAheadOptions, Stream
from spacesfs.content.reader import PageReader


class FileReader:
    """The reading side of one handle."""

    def __init__(self, pages: PageReader, options: ReadAheadOptions) -> None:
        self._pages = pages
        self._read_ahead = ReadAhead(options)

    async def read(self, version: ObjectVersion, extent: Extent) -> bytes | memoryview:
        """Return the bytes of an extent that lies within the object, and fetch what is likely to be asked next.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        self._pages.readers.note(self, version)
        stream = self._read_ahead.observe(extent)
        view = self._pages.ready(version, extent)
        if view is not None:
            if stream.is_steady:
                self._fetch_ahead(version, stream)
            return view
        in_order = stream.is_steady or (extent.start < START_BYTES and extent.length >= GRAIN_BYTES)
        wider = self._pages.request_around(version, extent, in_order=in_order)
        self._pages.start(version, extent, wider)
        if stream.is_steady:
            stream.widen()
            self._fetch_ahead(version, stream)
        return await self._pages.read(version, extent, wider)

    @property
    def window_bytes(self) -> int:
        """How far ahead of its widest stream it fetches."""
        return max((stream.window_bytes for stream in self._read_ahead.streams), default=0)

    def close(self) -> None:
        """Nobody reads here any more."""
        self._pages.leave(self)

    def _fetch_ahead(self, version: ObjectVersion, stream: Stream) -> None:
        """Keep the distance between what a stream has read and what is here or on its way."""
        unit = self._pages.request_bytes
        if stream.reached >= stream.target or stream.reached >= version.size:
            return
        left = self._pages.prefetch(version, Extent(stream.reached, -(-stream.target // unit) * unit), self)
        if left.length and left.start <= stream.position:
            stream.narrow(unit)
        stream.reached = max(stream.reached, left.start)
