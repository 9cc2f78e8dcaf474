"""Large files that are sent while they are written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from spacesfs.client.errors import SpacesError
from spacesfs.content.content import Content
from spacesfs.content.plan import SINGLE_PUT_BYTES, cell_at
from spacesfs.content.reader import Spawn
from spacesfs.errors import FsError
from spacesfs.pending.carried import Carried
from spacesfs.pending.intents import Present
from spacesfs.pending.uploads import Uploads

log = logging.getLogger(__name__)


class Stream:
    """Follows the writes into one content, as long as they come in order from the start."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.settled_to = 0

    def wrote(self, offset: int, length: int) -> bool:
        """Note a write; say whether it completed a cell of a file that is worth to be sent by parts."""
        if offset != self.settled_to:
            return False
        before, self.settled_to = self.settled_to, offset + length
        is_large = self.content.source is None and self.settled_to >= SINGLE_PUT_BYTES
        return is_large and cell_at(before) != cell_at(self.settled_to)


class Streams:
    """Sends files while they are written. ``want`` tells what a key shall hold by now; None: nobody needs the bytes."""

    def __init__(self, uploads: Uploads, carried: Carried, spawn: Spawn) -> None:
        self._uploads = uploads
        self._carried = carried
        self._spawn = spawn

    def is_under_way(self, content: Content) -> bool:
        """Say whether parts of a file are in the Space, or on their way."""
        return self._uploads.key_of(content) is not None

    def advance(self, stream: Stream, key: str, want: Callable[[], Present | None]) -> None:
        """More of a file can be sent; what fails is sent when the file is closed."""
        self._spawn(partial(self._pump, stream, key, want))

    async def _pump(self, stream: Stream, key: str, want: Callable[[], Present | None]) -> None:
        content = stream.content
        try:
            if self._uploads.key_of(content) is None:
                wanted = want()
                if wanted is None:
                    return
                properties = await self._carried.wanted(key, wanted)
                if want() is None:
                    return
                self._uploads.begin(key, content, properties)
            await self._uploads.pump(content, lambda: stream.settled_to)
        except (SpacesError, FsError) as error:
            log.info("%s is not sent while it is written: %s", key, error)
