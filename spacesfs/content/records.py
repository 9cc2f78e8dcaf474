"""What the journal keeps of contents and uploads."""

from __future__ import annotations

from dataclasses import dataclass

from spacesfs.content.extents import Extent


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """A local content: ``number`` is its identity and the name of its staged file, never used twice in one journal.

    Attributes:
        size: In bytes.
        inline: All bytes, of a small content; None: they are in the staged file.
        written: The extents whose bytes are in the staged file.
        present: The extents that are known here: what of them is not written is zeros; the rest is the source's.
        dirty: The extents that differ from the source.
    """

    number: int
    size: int
    inline: bytes | None = None
    written: tuple[Extent, ...] = ()
    present: tuple[Extent, ...] = ()
    dirty: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that an open upload has: ``number`` from 1 to 10,000, the bytes of the file that it holds, its ETag."""

    number: int
    extent: Extent
    etag: str
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A multipart upload that was begun and neither completed nor aborted.

    Attributes:
        key: Of the object to be.
        content: Number of the content that is sent.
        upload_id: Empty while the reply to its creation is still to come.
        started: When it was asked for, in seconds since the epoch, by our clock.
    """

    key: str
    content: int
    upload_id: str
    started: float
    parts: tuple[SentPart, ...] = ()
