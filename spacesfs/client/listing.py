"""Listing: pages of objects and common prefixes, and what to do when a server pages badly.

Version 2 of ListObjects is asked first. Where it is refused, version 1. Where a page says that there is more but
gives no token, the next one starts after its last name. A page that then does not advance is asked for once more
with version 1; if that does not advance either, the listing fails: a silent end would look like deleted files.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from spacesfs.client.bucket import BucketCalls
from spacesfs.client.call import Call
from spacesfs.client.documents import Listing, parse_listing
from spacesfs.client.errors import BadReply, NotSupported
from spacesfs.client.models import ListPage

MAX_PAGE_KEYS = 1000  # S3 API: max-keys is clipped to this

MAX_IDLE_PAGES = 100  # in a row, without a new name; an honest server sends few, one that goes in circles no end

_LAST_CHARACTER = "\U0010ffff"  # sorts after every other, in UTF-8 as in code points


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a page begins.

    ``after`` is the last name before it ("" at the start): names up to it are not ours. ``token`` is the server's
    own way to say so, if it gave one. ``idle_pages`` before it brought no new name.
    """

    after: str = ""
    token: str = ""
    version: int = 2
    idle_pages: int = 0

    def ways_to_ask(self) -> tuple[_Position, ...]:
        """Return this position, and where that is version 2, as version 1 too."""
        return (self,) if self.version == 1 else (self, _Position(self.after, version=1, idle_pages=self.idle_pages))

    def pack(self) -> str:
        return json.dumps([self.after, self.token, self.version, self.idle_pages])

    @classmethod
    def unpack(cls, resume: str) -> _Position:
        return cls(*json.loads(resume))


class ListingCalls(BucketCalls):
    """Listing calls of one bucket."""

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        max_keys: int = MAX_PAGE_KEYS,
        start_after: str | None = None,
        resume: str | None = None,
    ) -> ListPage:
        """Return one page of the names that begin with ``prefix``.

        Args:
            prefix: "" for all.
            delimiter: Names that hold it after the prefix are returned once, as a common prefix.
            max_keys: At most so many entries, up to 1,000.
            start_after: Begin after this name.
            resume: Continue where an earlier page of the same listing ended; goes before ``start_after``.

        Raises:
            NoSuchBucket, AccessDenied, BadReply
        """
        start = _Position.unpack(resume) if resume else _Position(after=start_after or "")
        query = (("prefix", prefix), ("max-keys", str(max_keys)), *((("delimiter", delimiter),) if delimiter else ()))
        for position in start.ways_to_ask():
            try:
                page = _page(await self._list(query, position), position)
            except NotSupported:
                if position.version == 1:
                    raise
            else:
                if page is not None:
                    return page
        raise BadReply(f"ListObjects {self.name!r}: the listing does not get past {start.after!r}")

    def resume_after(self, key: str) -> str:
        """Return what resumes any listing after a key, as ``resume`` of a page does."""
        return _Position(key).pack()

    async def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """Return all pages of the names that begin with ``prefix``; raises as `list_page`."""
        resume: str | None = None
        while True:
            page = await self.list_page(prefix, delimiter=delimiter, resume=resume)
            yield page
            if page.resume is None:
                return
            resume = page.resume

    async def _list(self, query: tuple[tuple[str, str], ...], position: _Position) -> Listing:
        call = Call("ListObjects", "list", "GET", self.name, query=(*query, *_position_query(position)))
        return await self._transport.send(call, lambda reply: parse_listing(reply.body))


def _position_query(position: _Position) -> tuple[tuple[str, str], ...]:
    """Return how to ask for a page that begins at a position."""
    if position.version == 1:
        return (("marker", position.after),) if position.after else ()
    if position.token:
        return (("list-type", "2"), ("continuation-token", position.token))
    return (("list-type", "2"), ("start-after", position.after)) if position.after else (("list-type", "2"),)


def _page(listing: Listing, position: _Position) -> ListPage | None:
    """Make a page of what the server sent, without what came before; None if it promises more but does not advance."""
    objects = tuple(entry for entry in listing.objects if entry.key > position.after)
    prefixes = tuple(prefix for prefix in listing.prefixes if not _was_listed(prefix, position.after))
    if not listing.is_truncated:
        return ListPage(objects, prefixes, None)
    names = [entry.key for entry in objects[-1:]] + [prefix + _LAST_CHARACTER for prefix in prefixes[-1:]]
    last = max(names, default=max(listing.next_marker, position.after))
    idle_pages = position.idle_pages + 1 if last == position.after else 0
    if idle_pages > MAX_IDLE_PAGES or (idle_pages and listing.token in ("", position.token)):
        return None
    return ListPage(objects, prefixes, _Position(last, listing.token, position.version, idle_pages).pack())


def _was_listed(prefix: str, after: str) -> bool:
    """Tell whether a common prefix belongs before ``after``; one that ``after`` lies in the middle of does not."""
    if after.startswith(prefix):
        return after.endswith(_LAST_CHARACTER)
    return prefix < after
