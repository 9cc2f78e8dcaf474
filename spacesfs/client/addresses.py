"""Where the objects of a bucket are for browsers: URLs that anybody can be given. Nothing is asked."""

from __future__ import annotations

from spacesfs.client import cdn_urls
from spacesfs.client.bucket import BucketCalls
from spacesfs.client.call import check_key
from spacesfs.client.errors import AccessDenied
from spacesfs.client.presign import HOUR_SECONDS, signed_url


class AddressCalls(BucketCalls):
    """URLs of one bucket's objects."""

    def url(self, key: str) -> str:
        """Return the URL of an object; who may read it is another matter."""
        return cdn_urls.origin_url(self._transport.endpoint, self.name, check_key(key))

    def cdn_url(self, key: str) -> str:
        """Return the URL of an object at the CDN, whether there is one or not.

        Raises:
            EndpointError: The bucket is not at Spaces, or can have no CDN.
        """
        return cdn_urls.cdn_url(self._transport.endpoint, self.name, check_key(key))

    def signed_url(self, key: str, *, expires_seconds: int = HOUR_SECONDS) -> str:
        """Return a URL by which anybody can read an object for a while, under the access key of this moment.

        Raises:
            AccessDenied: There is no key.
            ValueError: It would be valid for no time, or for more than a week.
        """
        access_key = self._transport.access_key
        if access_key is None:
            raise AccessDenied("without an access key nothing can be signed", key=key)
        return signed_url("GET", self._transport.endpoint, access_key, self.name, key, expires_seconds=expires_seconds)
