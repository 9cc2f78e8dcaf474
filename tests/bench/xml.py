"""How long a page of 1,000 listed objects takes to read: ``python -m tests.bench.xml``.

Prints the median and the fastest of many readings, in milliseconds of one CPU, of a plain page, of one whose keys
hold characters that XML can't express (which is parsed twice), and of one of common prefixes alone.
"""

from __future__ import annotations

import statistics
import time

from spacesfs.client.documents import parse_listing

ENTRIES = 1000
ROUNDS = 200
BUDGET_MS = 10.0

CONTENTS = (
    "<Contents><Key>photos/2026/november/{}-IMG_{:05}.jpeg</Key><LastModified>2026-11-22T07:12:09.948Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass>"
    "<Owner><ID>user</ID><DisplayName>user</DisplayName></Owner><Type>Normal</Type></Contents>"
)
PREFIX = "<CommonPrefixes><Prefix>photos/2026/{}-{:05}/</Prefix></CommonPrefixes>"


def page(entry: str, mark: str) -> bytes:
    """Return a listing of 1,000 entries as the engine writes it."""
    entries = "".join(entry.format(mark, number, number * 1000) for number in range(ENTRIES))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}"
        "</ListBucketResult>"
    ).encode()


def milliseconds(body: bytes) -> list[float]:
    """Return how long each of many readings of a page took."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        listing = parse_listing(body)
        found.append((time.process_time_ns() - started) / 1e6)
        assert len(listing.objects) + len(listing.prefixes) == ENTRIES
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    pages = {
        "objects": page(CONTENTS, "a"),
        "objects with control characters": page(CONTENTS, "&#x01;"),
        "common prefixes": page(PREFIX, "a"),
    }
    print(f"| page of {ENTRIES:,} | KiB | median ms | best ms | within {BUDGET_MS:g} ms |")
    print("| --- | --- | --- | --- | --- |")
    for name, body in pages.items():
        times = milliseconds(body)
        median = statistics.median(times)
        verdict = "yes" if median < BUDGET_MS else "NO"
        print(f"| {name} | {len(body) // 1024} | {median:.2f} | {min(times):.2f} | {verdict} |")


if __name__ == "__main__":
    main()
