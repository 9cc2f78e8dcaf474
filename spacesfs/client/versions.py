"""Listing the versions of a bucket's objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from spacesfs.client.bucket import BucketCalls
from spacesfs.client.call import Call
from spacesfs.client.documents import parse_versions
from spacesfs.client.errors import BadReply
from spacesfs.client.models import ListedVersion


class VersionCalls(BucketCalls):
    """Calls on the versions of one bucket. `head`, `stream` and `delete` take a version's id."""

    async def list_versions(self, prefix: str) -> AsyncGenerator[list[ListedVersion], None]:
        """Return all versions and marks of deletion under a prefix, page by page: by key, the latest of a key first.

        Raises:
            NoSuchBucket, AccessDenied, BadReply
        """
        marker: tuple[str, str] | None = None
        while True:
            query = [("versions", ""), ("prefix", prefix)]
            if marker is not None:
                query += [("key-marker", marker[0]), ("version-id-marker", marker[1])]
            call = Call("ListObjectVersions", "list", "GET", self.name, query=tuple(query))
            page, following = await self._transport.send(call, lambda reply: parse_versions(reply.body))
            yield page
            if following is None:
                return
            if following == marker:
                raise BadReply(f"ListObjectVersions {self.name!r}: the listing does not get past {following[0]!r}")
            marker = following
