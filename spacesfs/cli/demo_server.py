"""The demo's S3 server: moto's, in a thread, with one bucket of sample files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
import httpx

BUCKET = "demo-space"

_SAMPLES = {
    "README.txt": "This Space lives in memory, and as long as the demo runs.\nChange what you like.\n",
    "notes/ideas.md": "# Ideas\n\n- Copy something in: it becomes an object.\n- Rename it, append to it, delete it.\n",
    "notes/2024/january.md": "A folder exists because something lies in it.\n",
    "data/temperatures.csv": "city,celsius\nAmsterdam,11\nBangalore,27\nFrankfurt,9\nSydney,22\n",
    "pictures/drop.svg": (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
        '<path fill="#0080ff" d="M12 2c4 6 7 9 7 13a7 7 0 0 1-14 0c0-4 3-7 7-13z"/></svg>\n'
    ),
}


@contextmanager
def demo_server() -> Iterator[str]:
    """Serve the sample bucket on loopback; give its endpoint.

    Raises:
        click.ClickException: The optional packages are not installed.
    """
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise click.ClickException(
            "the demo's server is missing; install it with: pip install 'spacesfs[demo]'"
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        _fill(f"{endpoint}/{BUCKET}")
        yield endpoint
    finally:
        server.stop()


def _fill(bucket_url: str) -> None:
    with httpx.Client(trust_env=False, timeout=30) as client:
        client.put(bucket_url).raise_for_status()
        for key, text in _SAMPLES.items():
            client.put(f"{bucket_url}/{key}", content=text.encode()).raise_for_status()
