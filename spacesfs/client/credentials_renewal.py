"""The access key in use, and what happens when there is none yet or the server refuses it: it may have been rotated."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from spacesfs.client.credentials import Awaited, Credentials, CredentialsError
from spacesfs.client.errors import AccessDenied

log = logging.getLogger(__name__)

FindKey = Callable[[], Awaitable[Credentials]]
Ask = Callable[[], Awaitable[None]]

PAUSE_SECONDS = 5.0  # between two searches, so that a key that stays wrong does not start a command for each request

_KEY_TROUBLE = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class KeyKeeper:
    """Owns the access key of one client. Any task may ask; at most one search runs at a time.

    Only those wait for it whose own request the server refused: whoever has a good key never does.
    """

    def __init__(self, credentials: Credentials | Awaited | None, find_again: FindKey | None) -> None:
        """Begin with a key, or without one yet, or None for requests that are not signed.

        ``find_again`` looks where the key came from, and raises `CredentialsError` if there is none any more; it needs
        a deadline of its own. A key that is awaited needs it.
        """
        self._current = credentials
        self._find_again = find_again
        self._searching = trio.Lock()
        self._not_before = float("-inf")
        self._asking = trio.Lock()
        self._no_doubt_before = float("-inf")

    @property
    def current(self) -> Credentials | Awaited | None:
        """The key to sign the next request with."""
        return self._current

    async def find_awaited(self) -> None:
        """Look for a key until there is one, if there is none yet."""
        while isinstance(self._current, Awaited) and self._find_again is not None:
            async with self._searching:
                try:
                    self._current = found = await self._find_again()
                except CredentialsError as error:
                    self._current = Awaited(str(error))
                    log.warning("there is no access key yet: %s", error)
                else:
                    log.info("the access key is there, from: %s", found.source)
                    return
            await trio.sleep(PAUSE_SECONDS)

    async def renew(self, refused: Credentials) -> bool:
        """Return whether there is another key than the one refused, after looking for one if need be."""
        if self._find_again is None or self._current != refused:
            return self._current != refused
        async with self._searching:
            if self._current == refused and trio.current_time() >= self._not_before:
                await self._search(self._find_again)
                self._not_before = trio.current_time() + PAUSE_SECONDS  # a search may take longer than the pause
            return self._current != refused

    async def doubt(self, refused: Credentials, ask: Ask) -> bool:
        """Return whether there is another key, after a refusal that may have been about the key or not.

        ``ask`` makes a call to which the server says what it thinks of the key, and which renews a key that is wrong.
        That happens once in the time of a pause at most, so what a good key may not see costs no more.
        """
        if self._find_again is None or self._current != refused:
            return self._current != refused
        async with self._asking:
            if self._current == refused and trio.current_time() >= self._no_doubt_before:
                await ask()
                self._no_doubt_before = trio.current_time() + PAUSE_SECONDS
            return self._current != refused

    async def _search(self, find_again: FindKey) -> None:
        try:
            found = await find_again()
        except CredentialsError as error:
            log.warning("the access key is refused, and there is no other: %s", error)
            return
        if found != self._current:
            log.info("the access key was changed; the new one is from: %s", found.source)
        self._current = found


def blames_key(refusal: AccessDenied) -> bool:
    """Tell whether the server refused the key itself, not what it may do."""
    return refusal.code in _KEY_TROUBLE
