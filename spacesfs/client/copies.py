"""Copies inside a region that carry everything over, whatever the object's size."""

from __future__ import annotations

from dataclasses import replace

from spacesfs.client.errors import InvalidRequest, PreconditionFailed
from spacesfs.client.models import Acl, ObjectInfo, ObjectVersion, Part
from spacesfs.client.multipart import MultipartCalls
from spacesfs.client.objects import ObjectCalls
from spacesfs.tasks import open_team

MAX_COPY_BYTES = 5 * 10**9  # S3 API, CopyObject: 5 GB
PART_BYTES = (
    512 << 20
)  # the server copies some 250 MB/s a part: longer ones are no faster, shorter ones go side by side


class CopyCalls(ObjectCalls, MultipartCalls):
    """Copying whole objects into this bucket."""

    async def copy_object(
        self, source_key: str, target_key: str, *, source_bucket: str | None = None, overwrite: bool = True
    ) -> ObjectVersion:
        """Copy an object with all that it carries: properties, metadata, tags and ACL.

        One request up to 5 GB; beyond, a multipart upload of copied parts, which is aborted if anything goes wrong.

        Args:
            source_key: The object to copy.
            target_key: Its name in this bucket.
            source_bucket: Where it is, if not here: a bucket of the same region.
            overwrite: Replace an object that is there. If not, we look before the copy begins and before it ends.

        Raises:
            PreconditionFailed: The source was replaced meanwhile, or the target is there and shall not be.
            NoSuchKey: There is no source.
            NotSupported: The source is encrypted under a customer's key.
            InvalidRequest: Source and target are one.
            AccessDenied, QuotaExceeded
        """
        if (source_bucket or self.name, source_key) == (self.name, target_key):
            raise InvalidRequest(f"{source_key!r} can't be copied onto itself", key=source_key)
        source = ObjectCalls(self._transport, source_bucket or self.name)
        info = await source.head(source_key)
        acl = await source.get_acl(source_key)
        if not overwrite:
            await self.check_absent(target_key)
        if info.size <= MAX_COPY_BYTES:
            copied = await self.copy(
                source_key, target_key, source_etag=info.etag, acl=acl, source_bucket=source_bucket
            )
            return ObjectVersion(target_key, copied.etag, info.size)
        return await self._copy_parts(source, info, target_key, acl, overwrite=overwrite)

    async def _copy_parts(
        self, source: ObjectCalls, info: ObjectInfo, target_key: str, acl: Acl, *, overwrite: bool
    ) -> ObjectVersion:
        tags = await source.get_tags(info.key) if info.tag_count else None
        properties = replace(info.properties, acl=acl, tags=tags)
        upload_id = await self.create_upload(target_key, properties)
        parts: list[Part] = []

        async def copy(number: int, start: int) -> None:
            end = min(start + PART_BYTES, info.size)
            parts.append(
                await self.copy_part(
                    target_key,
                    upload_id,
                    number,
                    info.key,
                    start,
                    end,
                    source_etag=info.etag,
                    source_bucket=source.name,
                )
            )

        try:
            async with open_team() as team:
                for number, start in enumerate(range(0, info.size, PART_BYTES), start=1):
                    team.start_soon(copy, number, start)
            # The engine ignores conditions on copied parts and on completion, so what they hold is checked here.
            await _check_same(source, info)
            if not overwrite:
                await self.check_absent(target_key)
            etag = await self.complete_upload(target_key, upload_id, parts, tags=tags)
        except BaseException:
            await self.abandon_upload(target_key, upload_id)
            raise
        return ObjectVersion(target_key, etag, info.size)


async def _check_same(source: ObjectCalls, info: ObjectInfo) -> None:
    if (await source.head(info.key)).etag != info.etag:
        raise PreconditionFailed(f"{info.key!r} was replaced while it was copied", key=info.key)
