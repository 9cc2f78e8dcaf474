"""One intent becomes requests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Protocol, TypeAlias

from spacesfs.client.errors import NoSuchKey, PreconditionFailed, SpacesError
from spacesfs.client.hashing import md5_hex
from spacesfs.client.models import (
    Acl,
    CopyResult,
    ListedObject,
    ObjectInfo,
    ObjectProperties,
    ObjectVersion,
)
from spacesfs.content.budget import ByteBudget
from spacesfs.content.content import Content
from spacesfs.content.extents import Extent
from spacesfs.content.plan import SINGLE_PUT_BYTES
from spacesfs.content.upload import UploadStore
from spacesfs.errors import Conflict, StaleFile
from spacesfs.pending.carried import Carried
from spacesfs.pending.conditions import ConditionalPuts
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.looks import LookingStore, Looks
from spacesfs.pending.outcomes import Outcomes
from spacesfs.pending.removals import Removals, RemovalStore
from spacesfs.pending.uploads import Target, Uploads

log = logging.getLogger(__name__)

Stored: TypeAlias = ObjectInfo | ListedObject
"""An object that was just stored; of a copy of one that nobody has asked for no more is known than listings show."""

MAX_COPY_OBJECT_BYTES = 5 << 30  # S3 API, CopyObject: size of the source
_ASIDE = ".spacesfs-aside"


class ChangeStore(UploadStore, RemovalStore, LookingStore, Protocol):
    """What is needed of a bucket here."""

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source_etag: str | None = None,
        replace: ObjectProperties | None = None,
        acl: Acl | None = None,
    ) -> CopyResult:
        """Copy an object inside the Space."""


class Surroundings(Protocol):
    """The rest of the mount, as the executor needs it."""

    def is_held(self, intent: Intent) -> bool:
        """Say whether a program still writes to the file, or reads what would go."""

    def keep_readers(self, version: ObjectVersion) -> Awaitable[None]:
        """Let those who read a version go on although it is about to be replaced."""

    def confirmed(self, intent: Intent, info: Stored | None) -> None:
        """The Space holds what an intent wanted: an object, or nothing."""

    def step_aside(self, intent: Intent) -> str:
        """Another host has the name: give ours one beside it, and return its key."""

    def lost(self, intent: Intent, reason: str) -> None:
        """Something acknowledged can't be done any more, through another host's doing; tell the user."""


class Executor:
    """Turns intents into requests, and the Space's answers into what is known."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        store: ChangeStore,
        outcomes: Outcomes,
        carried: Carried,
        puts: ConditionalPuts,
        uploads: Uploads,
        budget: ByteBudget,
        surroundings: Surroundings,
    ) -> None:
        self._store = store
        self._outcomes = outcomes
        self._carried = carried
        self._puts = puts
        self._uploads = uploads
        self._budget = budget
        self._around = surroundings
        self._looks = Looks(store)
        self._removals = Removals(store, self._looks, self._confirm, outcomes.overtaken, surroundings.lost)

    def is_held(self, intent: Intent) -> bool:
        """Say whether an intent has to wait for a program."""
        return self._around.is_held(intent)

    def goes_first(self, intent: Intent) -> str | None:
        """Return the key that a file was renamed to while its upload goes to the one that is to be removed."""
        number = self._uploads.at(intent.key)
        users = self._outcomes.overlay.users(number) if number is not None else set()
        return min(users - {intent.key}, default=None)

    async def remove(self, intents: list[Intent]) -> None:
        """Bring many keys to hold nothing; what another host has changed stays.

        Raises:
            Conflict: One of them was changed by another host.
            SpacesError: Not all could be deleted.
        """
        await self._outcomes.secure()  # what was made of these objects must be known after a crash that finds them gone
        await self._removals.remove(intents)

    async def perform(self, intent: Intent) -> None:
        """Bring one key to what it shall hold.

        Raises:
            Conflict: Another host changed the object first; ours has another name now, or can't be stored.
            SpacesError: The Space refuses or can't be reached.
        """
        want = intent.want
        if not isinstance(want, Present):
            await self.remove([intent])
            return
        try:
            stored = await self._store_or_copy(intent, want)
        except Conflict:
            await self._give_way(intent, want)
            raise
        if stored is not None:
            self._confirm(intent, stored)

    def _confirm(self, intent: Intent, info: Stored | None) -> None:
        version = ObjectVersion(info.key, info.etag, info.size) if info is not None else None
        self._outcomes.confirm(intent, version)
        self._around.confirmed(intent, info)

    async def untie(self, intent: Intent) -> None:
        """Break a ring of renames: what this one needs is put aside."""
        want = intent.want
        assert isinstance(want, Present)
        assert want.source is not None, "only a copy can be in a ring"
        source = want.source
        key = f"{intent.key}{_ASIDE}-{intent.order}"

        async def copy() -> ObjectVersion:
            acl = await self._carried.acl(source, await self._carried.info(source))
            result = await self._store.copy(source.key, key, source_etag=source.etag, acl=acl)
            return ObjectVersion(key, result.etag, source.size)

        try:
            await self._outcomes.put_aside(intent, key, copy)
        except (PreconditionFailed, NoSuchKey, StaleFile):
            content = await self._outcomes.contents.get(want.content) if want.content is not None else None
            if content is None or not content.is_whole:
                raise
            self._outcomes.forget_source(intent)

    # --- an object made of local bytes

    async def _store_or_copy(self, intent: Intent, want: Present) -> Stored | None:
        """Return what the key holds now; None when something is left to do."""
        if want.content is None:
            return await self._copy(intent, want)
        contents = self._outcomes.contents
        content = await contents.get(want.content)
        contents.hold(content)
        try:
            return await self._send(intent, want, content)
        finally:
            contents.release(content)

    async def _send(self, intent: Intent, want: Present, content: Content) -> ObjectInfo | None:
        key_of_upload = self._uploads.key_of(content)
        if key_of_upload not in {None, intent.key}:
            await self._finish_elsewhere(content, key_of_upload or "")
            return None
        properties = await self._carried.wanted(intent.key, want)
        if intent.base is not None:
            await self._around.keep_readers(intent.base)
        if key_of_upload is None and content.staged.size <= SINGLE_PUT_BYTES:
            return await self._put(intent, content, properties)
        return await self._finish(intent, content, properties)

    async def _finish(self, intent: Intent, content: Content, properties: ObjectProperties) -> ObjectInfo | None:
        changes = content.staged.changes
        version = await self._uploads.completed_before(content)
        given: ObjectProperties | None = None
        if version is not None and content.staged.changes == changes:
            content.source = version
            content.staged.sent(content.staged.begin_sending())
        else:
            target = Target(intent.key, intent.base, intent.attempts)
            version, given = await self._uploads.finish(target, content, properties, self._outcomes.note_attempt_safely)
        if given == properties:
            return stored_info(version, properties)
        self._outcomes.confirm_bytes(intent, version)  # its times, at least, were not known when the upload began
        self._around.confirmed(intent, stored_info(version, given or properties))
        return None

    async def _put(self, intent: Intent, content: Content, properties: ObjectProperties) -> ObjectInfo:
        staged = content.staged
        async with self._budget.reserve(staged.size):
            while len(body := await content.read_all(Extent(0, staged.size))) != staged.size:
                pass  # it grew or shrank while the rest was fetched
            token = staged.begin_sending()  # no await since the last byte was read
            try:
                etag = await md5_hex(body)
                # Written over, or not saved, or not what is wanted by now: then nothing could tell the ETag again.
                if staged.written or not content.is_saved or not self._outcomes.is_as_journaled(intent):
                    await self._outcomes.note_attempt_safely(intent.key, etag)
                else:
                    self._outcomes.note_attempt(intent.key, etag)
                expected = intent.base.etag if intent.base is not None else None
                ours = {*self._attempts(intent.key), etag}
                await self._puts.put(intent.key, body, properties, expected, ours)
            except BaseException:
                staged.not_sent(token)
                raise
            version = ObjectVersion(intent.key, etag, len(body))
            content.source = version
            staged.sent(token)
        return stored_info(version, properties)

    async def _finish_elsewhere(self, content: Content, key: str) -> None:
        """A file was renamed while its parts went up: it is completed under its old name, then it can be copied."""
        old = self._outcomes.overlay.get(key)
        if isinstance(old.want if old is not None else None, Present) and not content.is_thin:
            await self._uploads.abandon(content.number)  # the old name is another file's by now
            return
        base, attempts = (old.base, old.attempts) if old is not None else (None, ())
        version = await self._uploads.completed_before(content)
        if version is None:
            target = Target(key, base, attempts)
            note = self._outcomes.note_attempt_safely
            try:
                version, _ = await self._uploads.finish(target, content, ObjectProperties(), note)
            except Conflict:  # of the old name, which the file has left
                if content.is_thin:
                    raise
                await self._uploads.abandon(content.number)
                return
        self._outcomes.rebase(key, version)
        self._outcomes.stored(content, version)

    # --- an object made of another

    async def _copy(self, intent: Intent, want: Present) -> Stored | None:
        source = want.source
        assert source is not None, "an object without local bytes is a copy"
        try:
            if source.size > MAX_COPY_OBJECT_BYTES:
                return await self._copy_large(intent, want, source)
            if source.key != intent.key:
                return await self._copy_from(intent, want, source)
            if source.key.endswith("/") and not source.size:
                return await self._put_marker(intent, want)
            return await self._copy_onto_itself(source, want)
        except Conflict:  # of the target's; the source is as it was, and may not be given up
            raise
        except (PreconditionFailed, NoSuchKey, StaleFile):
            self._outcomes.overtaken(intent)
            self._around.lost(intent, f"{source.key} was changed or removed by another host")
            return None

    async def _copy_onto_itself(self, source: ObjectVersion, want: Present) -> ObjectInfo:
        properties = await self._carried.wanted(source.key, want)
        result = await self._store.copy(source.key, source.key, source_etag=source.etag, replace=properties)
        _check_copy(source, result)
        return _copied(source, source.key, result, properties)

    async def _copy_from(self, intent: Intent, want: Present, source: ObjectVersion) -> Stored:
        """Give an object another name. What is carried is found before the target is looked at, which comes last.

        The source is described only if that is known, or worth a request: where something would be replaced, should
        the server ignore that only this version is to be copied; and of markers, which tell what a directory is like.
        """
        key = intent.key
        if want.attributes is not None or want.properties is not None:
            properties = await self._carried.wanted(key, want)
            return _copied(source, key, await self._copy_over(intent, source, given=properties), properties)
        if intent.base is not None or key.endswith("/"):
            info: ObjectInfo | None = await self._carried.info(source)
        else:
            info = self._carried.known(source)
        acl = await self._carried.acl(source, info)
        result = await self._copy_over(intent, source, acl=acl)
        if info is None:
            return ListedObject(key, source.size, result.etag, result.last_modified_ns)
        return replace(
            info,
            key=key,
            etag=result.etag,
            last_modified_ns=result.last_modified_ns,
            properties=replace(info.properties, acl=acl),
            version_id="",
        )

    async def _copy_over(
        self,
        intent: Intent,
        source: ObjectVersion,
        *,
        given: ObjectProperties | None = None,
        acl: Acl | None = None,
    ) -> CopyResult:
        """Copy to a key that holds what is expected: that is looked at just before, for copies know no conditions.

        Raises:
            Conflict: Another host has the key.
            StaleFile, PreconditionFailed, NoSuchKey: The source is not what it was.
        """
        key, base = intent.key, intent.base
        now = await self._looks.etag(key)
        if now not in {None, source.etag, *intent.attempts} and (base is None or now != base.etag):
            raise Conflict
        if base is not None:
            await self._around.keep_readers(base)
        if self._outcomes.is_as_journaled(intent):
            self._outcomes.note_attempt(key, source.etag)
        else:
            await self._outcomes.note_attempt_safely(key, source.etag)
        result = await self._store.copy(source.key, key, source_etag=source.etag, replace=given, acl=acl)
        _check_copy(source, result)
        if result.etag != source.etag and (await self._store.head(source.key)).etag != source.etag:
            raise StaleFile
        return result

    async def _put_marker(self, intent: Intent, want: Present) -> ObjectInfo:
        """Give a directory's marker other properties: a PUT of nothing has conditions, which a copy has not."""
        key, base, empty = intent.key, intent.base, memoryview(b"")
        properties = await self._carried.wanted(key, want)
        etag = await self._puts.put(key, empty, properties, base.etag if base is not None else None, intent.attempts)
        return stored_info(ObjectVersion(key, etag, 0), properties)

    async def _copy_large(self, intent: Intent, want: Present, source: ObjectVersion) -> ObjectInfo:
        """Copy what is over the limit of one request: by parts, which moves the bytes inside the Space."""
        properties = await self._carried.wanted(intent.key, want)
        if intent.base is not None and source.key != intent.key:
            await self._around.keep_readers(intent.base)
        contents = self._outcomes.contents
        content = contents.new(source.size, source)
        contents.hold(content)
        try:
            target = Target(intent.key, intent.base, intent.attempts)
            version, _ = await self._uploads.finish(target, content, properties, self._outcomes.note_attempt_safely)
        finally:
            contents.release(content)
        return stored_info(version, properties)

    def _attempts(self, key: str) -> tuple[str, ...]:
        intent = self._outcomes.overlay.get(key)
        return intent.attempts if intent is not None else ()

    # --- another host was first

    async def _give_way(self, intent: Intent, want: Present) -> None:
        """Another host has the name. A directory is a directory; a file goes beside, if all its bytes can be had."""
        if intent.key.endswith("/"):
            self._outcomes.overtaken(intent)
            return
        if want.content is not None:
            content = await self._outcomes.contents.get(want.content)
            try:
                await content.fill_gaps()
            except (StaleFile, SpacesError) as error:
                raise Conflict("another host changed the file, and the bytes not written here are gone") from error
            if self._uploads.key_of(content) is not None:  # it goes to the name that is theirs
                if content.is_thin:
                    raise Conflict("another host changed the file, and some of its bytes are only in our upload")
                await self._uploads.abandon(content.number)
                if self._uploads.key_of(content) is not None:
                    raise Conflict("another host changed the file, and our upload could not be thrown away yet")
            properties = await self._carried.wanted(intent.key, want)
            now = self._outcomes.overlay.present(intent.key)
            if now is None or now.content != want.content:
                return  # what is wanted by now meets the same in its turn
            content.source = None
            self._outcomes.put_beside(intent, self._around.step_aside(intent), properties)
            return
        self._outcomes.put_beside(intent, self._around.step_aside(intent))


def stored_info(version: ObjectVersion, properties: ObjectProperties) -> ObjectInfo:
    """Describe an object just stored; the reply to a PUT tells no time, which 0 stands for."""
    known = replace(properties, acl=properties.acl or "private", tags=properties.tags or "")
    return ObjectInfo(version.key, version.size, version.etag, 0, known)


def _copied(source: ObjectVersion, key: str, result: CopyResult, properties: ObjectProperties) -> ObjectInfo:
    info = stored_info(ObjectVersion(key, result.etag, source.size), properties)
    return replace(info, last_modified_ns=result.last_modified_ns)


def _check_copy(source: ObjectVersion, result: CopyResult) -> None:
    """Make sure that the version was copied that was meant, for the condition may be ignored.

    Raises:
        StaleFile: It was another one.
    """
    if result.etag != source.etag and "-" not in source.etag:  # servers other than RGW give copies of parts a new one
        raise StaleFile
