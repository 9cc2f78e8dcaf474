"""Signs the requests of one client: with which key, in which version, at which time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from spacesfs.client import signing, signing_v2
from spacesfs.client.credentials import Awaited, Credentials
from spacesfs.client.credentials_renewal import Ask, FindKey, KeyKeeper, blames_key
from spacesfs.client.endpoint import Endpoint
from spacesfs.client.errors import AccessDenied
from spacesfs.client.hashing import Body, sha256_hex
from spacesfs.client.retry import ServerClock
from spacesfs.client.signing import UNSIGNED_PAYLOAD, Signable

SignatureVersion = Literal[2, 4]


class Signer:
    """Owns the access key of a client and its idea of the server's clock.

    Attributes:
        clock: The server's, learnt from its replies.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | Awaited | None,
        version: SignatureVersion,
        find_again: FindKey | None,
    ) -> None:
        """Begin with a key, an awaited one, or None for requests that are not signed; all as in `KeyKeeper`."""
        self.clock = ServerClock()
        self._endpoint = endpoint
        self._keys = KeyKeeper(credentials, find_again)
        self._sign = self._sign_v2 if version == 2 else self._sign_v4  # noqa: PLR2004 - Amazon's name for it
        self._hashes_body = version == 4 and not endpoint.is_secure  # noqa: PLR2004

    @property
    def key(self) -> Credentials | Awaited | None:
        """The key for the next request."""
        return self._keys.current

    async def find_awaited(self) -> None:
        """Look for a key until there is one."""
        await self._keys.find_awaited()

    async def payload_hash(self, body: Body) -> str:
        """Return what the signature says of the body: a digest where no TLS guards it and the signature has a place."""
        return await sha256_hex(body) if self._hashes_body else UNSIGNED_PAYLOAD

    def authorize(self, request: Signable, key: Credentials | None) -> dict[str, str]:
        """Return the headers that sign a request as of now; without a key there are none."""
        return {} if key is None else self._sign(request, key, self.clock.now(datetime.now(UTC)))

    async def finds_another(self, refusal: AccessDenied, key: Credentials | None, ask: Ask | None) -> bool:
        """Tell whether a refused request should be sent again because there is another key than the one it used.

        ``ask`` finds out whether the key is to blame where the refusal does not say it; see `KeyKeeper.doubt`.
        """
        if key is None:
            return False
        if blames_key(refusal):
            return await self._keys.renew(key)
        return ask is not None and not refusal.code and await self._keys.doubt(key, ask)

    def _sign_v4(self, request: Signable, key: Credentials, now: datetime) -> dict[str, str]:
        return signing.authorize(request, key, self._endpoint.region, now)

    def _sign_v2(self, request: Signable, key: Credentials, now: datetime) -> dict[str, str]:
        return signing_v2.authorize(request, key, now)
