"""The Spaces client: typed, retried and verified calls to one S3 endpoint. Knows nothing of mounts.

Read `client.py` first: `SpacesClient` opens the connection and hands out `Bucket`, whose calls live in `listing.py`,
`versions.py`, `objects.py`, `multipart.py`, `access.py` and `buckets.py`. Each builds a `Call`; `transport.py` signs,
sends and retries it. `downloads.py`, `uploads.py` and `copies.py` make transfers of any size out of those calls.
`presign.py` and `cdn.py` stand beside: they need no connection, or another one. docs/client.md shows them all.
"""

import sys

# httpx has a command of its own, which loads rich: a seventh of the start of ours. An absent one it does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as the import system has it
