"""What belongs to a bucket or an object beside its bytes: usage, ACL, tags."""

from __future__ import annotations

from collections.abc import Mapping

from spacesfs.client.bucket import BucketCalls, no_result, object_headers
from spacesfs.client.call import Call, Reply, check_key
from spacesfs.client.documents import parse_acl, parse_number, parse_tags, tags_document
from spacesfs.client.hashing import md5_base64
from spacesfs.client.models import Acl, BucketUsage, ObjectProperties


class AccessCalls(BucketCalls):
    """Usage, ACL and tag calls of one bucket."""

    async def usage(self) -> BucketUsage:
        """Ask for the bucket: does it exist, may we use it, how full is it?

        Raises:
            NoSuchBucket, AccessDenied
        """
        return await self._transport.send(Call("HeadBucket", "read", "HEAD", self.name), _usage)

    async def get_acl(self, key: str) -> Acl:
        """Return whether everyone can read an object.

        Raises:
            NoSuchKey, AccessDenied
        """
        call = Call("GetObjectAcl", "read", "GET", self.name, check_key(key), query=(("acl", ""),))
        return await self._transport.send(call, lambda reply: parse_acl(reply.body))

    async def set_acl(self, key: str, acl: Acl) -> None:
        """Set whether everyone can read an object; its version stays, Last-Modified becomes now.

        Raises:
            InvalidRequest: There is no such ACL; nothing was sent.
            NoSuchKey, AccessDenied
        """
        headers = object_headers(key, ObjectProperties(acl=acl))
        call = Call("PutObjectAcl", "write", "PUT", self.name, check_key(key), query=(("acl", ""),), headers=headers)
        await self._transport.send(call, no_result)

    async def get_tags(self, key: str) -> str | None:
        """Return an object's tags, query-encoded as `ObjectProperties.tags` has them; None if it has none.

        Raises:
            NoSuchKey, AccessDenied
        """
        call = Call("GetObjectTagging", "read", "GET", self.name, check_key(key), query=(("tagging", ""),))
        return await self._transport.send(call, lambda reply: parse_tags(reply.body))

    async def set_tags(self, key: str, tags: str) -> None:
        """Set an object's tags, query-encoded as `ObjectProperties.tags` has them.

        The object's version stays, its Last-Modified becomes now.

        Raises:
            NoSuchKey, AccessDenied, InvalidRequest
        """
        body = tags_document(tags)
        headers = {"content-type": "application/xml", "content-md5": await md5_base64(body)}
        query = (("tagging", ""),)
        call = Call(
            "PutObjectTagging", "write", "PUT", self.name, check_key(key), query=query, headers=headers, body=body
        )
        await self._transport.send(call, no_result)

    async def delete_tags(self, key: str) -> None:
        """Take all tags off an object; its version and Last-Modified stay.

        Raises:
            NoSuchKey, AccessDenied
        """
        query = (("tagging", ""),)
        await self._transport.send(
            Call("DeleteObjectTagging", "write", "DELETE", self.name, check_key(key), query=query), no_result
        )


def _usage(reply: Reply) -> BucketUsage:
    headers = reply.headers
    return BucketUsage(
        _number(headers, "x-rgw-bytes-used"),
        _number(headers, "x-rgw-object-count"),
        _number(headers, "x-rgw-quota-bucket-size"),  # -1, which is no number here, stands for none
        _number(headers, "x-rgw-quota-bucket-objects"),
    )


def _number(headers: Mapping[str, str], name: str) -> int | None:
    return parse_number(headers.get(name, ""))
