"""Digests of request bodies; large ones in a thread, since hashing releases the interpreter lock."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import trio

Body = bytes | bytearray | memoryview

INLINE_BYTES = 256 * 1024  # about 0.5 ms of MD5: as long as the hop to a thread and back


async def md5_hex(body: Body) -> str:
    """Return the hex MD5 of a body: the ETag that an S3 server should answer."""
    return await _digest("md5", body)


async def md5_base64(body: Body) -> str:
    """Return the MD5 of a body as the Content-MD5 header wants it."""
    return base64.b64encode(bytes.fromhex(await md5_hex(body))).decode("ascii")


async def sha256_hex(body: Body) -> str:
    """Return the hex SHA-256 of a body, as Signature Version 4 wants it."""
    return await _digest("sha256", body)


def multipart_etag(part_etags: Sequence[str]) -> str:
    """Return the ETag of an object made of parts with these ETags (each a hex MD5).

    Raises:
        ValueError: A part's ETag is not hexadecimal.
    """
    joined = b"".join(map(bytes.fromhex, part_etags))
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_etags)}"


async def _digest(algorithm: str, body: Body) -> str:
    if memoryview(body).nbytes <= INLINE_BYTES:
        return _hash(algorithm, body)
    return await trio.to_thread.run_sync(_hash, algorithm, body)


def _hash(algorithm: str, body: Body) -> str:
    return hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()
