"""What the client makes of servers that fail, lie, stall or break off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio

from spacesfs.client.call import RequestRecord
from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import (
    AccessDenied,
    BadReply,
    EncryptedObject,
    IntegrityError,
    InvalidRequest,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotConnected,
    PreconditionFailed,
    ServerFault,
    SpacesError,
    Unreachable,
)
from spacesfs.client.hashing import multipart_etag
from spacesfs.client.models import ObjectProperties, Part
from spacesfs.client.transport import ClientOptions
from tests.client.replies import BODY, DATE, ETAG, HEAD, HTML, STORED, error, ranged, read
from tests.client.scripted import (
    SECRET_KEY,
    Answer,
    Reset,
    Silence,
    Step,
    scripted,
    scripted_server,
)

ONCE = ClientOptions(max_attempts=1)
TWICE = ClientOptions(max_attempts=2)


@pytest.mark.parametrize(
    "fault",
    [
        Reset(),
        error(500, "InternalError"),
        error(503, "SlowDown"),
        Answer(503, HTML),
        Answer(502, HTML),
        Answer(408),
        ranged(BODY[:5], length=len(BODY)),
        ranged(BODY[:5], has_length=False),
        ranged(BODY + b"more"),
        ranged(b""),
        Answer(206, BODY, {"ETag": ETAG, "Last-Modified": DATE}),
        Answer(206, BODY, {"ETag": ETAG, "Last-Modified": DATE, "Content-Range": "bytes 1-23/99"}),
    ],
    ids=lambda fault: repr(fault)[:60],
)
async def test_a_read_gets_over_a_fault(fault: Step) -> None:
    async with scripted(fault, ranged()) as (client, server):
        assert await read(client.bucket("bucket")) == BODY
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Reset(), Unreachable),
        (error(500, "InternalError"), ServerFault),
        (ranged(BODY[:5], has_length=False), BadReply),
        (ranged(BODY + b"more"), BadReply),
        (Answer(200, BODY + b"more", {"ETag": ETAG}), BadReply),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_read_gives_up(fault: Step, expected: type[SpacesError]) -> None:
    async with scripted(fault, options=TWICE) as (client, server):
        with pytest.raises(expected) as failure:
            await read(client.bucket("bucket"))
        assert len(server.requests) == 2
        assert failure.value.attempts == 2
        assert failure.value.key == "k"


async def test_a_server_that_ignores_ranges_is_fine_where_the_whole_object_fits() -> None:
    answer = Answer(200, BODY, {"ETag": ETAG, "Last-Modified": DATE})
    async with scripted(answer) as (client, server):
        buffer = bytearray(100)
        info = await client.bucket("bucket").get_range("k", 0, memoryview(buffer))
        assert (info.size, bytes(buffer[: info.size])) == (len(BODY), BODY)
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_another_version_than_asked_for_is_never_returned() -> None:
    async with scripted(ranged(etag="other")) as (client, server):
        with pytest.raises(PreconditionFailed):
            await read(client.bucket("bucket"), if_match=ETAG)
        assert len(server.requests) == 1


async def test_nobody_listens() -> None:
    async with scripted_server(Answer()) as server:
        endpoint = resolve_endpoint(None, server.url)
    async with SpacesClient(endpoint, Credentials("id", SECRET_KEY), options=TWICE) as client:
        with pytest.raises(NotConnected, match="can't be reached: Connection refused") as failure:
            await client.list_buckets()
    assert failure.value.attempts == 2


async def test_a_name_that_does_not_resolve() -> None:
    endpoint = resolve_endpoint(None, "https://spaces.invalid")
    async with SpacesClient(endpoint, Credentials("id", SECRET_KEY), options=ONCE) as client:
        with pytest.raises(NotConnected, match=r"https://spaces\.invalid can't be reached: .*[Nn]ame"):
            await client.list_buckets()


async def test_final_errors_are_not_repeated() -> None:
    async with scripted(error(403, "AccessDenied")) as (client, server):
        with pytest.raises(AccessDenied) as failure:
            await client.bucket("bucket").get_acl("k")
        assert len(server.requests) == 1
        assert failure.value.request_id == "tx1"


async def test_secrets_stay_out_of_errors() -> None:
    async with scripted(Reset(), error(403, "SignatureDoesNotMatch")) as (client, server):
        with pytest.raises(AccessDenied) as failure:
            await client.bucket("bucket").head("k")
        signature = server.requests[0].headers["authorization"].rpartition("Signature=")[2]
    shown = "".join(map(str, [failure.value, failure.getrepr(style="native", chain=True), vars(failure.value)]))
    assert signature not in shown
    assert SECRET_KEY not in shown


async def test_a_redirect_hints_at_the_endpoint() -> None:
    async with scripted(Answer(302, HTML, {"Location": "https://example.com/"})) as (client, server):
        with pytest.raises(InvalidRequest, match="is the endpoint the right one"):
            await client.bucket("bucket").usage()
        assert len(server.requests) == 1


async def test_a_skewed_clock_is_corrected_and_the_call_repeated() -> None:
    server_time = datetime.now(UTC) + timedelta(hours=5)
    refusal = Answer(403, headers={"Date": format_datetime(server_time, usegmt=True)})
    async with scripted(refusal, HEAD) as (client, server):
        await client.bucket("bucket").head("k")
        signed = datetime.strptime(server.requests[1].headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        assert abs(signed - server_time) < timedelta(minutes=5)
        await client.bucket("bucket").head("k")
        assert len(server.requests) == 3


async def test_a_403_with_the_right_time_is_final() -> None:
    refusal = Answer(403, headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)})
    async with scripted(refusal) as (client, server):
        with pytest.raises(AccessDenied):
            await client.bucket("bucket").head("k")
        assert len(server.requests) == 1


async def test_html_instead_of_a_listing() -> None:
    async with scripted(Answer(200, HTML), options=TWICE) as (client, _):
        with pytest.raises(BadReply, match="HTML"):
            await client.bucket("bucket").list_page("")


async def test_a_404_that_is_no_word_of_the_server_does_not_mean_deleted() -> None:
    async with scripted(Answer(404, HTML), options=TWICE) as (client, _):
        with pytest.raises(BadReply):
            await read(client.bucket("bucket"))


async def test_a_document_without_end_is_refused() -> None:
    async with scripted(Answer(200, b"<x>" * (6 << 20)), options=ONCE) as (client, _):
        with pytest.raises(BadReply, match="endless"):
            await client.bucket("bucket").list_page("")


async def test_a_put_stored_wrong_is_sent_again() -> None:
    async with scripted(Answer(headers={"ETag": '"0000"'}), STORED) as (client, server):
        assert await client.bucket("bucket").put("k", BODY) == ETAG
        assert [request.body for request in server.requests] == [BODY, BODY]


async def test_a_put_stored_wrong_twice_is_an_integrity_error() -> None:
    async with scripted(Answer(headers={"ETag": '"0000"'}), options=TWICE) as (client, _):
        with pytest.raises(IntegrityError, match=ETAG):
            await client.bucket("bucket").put("k", BODY)


@pytest.mark.parametrize("second", [Answer(412), error(500, "UnknownError")], ids=["412", "500"])
async def test_a_put_whose_reply_was_lost_finds_its_own_success(second: Answer) -> None:
    async with scripted(Reset(), second, HEAD, options=TWICE) as (client, server):
        assert await client.bucket("bucket").put("k", BODY, if_none_match=True) == ETAG
        assert [request.method for request in server.requests] == ["PUT", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "found",
    [
        Answer(404),
        Answer(length=5, headers={"ETag": '"other"', "Last-Modified": DATE}),
        Answer(length=len(BODY), headers={"ETag": ETAG, "Last-Modified": DATE, "x-amz-meta-mtime": "9"}),
    ],
    ids=["nothing", "other bytes", "the same bytes of another host"],
)
async def test_a_put_whose_reply_was_lost_does_not_claim_what_others_wrote(found: Answer) -> None:
    properties = ObjectProperties(metadata={"mtime": "5"})
    async with scripted(Reset(), Answer(412), found) as (client, _):
        with pytest.raises(PreconditionFailed):
            await client.bucket("bucket").put("k", BODY, properties, if_none_match=True)


async def test_a_412_at_once_is_the_truth() -> None:
    async with scripted(Answer(412)) as (client, server):
        with pytest.raises(PreconditionFailed):
            await client.bucket("bucket").put("k", BODY, if_match="before")
        assert len(server.requests) == 1
        assert server.requests[0].headers["if-match"] == "before"


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "\x00", "\x7f", " a"])
async def test_what_no_header_can_carry_is_refused_before_sending(value: str) -> None:
    async with scripted(STORED) as (client, server):
        bucket = client.bucket("bucket")
        with pytest.raises(InvalidRequest, match="x-amz-meta-name has control characters"):
            await bucket.put("k", b"", ObjectProperties(metadata={"name": value}))
        with pytest.raises(InvalidRequest, match="content-type"):
            await bucket.create_upload("k", ObjectProperties(content_type=value))
        with pytest.raises(InvalidRequest, match="if-match"):
            await read(bucket, if_match=value)
        assert server.requests == []


async def test_what_is_not_utf8_is_refused_before_sending() -> None:
    async with scripted(STORED) as (client, server):
        with pytest.raises(InvalidRequest, match="not UTF-8"):
            await client.bucket("bucket").list_page("\udcff")
        assert server.requests == []


async def test_an_error_inside_a_success() -> None:
    copied = b"<CopyObjectResult><LastModified>2026-11-22T07:12:09Z</LastModified><ETag>e</ETag></CopyObjectResult>"
    async with scripted(error(200, "InternalError"), Answer(200, copied)) as (client, _):
        assert (await client.bucket("bucket").copy("a", "b")).etag == "e"
    async with scripted(error(200, "NoSuchKey")) as (client, _):
        with pytest.raises(NoSuchKey):
            await client.bucket("bucket").copy("a", "b")


async def test_a_copy_answered_with_304_is_a_failed_condition() -> None:
    async with scripted(Answer(304, has_length=False)) as (client, server):
        with pytest.raises(PreconditionFailed):
            await client.bucket("bucket").copy("a +b", "c", source_etag="e")
        headers = server.requests[0].headers
        assert (headers["x-amz-copy-source-if-match"], headers["x-amz-copy-if-match"]) == ("e", "e")
        assert headers["x-amz-copy-source"] == "/bucket/a%20%2Bb"


PARTS = [Part(2, "b" * 32, 5), Part(1, "a" * 32, 5)]
WHOLE = multipart_etag(["a" * 32, "b" * 32])


@pytest.mark.parametrize("told", ["", WHOLE, f"&quot;{WHOLE}&quot;"])
async def test_complete_sends_its_parts_in_order_and_computes_the_etag(told: str) -> None:
    reply = f"<CompleteMultipartUploadResult><ETag>{told}</ETag></CompleteMultipartUploadResult>".encode()
    async with scripted(Answer(200, reply)) as (client, server):
        assert await client.bucket("bucket").complete_upload("k", "u", PARTS) == WHOLE
        assert server.requests[0].body.index(b"a" * 32) < server.requests[0].body.index(b"b" * 32)


async def test_complete_does_not_accept_another_etag() -> None:
    reply = b"<CompleteMultipartUploadResult><ETag>other-2</ETag></CompleteMultipartUploadResult>"
    async with scripted(Answer(200, reply)) as (client, _):
        with pytest.raises(IntegrityError):
            await client.bucket("bucket").complete_upload("k", "u", PARTS)


async def test_a_complete_whose_reply_was_lost_finds_its_own_success() -> None:
    done = Answer(headers={"ETag": f'"{WHOLE}"'})
    async with scripted(Reset(), error(404, "NoSuchUpload"), done) as (client, server):
        assert await client.bucket("bucket").complete_upload("k", "u", PARTS) == WHOLE
        assert [request.method for request in server.requests] == ["POST", "POST", "HEAD"]


@pytest.mark.parametrize("found", [Answer(404), Answer(headers={"ETag": '"other"'})], ids=["nothing", "another"])
async def test_a_complete_of_an_upload_that_is_gone(found: Answer) -> None:
    async with scripted(Reset(), error(404, "NoSuchUpload"), found) as (client, _):
        with pytest.raises(NoSuchUpload):
            await client.bucket("bucket").complete_upload("k", "u", PARTS)


@pytest.mark.parametrize("only", [error(500, "InternalError"), Answer(504), Answer(200, b"<cut")], ids=repr)
async def test_a_complete_that_never_gets_a_good_reply_is_looked_for(only: Step) -> None:
    async with scripted(only, Answer(headers={"ETag": f'"{WHOLE}"'}), options=ONCE) as (client, server):
        assert await client.bucket("bucket").complete_upload("k", "u", PARTS) == WHOLE
        assert [request.method for request in server.requests] == ["POST", "HEAD"]


@pytest.mark.parametrize("only", [error(500, "UnknownError"), Answer(504), Answer(200)], ids=repr)
async def test_a_put_that_never_gets_a_good_reply_is_looked_for(only: Step) -> None:
    async with scripted(only, HEAD, options=ONCE) as (client, server):
        assert await client.bucket("bucket").put("k", BODY, if_match="before") == ETAG
        assert [request.method for request in server.requests] == ["PUT", "HEAD"]


async def test_a_bucket_deleted_by_a_call_whose_reply_was_lost_is_gone() -> None:
    async with scripted(Reset(), error(404, "NoSuchBucket")) as (client, _):
        await client.delete_bucket("bucket")
    async with scripted(error(404, "NoSuchBucket")) as (client, _):
        with pytest.raises(NoSuchBucket):
            await client.delete_bucket("bucket")


async def test_an_abort_whose_reply_was_lost_is_done() -> None:
    async with scripted(Reset(), error(404, "NoSuchUpload")) as (client, server):
        await client.bucket("bucket").abort_upload("k", "u")
        assert len(server.requests) == 2


async def test_a_400_to_head_means_an_encrypted_object() -> None:
    async with scripted(Answer(400)) as (client, _):
        with pytest.raises(EncryptedObject):
            await client.bucket("bucket").head("k")


async def test_every_attempt_is_reported() -> None:
    records: list[RequestRecord] = []
    async with scripted(Reset(), Answer(503, b"busy"), STORED, on_request=records.append) as (client, _):
        await client.bucket("bucket").put("k", BODY)
    seen = [(r.operation, r.operation_class, r.status, r.attempt, r.bytes_sent, r.bytes_received) for r in records]
    assert seen == [
        ("PutObject", "write", None, 1, len(BODY), 0),
        ("PutObject", "write", 503, 2, len(BODY), 4),
        ("PutObject", "write", 200, 3, len(BODY), 0),
    ]


async def test_a_cancelled_call_is_reported_and_frees_its_slot() -> None:
    records: list[RequestRecord] = []
    options = ClientOptions(max_connections=1)
    async with scripted(Silence(), HEAD, options=options, on_request=records.append) as (client, _):
        with trio.move_on_after(0.2):
            await client.bucket("bucket").head("k")
        assert [record.status for record in records] == [None]
        assert (await client.bucket("bucket").head("k")).etag == ETAG


async def test_no_more_requests_than_connections_are_on_the_wire() -> None:
    options = ClientOptions(max_connections=3)
    async with scripted(Silence(), options=options) as (client, server), trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(client.bucket("bucket").head, f"k{number}")
        with trio.move_on_after(0.5):
            await trio.sleep_forever()
        assert len(server.requests) == 3
        nursery.cancel_scope.cancel()
