"""From the pages of a listing to the entries of a directory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Protocol

from spacesfs.client.models import ListedObject, ListPage
from spacesfs.tree.names import is_name


class Lister(Protocol):
    """What is needed of a bucket here."""

    def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """Yield the pages of a listing."""


@dataclass(slots=True)
class Listing:
    """One directory as the Space shows it.

    ``objects`` holds the files by name, ``directories`` the names of sub-directories. A directory shadows a file of the
    same name. ``has_marker`` says whether the directory has an object of its own, ``marker`` is that as a listing
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

    Keys that are no file names (``a//b``, ``a/../b``, an object with data whose key ends in ``/``) are left out.
    """
    return listing_of([page async for page in lister.list(prefix, delimiter="/")], prefix)


def listing_of(pages: Iterable[ListPage], prefix: str) -> Listing:
    """Return what all the pages of a directory show."""
    listing = Listing({}, set(), has_marker=False)
    for page in pages:
        for listed in page.objects:
            name = listed.key.removeprefix(prefix)
            if is_name(name):
                listing.objects[name] = listed
            elif not name:
                listing.has_marker, listing.marker = True, listed
            else:
                listing.hides_keys = True
        names = [key[len(prefix) : -1] for key in page.prefixes]
        listing.directories.update(filter(is_name, names))
        listing.hides_keys |= not all(map(is_name, names))
    for name in listing.directories:
        listing.hides_keys |= listing.objects.pop(name, None) is not None
    return listing
