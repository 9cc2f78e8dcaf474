"""What a bucket itself is set to: location, versioning, ACL, and the documents for CORS, lifecycle and policy.

Documents go in and out as the API has them: CORS and lifecycle rules as XML, a policy as JSON. A limited key may read
location and versioning, and nothing else here.
"""

from __future__ import annotations

from typing import Literal, get_args

from spacesfs.client.bucket import BucketCalls, no_result, object_headers
from spacesfs.client.call import Call
from spacesfs.client.documents import parse_acl, parse_location, parse_versioning, versioning_document
from spacesfs.client.errors import InvalidRequest, NotFound
from spacesfs.client.hashing import md5_base64
from spacesfs.client.models import Acl, ObjectProperties, Versioning

Document = Literal["cors", "lifecycle", "policy"]

_ABSENT: dict[Document, str] = {
    "cors": "NoSuchCORSConfiguration",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "policy": "NoSuchBucketPolicy",
}


class SettingCalls(BucketCalls):
    """Calls on the bucket itself."""

    async def location(self) -> str:
        """Return the name that the server has for where the bucket is: the region at Spaces.

        Raises:
            NoSuchBucket, AccessDenied
        """
        call = Call("GetBucketLocation", "read", "GET", self.name, query=(("location", ""),))
        return await self._transport.send(call, lambda reply: parse_location(reply.body))

    async def versioning(self) -> Versioning:
        """Return whether the bucket keeps old versions.

        Raises:
            NoSuchBucket, AccessDenied
        """
        call = Call("GetBucketVersioning", "read", "GET", self.name, query=(("versioning", ""),))
        return await self._transport.send(call, lambda reply: parse_versioning(reply.body))

    async def set_versioning(self, *, is_enabled: bool) -> None:
        """Keep old versions from now on, or no more; those that are there stay.

        Raises:
            NoSuchBucket, AccessDenied
        """
        await self._put(
            "PutBucketVersioning", "versioning", versioning_document("Enabled" if is_enabled else "Suspended")
        )

    async def get_bucket_acl(self) -> Acl:
        """Return whether everyone can list the bucket; that says nothing about its objects.

        Raises:
            NoSuchBucket, AccessDenied
        """
        call = Call("GetBucketAcl", "read", "GET", self.name, query=(("acl", ""),))
        return await self._transport.send(call, lambda reply: parse_acl(reply.body))

    async def set_bucket_acl(self, acl: Acl) -> None:
        """Set whether everyone can list the bucket.

        Raises:
            InvalidRequest: There is no such ACL; nothing was sent.
            NoSuchBucket, AccessDenied
        """
        headers = object_headers(self.name, ObjectProperties(acl=acl))
        call = Call("PutBucketAcl", "write", "PUT", self.name, query=(("acl", ""),), headers=headers)
        await self._transport.send(call, no_result)

    async def get_document(self, kind: Document) -> str | None:
        """Return the bucket's CORS or lifecycle rules, or its policy; None where it has none.

        Raises:
            NoSuchBucket, AccessDenied
        """
        call = Call(f"GetBucket{kind.title()}", "read", "GET", self.name, query=((_known(kind), ""),))
        try:
            return await self._transport.send(call, lambda reply: reply.body.decode())
        except NotFound as error:
            if error.code != _ABSENT[kind]:
                raise
            return None

    async def put_document(self, kind: Document, document: str) -> None:
        """Give the bucket CORS or lifecycle rules, or a policy, instead of what it had.

        Raises:
            InvalidRequest: The server can't make sense of it.
            NoSuchBucket, AccessDenied
        """
        await self._put(f"PutBucket{kind.title()}", _known(kind), document.encode())

    async def delete_document(self, kind: Document) -> None:
        """Take the bucket's CORS or lifecycle rules or its policy away; that there are none is not an error.

        Raises:
            NoSuchBucket, AccessDenied
        """
        call = Call(f"DeleteBucket{kind.title()}", "write", "DELETE", self.name, query=((_known(kind), ""),))
        try:
            await self._transport.send(call, no_result)
        except NotFound as error:
            if error.code != _ABSENT[kind]:
                raise

    async def _put(self, operation: str, resource: str, body: bytes) -> None:
        kind = "application/json" if resource == "policy" else "application/xml"
        headers = {"content-type": kind, "content-md5": await md5_base64(body)}
        call = Call(operation, "write", "PUT", self.name, query=((resource, ""),), headers=headers, body=body)
        await self._transport.send(call, no_result)


def _known(kind: Document) -> str:
    """Return the name of a document; the engine answers a wrong one with a listing."""
    if kind not in get_args(Document):
        raise InvalidRequest(f"a bucket has no {kind!r}")
    return kind
