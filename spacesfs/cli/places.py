"""What users name on the command line of the remote commands: a place in a Space, a local path, or ``-``.

``BUCKET:KEY`` is a place in a Space, as with rclone; ``s3://BUCKET/KEY`` is understood too. A path inside a mount is
the place that it shows. Everything else is a local path; one that looks like a place is written ``./a:b``.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from spacesfs.cli.client import ask_status, refresh_mount, serving, sync_steps
from spacesfs.cli.paths import relative_path, resolved
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import mount_around
from spacesfs.tree.names import key_of

_PLACE = re.compile(
    r"(?:s3://(?P<s3>[^/:]+)(?:/(?P<s3key>.*))?|(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]+):(?P<key>.*))", re.DOTALL
)
STANDARD = Path("-")


@dataclass(frozen=True, slots=True)
class SpacePlace:
    """A place in a Space.

    Attributes:
        key: An object, or a folder if it is empty or ends in ``/``, or the user has not said which.
        endpoint: Where the bucket is, if that is known from a mount.
        mounted: The path inside a mount by which it was named, or None.
    """

    bucket: str
    key: str
    endpoint: str | None = None
    mounted: Path | None = None

    def __str__(self) -> str:
        return f"{self.bucket}:{self.key}"

    @property
    def is_folder(self) -> bool:
        """Whether it can only be a folder."""
        return not self.key or self.key.endswith("/")

    def below(self, name: str) -> SpacePlace:
        """Return the place of a name in this folder."""
        folder = self.key if self.is_folder else f"{self.key}/"
        return self.at(folder + name)

    def at(self, key: str) -> SpacePlace:
        """Return another place in the same bucket."""
        return SpacePlace(self.bucket, key, self.endpoint)


Place = SpacePlace | Path


def parse_place(text: str) -> Place:
    """Return what a word of the command line names.

    Raises:
        MountError: It lies in a mount that does not answer.
    """
    if text == "-":
        return STANDARD
    match = _PLACE.fullmatch(text)
    if match is not None:
        return SpacePlace(match["s3"] or match["bucket"], (match["s3key"] if match["s3"] else match["key"]) or "")
    path = resolved(text)
    mount = mount_around(path)
    if mount is None or not mount.is_ours:
        return Path(text)
    mountpoint, control = serving(path)
    status = ask_status(control)
    inside = relative_path(path, mountpoint)
    is_folder = inside and (text.endswith("/") or os.path.isdir(path))
    key = status.prefix + key_of(inside) + ("/" if is_folder else "")
    return SpacePlace(status.bucket, key, status.endpoint, path)


def space_place(text: str) -> SpacePlace:
    """Return the place in a Space that a word names.

    Raises:
        click.BadParameter: It names none.
        MountError: As `parse_place`.
    """
    place = parse_place(text)
    if isinstance(place, SpacePlace):
        return place
    raise click.BadParameter(f'"{text}" is not in a Space; write BUCKET:KEY, or a path inside a mount')


def bucket_place(text: str) -> SpacePlace:
    """As `space_place`, but a bare word is a bucket, unless it names what is there inside a mount.

    Raises:
        click.BadParameter, MountError: As `space_place`.
    """
    is_bare = not any(mark in text for mark in ":/") and text not in (".", "..")
    return space_place(f"{text}:" if is_bare and not _is_mounted(text) else text)


def _is_mounted(path: str) -> bool:
    """Tell whether something is there, and in a mount of ours."""
    mount = mount_around(resolved(path))
    return mount is not None and mount.is_ours and os.path.lexists(path)


def bring_up_to_date(place: SpacePlace) -> None:
    """Bring what a mount has not sent yet of a place to the Space; otherwise we would act on what was there before.

    Raises:
        MountError: It can't be brought there.
    """
    if place.mounted is not None:
        mountpoint, control = serving(place.mounted)
        for _ in sync_steps(control, relative_path(place.mounted, mountpoint) or None):
            pass


def show_in_mount(place: SpacePlace) -> None:
    """Let a mount look anew at a place that was changed behind its back; else it does when metadata-ttl is over."""
    if place.mounted is not None:
        with suppress(MountError):
            mountpoint, control = serving(place.mounted)
            refresh_mount(control, relative_path(place.mounted, mountpoint))
