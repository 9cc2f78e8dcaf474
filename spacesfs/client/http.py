"""httpx's client as it is used here."""

from __future__ import annotations

import httpx


class _NoCookies(httpx.Cookies):
    """Keeps none. Spaces send none that matter, and looking for them takes a tenth of a small request's CPU."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignore the cookies of a response."""


class HttpClient(httpx.AsyncClient):
    """httpx's client without a memory."""

    _nothing = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """No cookies at all."""
        return self._nothing

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        """Ignore cookies."""
