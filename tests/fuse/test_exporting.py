"""What Prometheus is told: read back with its own parser, over a real socket."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from spacesfs.errors import MountError
from spacesfs.fuse import exporting
from spacesfs.fuse.exporting import HISTOGRAMS, METRICS, exposition, reference_table, serve_metrics
from spacesfs.fuse.messages import MountStatus, PendingChange, Reading, RequestCounts, Usage

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
HOSTILE = 'a"b\\c\nd\x1b[31m'
UNITS = ("_seconds", "_bytes", "_info", "_total", "_changes", "_process", "_draining", "_only", "_waiting")


def status() -> MountStatus:
    numbers = {field.name: 3 for field in msgspec.structs.fields(Reading) if field.type in (int, float)}
    reading = Reading(**numbers, disk=Usage(5, 10), waits={"0.1": 2, "inf": 1}, fetches={"0.1": 0, "inf": 4})
    return MountStatus(
        bucket="my-bucket",
        prefix=HOSTILE,
        mountpoint="/mnt/a",
        endpoint="https://fra1.digitaloceanspaces.com",
        pid=7,
        version="1",
        state="serving",
        since=100.0,
        durability="journal",
        read_only=False,
        read_only_reason=None,
        pending=[PendingChange("secret-name", "write", 5, 9.0, 1, "no answer"), PendingChange("b", "write", 5, 2.0)],
        pending_changes=2,
        pending_bytes=10,
        pending_failed=1,
        pending_oldest_seconds=9.0,
        memory=Usage(1, 2),
        staging=Usage(3, 4),
        requests={"read": RequestCounts(sent=6, failed=1, bytes_received=100)},
        notices=[],
        reading=reading,
    )


async def ask() -> MountStatus:
    return status()


def values(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_values_are_those_of_the_status() -> None:
    found = values(exposition(status()).decode())
    assert found[f"spacesfs_mount_info my-bucket /mnt/a {HOSTILE} 1"] == 1
    assert found["spacesfs_pending_changes"] == 2
    assert found["spacesfs_pending_failed_changes"] == 1
    assert found["spacesfs_pending_oldest_seconds"] == 9
    assert found["spacesfs_requests_total read"] == 6
    assert found["spacesfs_received_bytes_total read"] == 100
    assert found["spacesfs_offline_seconds"] == 0
    assert (found["spacesfs_read_wait_seconds_bucket 0.1"], found["spacesfs_read_wait_seconds_bucket +Inf"]) == (2, 3)
    assert (found["spacesfs_read_wait_seconds_count"], found["spacesfs_read_wait_seconds_sum"]) == (3, 3)


def test_no_name_of_a_file_is_told() -> None:
    assert b"secret-name" not in exposition(status())


def test_before_anything_was_read_there_is_less_to_tell() -> None:
    plain = values(exposition(msgspec.structs.replace(status(), reading=None)).decode())
    assert plain["spacesfs_pending_oldest_seconds"] == 9
    assert "spacesfs_fetches_total" not in plain


def test_names_follow_the_conventions() -> None:
    """https://prometheus.io/docs/practices/naming: a prefix, base units, counters end in _total."""
    for metric in METRICS:
        assert re.fullmatch(r"spacesfs_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.name.endswith(UNITS), metric.name
    assert all(histogram.name.endswith("_seconds") for histogram in HISTOGRAMS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_document_has_them_all() -> None:
    assert f"<!-- metrics -->\n{reference_table()}<!-- end of metrics -->" in DOCUMENT.read_text(), "run: make docs"


async def test_they_are_served() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_metrics, "127.0.0.1", 0, ask)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            got = await client.get("/metrics?name[]=x")
            assert (got.status_code, values(got.text)) == (200, values(exposition(status()).decode()))
            assert got.headers["content-type"].startswith("text/plain; version=")
            assert (await client.head("/metrics")).content == b""
            assert (await client.get("/../etc/passwd")).status_code == 404
            assert (await client.post("/metrics")).status_code == 405
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sent", [b"", b"\x00" * 100_000, b"GET /metrics HTTP/1.1\r\n", b"nonsense\r\n\r\n"])
async def test_nothing_a_client_sends_harms_it(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "REQUEST_SECONDS", 0.2)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_metrics, "127.0.0.1", 0, ask)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            try:
                await stream.send_all(sent)
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass  # hung up on in mid-sentence
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_one_line() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_metrics, "127.0.0.1", 0, ask)
        with pytest.raises(MountError, match="can't be listened on"):
            await serve_metrics("127.0.0.1", port, ask)
        nursery.cancel_scope.cancel()
