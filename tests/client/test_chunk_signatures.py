"""The published signatures of a body in chunks, made with our signing key.

spacesfs sends no such bodies, the engine behind Spaces stores their framing as Content-Encoding. The vectors still say
that the key we derive is the one that others expect.
"""

from __future__ import annotations

import hashlib
import hmac

from spacesfs.client.signing import signing_key

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = "20130524/us-east-1/s3/aws4_request"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = {
    b"a" * 65536: "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"a" * 1024: "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"": "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
}


def test_each_chunk_is_signed_after_the_one_before() -> None:
    key, previous = signing_key(SECRET, "20130524", "us-east-1"), SEED
    for chunk, expected in CHUNKS.items():
        hashes = [hashlib.sha256(part).hexdigest() for part in (b"", chunk)]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", "20130524T000000Z", SCOPE, previous, *hashes])
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        assert previous == expected
