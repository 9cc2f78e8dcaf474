"""Large files on their way: multipart uploads of local contents."""

from __future__ import annotations

from spacesfs.client.errors import PreconditionFailed
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.content.content import Content
from spacesfs.content.upload import Uploader, plan_parts
from spacesfs.errors import Conflict
from spacesfs.pending.intents import Intent


class Uploads:
    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader

    def of(self, content: Content):
        return None

    async def finish(self, intent: Intent, content: Content, properties: ObjectProperties) -> ObjectInfo:
        staged = content.staged
        source = content.source
        size = staged.size
        parts = plan_parts(size, staged.dirty, source.size if source else 0)
        token = staged.begin_sending()

        class Src:
            def note_attempt(self, etag):
                pass

            async def read_all(self, extent):
                return await content.read_all(extent)

        try:
            etag = await self._uploader.put_parts(intent.key, Src(), parts, properties, source)
        except PreconditionFailed as error:
            staged.not_sent(token)
            raise Conflict from error
        except BaseException:
            staged.not_sent(token)
            raise
        version = ObjectVersion(intent.key, etag, size)
        content.source = version
        staged.sent(token)
        from spacesfs.pending.executor import stored_info
        return stored_info(version, properties)
