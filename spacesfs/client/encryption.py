"""SSE-C: the server encrypts an object under a key that the caller sends with every call, and does not keep it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

KEY_BYTES = 32  # AES256, the only algorithm of SSE-C

_PREFIX = "x-amz-server-side-encryption-customer"


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key of 32 bytes. Whoever loses it loses the objects under it.

    Such an object can't be copied on the server, and its key must be given to read even its description.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a customer's key has {KEY_BYTES} bytes, not {len(self.secret)}")

    def headers(self) -> dict[str, str]:
        """Return the request headers that carry the key."""
        digest = hashlib.md5(self.secret, usedforsecurity=False).digest()
        return {
            f"{_PREFIX}-algorithm": "AES256",
            f"{_PREFIX}-key": base64.b64encode(self.secret).decode("ascii"),
            f"{_PREFIX}-key-md5": base64.b64encode(digest).decode("ascii"),
        }


def key_headers(key: CustomerKey | None) -> dict[str, str]:
    """Return the request headers that carry a key, if there is one."""
    return {} if key is None else key.headers()
