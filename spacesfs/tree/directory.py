"""From the pages of a listing to the entries of a directory, and what this mount's changes make of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from spacesfs.client.models import ListedObject, ListPage, ObjectInfo
from spacesfs.tree.names import name_beside, name_of, segment_in, split_key

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
    showed it. ``hides_keys`` says whether there is something in the directory that is not shown.
    """

    objects: dict[str, ListedObject]
    directories: set[str]
    has_marker: bool
    hides_keys: bool = False
    marker: ListedObject | None = None

    @property
    def is_vanished(self) -> bool:
        """Say whether the Space knows nothing of this directory."""
        return not (self.objects or self.directories or self.has_marker)

    def __len__(self) -> int:
        return len(self.objects) + len(self.directories)


async def list_directory(lister: Lister, prefix: str) -> Listing:
    """List one directory; ``prefix`` is its key, which ends in ``/`` or is empty.

    Keys whose names would be too long are left out.
    """
    return listing_of([page async for page in lister.list(prefix, delimiter="/")], prefix)


def listing_of(pages: Iterable[ListPage], prefix: str) -> Listing:
    """Return what all the pages of a directory show."""
    listing = Listing({}, set(), has_marker=False)
    for page in pages:
        for listed in page.objects:
            segment = listed.key.removeprefix(prefix)
            name = name_of(segment)
            if not segment:
                listing.has_marker, listing.marker = True, listed
            elif name is not None:
                listing.objects[name] = listed
            else:
                listing.hides_keys = True
        names = [name_of(key[len(prefix) : -1]) for key in page.prefixes]
        listing.directories.update(name for name in names if name is not None)
        listing.hides_keys |= None in names
    for name in listing.directories & listing.objects.keys():
        put_beside(listing, name)
    return listing


def put_beside(listing: Listing, name: str) -> None:
    """A directory has the name of a file, which is shown beside it."""
    listed = listing.objects.pop(name, None)
    beside = name_beside(split_key(listed.key)[1]) if listed is not None else None
    if listed is not None and beside is not None:
        listing.objects[beside] = listed
    elif listed is not None:
        listing.hides_keys = True


def keys_in(listing: Listing, key: str) -> Iterator[str]:
    """Yield the keys of what a directory shows."""
    yield from (listed.key for listed in listing.objects.values())
    yield from (f"{key}{segment_in(name)}/" for name in listing.directories)


def note_file(segment: str, info: ObjectInfo | ListedObject, listing: Listing) -> None:
    """A file was stored, or described."""
    name = name_of(segment)
    if name in listing.directories:
        name = name_beside(segment)
    known = listing.objects.get(name or "")
    if (
        known is not None
        and known.etag == info.etag
        and known.last_modified_ns // _SECOND_NS == (info.last_modified_ns // _SECOND_NS)
    ):
        return  # and what a listing told is more precise
    if name is not None:
        listing.objects[name] = ListedObject(info.key, info.size, info.etag, info.last_modified_ns)


def note_directory(segment: str, listing: Listing) -> None:
    """A directory is there."""
    name = name_of(segment)
    if name is not None:
        listing.directories.add(name)
        put_beside(listing, name)


def note_no_file(segment: str, listing: Listing) -> None:
    """A file is gone."""
    for name in (name_of(segment), name_beside(segment)):
        listing.objects.pop(name or "", None)


def note_no_directory(segment: str, listing: Listing) -> None:
    """A directory is gone; a file beside it has the name then."""
    name = name_of(segment)
    listing.directories.discard(name or "")
    beside = listing.objects.pop(name_beside(segment) or "", None)
    if name is not None and beside is not None:
        listing.objects[name] = beside


def note_marker(listing: Listing) -> None:
    """The directory itself has an object."""
    listing.has_marker = True
