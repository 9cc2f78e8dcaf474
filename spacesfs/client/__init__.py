"""The Spaces client: typed, retried and verified calls to one S3 endpoint. Knows nothing of files or of FUSE.

Read `client.py` first: `SpacesClient` opens the connection and hands out `Bucket`, whose calls live in `listing.py`,
`objects.py`, `multipart.py` and `access.py`. Each builds a `Call`; `transport.py` signs it, sends it and retries it.
"""
