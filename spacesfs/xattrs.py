"""Extended attributes: metadata of the object, and live facts about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from spacesfs.attributes import read_xattrs, with_xattr
from spacesfs.client.endpoint import EndpointError
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ACLS, Acl, ObjectInfo, ObjectProperties
from spacesfs.errors import InvalidCall, NoAttribute, Unsupported
from spacesfs.pending.scheduler import Scheduler
from spacesfs.properties import Change, PropertyKeeper
from spacesfs.tree.inodes import Inode
from spacesfs.tree.names import is_beside

LIVE_PREFIX = "user.spaces."
ERROR_NAME = "user.spaces.error"
ACL_NAME = "user.spaces.acl"
_LIVE: dict[str, Callable[[ObjectInfo], str | None]] = {
    "user.spaces.etag": lambda info: info.etag,
    "user.spaces.key": lambda info: info.key,
    "user.spaces.content-type": lambda info: info.properties.content_type,
    "user.spaces.cache-control": lambda info: info.properties.cache_control,
}
_WRITABLE: dict[str, Callable[[ObjectProperties, str | None], ObjectProperties]] = {
    "user.spaces.content-type": lambda properties, value: replace(properties, content_type=value),
    "user.spaces.cache-control": lambda properties, value: replace(properties, cache_control=value),
    ACL_NAME: lambda properties, value: replace(properties, acl=_acl(value)),
}


class Addresses(Protocol):
    """What is needed of a bucket here."""

    def url(self, key: str) -> str:
        """Return the URL of an object."""

    def cdn_url(self, key: str) -> str:
        """Return the URL of an object at the CDN."""

    def signed_url(self, key: str) -> str:
        """Return a URL by which anybody can read an object for an hour."""


_ADDRESSES: dict[str, Callable[[Addresses, str], str]] = {
    "user.spaces.url": lambda addresses, key: addresses.url(key),
    "user.spaces.cdn-url": lambda addresses, key: addresses.cdn_url(key),
    "user.spaces.signed-url": lambda addresses, key: addresses.signed_url(key),
}


def is_offered(name: bytes) -> bool:
    """Say whether a name can exist here at all: the kernel asks for ``security.capability`` before every write."""
    return name.startswith(b"user.")


class Xattrs:
    """Reads and changes the extended attributes of files and directories."""

    def __init__(self, properties: PropertyKeeper, scheduler: Scheduler, addresses: Addresses) -> None:
        self._properties = properties
        self._scheduler = scheduler
        self._addresses = addresses

    async def get(self, inode: Inode, name: bytes) -> bytes:
        """Return a value.

        Raises:
            NoAttribute: There is none of this name.
        """
        text = _text(name)
        if inode.is_part:
            raise NoAttribute
        if text == ERROR_NAME:
            return self._error(inode)
        if text in _ADDRESSES:
            return self._address(inode, _ADDRESSES[text])
        if text == ACL_NAME:
            return await self._acl(inode)
        info = await self._properties.info(inode)
        if info is None:
            raise NoAttribute
        if text in _LIVE:
            live = _LIVE[text](info)
            if not live:
                raise NoAttribute
            return live.encode()
        try:
            return read_xattrs(info.properties.metadata)[text]
        except KeyError:
            raise NoAttribute from None

    def _error(self, inode: Inode) -> bytes:
        """Return why the last change of a file or directory is not in the Space."""
        _, error = self._scheduler.attempts(inode.key)
        if not error:
            raise NoAttribute
        return error.encode()

    def _address(self, inode: Inode, of: Callable[[Addresses, str], str]) -> bytes:
        if inode.attributes.is_directory:
            raise NoAttribute
        try:
            return of(self._addresses, inode.key).encode()
        except (EndpointError, SpacesError):  # no CDN, or no key to sign with
            raise NoAttribute from None

    async def _acl(self, inode: Inode) -> bytes:
        if not inode.key:
            raise NoAttribute
        return ((await self._properties.carried(inode)).acl or "private").encode()

    async def names(self, inode: Inode) -> list[bytes]:
        """Return the names of what is stored; live ones are not listed, so that copying a file does not copy them."""
        info = await self._properties.info(inode) if not inode.is_part else None
        return [name.encode() for name in read_xattrs(info.properties.metadata)] if info is not None else []

    async def set(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Set a value.

        Raises:
            Unsupported: The name is not under ``user.``.
            InvalidCall: It is a live one that can't be written, or the value is not text.
        """
        text = _text(name)
        if text.startswith(LIVE_PREFIX):
            write, live = _writable(text), _ascii(value)
            await self._change(inode, lambda old: write(old, live))
        else:
            await self._change(inode, lambda old: replace(old, metadata=with_xattr(old.metadata, text, value)))

    async def remove(self, inode: Inode, name: bytes) -> None:
        """Remove a value.

        Raises:
            NoAttribute: There is none of this name.
        """
        text = _text(name)
        await self.get(inode, name)
        if text.startswith(LIVE_PREFIX):
            write = _writable(text)
            await self._change(inode, lambda old: write(old, None))
        else:
            await self._change(inode, lambda old: replace(old, metadata=with_xattr(old.metadata, text, None)))

    async def _change(self, inode: Inode, change: Change) -> None:
        if not inode.key or is_beside(inode.name) or inode.is_part:
            raise Unsupported  # the root of a bucket, and a part of long names, has no object that could carry it
        await self._properties.change(inode, change)


def _text(name: bytes) -> str:
    if not is_offered(name):
        raise Unsupported
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise Unsupported from error


def _ascii(value: bytes) -> str:
    if not value.isascii() or not value.decode("ascii").isprintable():
        raise InvalidCall
    return value.decode("ascii")


def _acl(value: str | None) -> Acl:
    for acl in ACLS:
        if acl == (value or "private"):
            return acl
    raise InvalidCall


def _writable(name: str) -> Callable[[ObjectProperties, str | None], ObjectProperties]:
    try:
        return _WRITABLE[name]
    except KeyError:
        raise InvalidCall from None
