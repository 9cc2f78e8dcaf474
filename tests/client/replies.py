"""One small object, and what a server says of it."""

from __future__ import annotations

import hashlib

from spacesfs.client.client import Bucket
from tests.client.scripted import Answer

DATE = "Sun, 22 Nov 2026 07:12:09 GMT"
BODY = b"some bytes of an object"
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
STORED = Answer(headers={"ETag": f'"{ETAG}"'})
HEAD = Answer(length=len(BODY), headers={"ETag": f'"{ETAG}"', "Last-Modified": DATE})
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"


def error(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><RequestId>tx1</RequestId></Error>".encode())


def ranged(body: bytes = BODY, *, etag: str = ETAG, length: int | None = None, has_length: bool = True) -> Answer:
    headers = {
        "ETag": f'"{etag}"',
        "Last-Modified": DATE,
        "Content-Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}",
    }
    return Answer(206, body, headers, length, has_length)


async def read(bucket: Bucket, *, if_match: str | None = None) -> bytes:
    buffer = bytearray(len(BODY))
    await bucket.get_range("k", 0, memoryview(buffer), if_match=if_match)
    return bytes(buffer)
