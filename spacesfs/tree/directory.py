"""From the pages of a listing to the entries of a directory, and what this mount's changes make of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from spacesfs.client.models import ListedObject, ListPage, ObjectInfo
from spacesfs.tree.names import OWN_BYTES, name_beside, name_of, segment_in

_SECOND_NS = 10**9


class Lister(Protocol):
    """What is needed of a bucket here."""

    def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """Yield the pages of a listing."""


@dataclass(slots=True)
class Listing:
    """One directory as the Space shows it.

    ``objects`` holds the files by name, ``directories`` the names of sub-directories. A file of a directory's name has
    an escaped one. ``has_marker`` says whether the directory has an object of its own, ``marker`` is that as a listing
    showed it; if that has bytes, they are among the files.
    """

    objects: dict[str, ListedObject]
    directories: set[str]
    has_marker: bool
    marker: ListedObject | None = None

    @property
    def is_vanished(self) -> bool:
        """Say whether the Space knows nothing of this directory."""
        return not (self.objects or self.directories or self.has_marker)

    def __len__(self) -> int:
        return len(self.objects) + len(self.directories)


async def list_directory(lister: Lister, prefix: str) -> Listing:
    """List one directory; ``prefix`` is its key, which ends in ``/`` or is empty."""
    return listing_of([page async for page in lister.list(prefix, delimiter="/")], prefix)


def listing_of(pages: Iterable[ListPage], prefix: str) -> Listing:
    """Return what all the pages of a directory show."""
    listing = Listing({}, set(), has_marker=False)
    for page in pages:
        for listed in page.objects:
            segment = listed.key.removeprefix(prefix)
            if segment:
                listing.objects[name_of(segment)] = listed
                continue
            listing.has_marker, listing.marker = True, listed
            if listed.size:
                listing.objects[OWN_BYTES] = listed
        listing.directories.update(name_of(key[len(prefix) : -1]) for key in page.prefixes)
    for name in listing.directories & listing.objects.keys():
        put_beside(listing, name)
    return listing


def put_beside(listing: Listing, name: str) -> None:
    """A directory has the name of a file, which is shown beside it."""
    listed = listing.objects.pop(name, None)
    if listed is not None:
        listing.objects[name_beside(segment_in(name))] = listed


def keys_in(listing: Listing, key: str) -> Iterator[str]:
    """Yield the keys of what a directory shows."""
    yield from (listed.key for listed in listing.objects.values())
    yield from (f"{key}{segment_in(name)}/" for name in listing.directories)


def note_file(segment: str, info: ObjectInfo | ListedObject, listing: Listing) -> None:
    """A file was stored, or described."""
    name = name_of(segment)
    if name in listing.directories:
        name = name_beside(segment)
    known = listing.objects.get(name)
    if (
        known is not None
        and known.etag == info.etag
        and known.last_modified_ns // _SECOND_NS == (info.last_modified_ns // _SECOND_NS)
    ):
        return  # and what a listing told is more precise
    listing.objects[name] = ListedObject(info.key, info.size, info.etag, info.last_modified_ns)


def note_directory(segment: str, listing: Listing) -> None:
    """A directory is there."""
    name = name_of(segment)
    listing.directories.add(name)
    put_beside(listing, name)


def note_no_file(segment: str, listing: Listing) -> None:
    """A file is gone."""
    for name in (name_of(segment), name_beside(segment)):
        listing.objects.pop(name, None)


def note_no_directory(segment: str, listing: Listing) -> None:
    """A directory is gone; a file beside it has the name then."""
    name = name_of(segment)
    listing.directories.discard(name)
    beside = listing.objects.pop(name_beside(segment), None)
    if beside is not None:
        listing.objects[name] = beside


def note_marker(info: ObjectInfo, listing: Listing) -> None:
    """The directory itself has an object."""
    listing.has_marker, listing.marker = True, None
    if info.size:
        listing.objects[OWN_BYTES] = ListedObject(info.key, info.size, info.etag, info.last_modified_ns)
    else:
        listing.objects.pop(OWN_BYTES, None)
