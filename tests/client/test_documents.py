"""XML in and out, and what foreign bodies do to it: nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from xml.etree.ElementTree import fromstring
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs.client.documents import (
    ErrorReply,
    complete_document,
    delete_document,
    is_error,
    parse_acl,
    parse_buckets,
    parse_completed_etag,
    parse_copy,
    parse_deleted,
    parse_error,
    parse_listing,
    parse_parts,
    parse_tags,
    parse_time_ns,
    parse_upload_id,
    parse_uploads,
)
from spacesfs.client.models import DeleteFailure, ListedObject, Part, Upload
from spacesfs.client.xmltree import Malformed, is_expressible

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
TIME = "2026-11-22T07:12:09.948Z"
TIME_NS = 1_795_331_529_948_000_000
CONTENTS = (
    "<Contents><Key>{}</Key><LastModified>" + TIME + "</LastModified><ETag>&quot;abc&quot;</ETag><Size>5</Size>"
    "<StorageClass>STANDARD</StorageClass><Owner><ID>x</ID></Owner><Type>Normal</Type></Contents>"
)
PARSERS = [
    parse_acl,
    parse_buckets,
    parse_completed_etag,
    parse_copy,
    parse_deleted,
    parse_listing,
    parse_parts,
    parse_tags,
    parse_upload_id,
    parse_uploads,
]
NONSENSE = {
    "empty": b"",
    "blank": b" \n ",
    "html": b"<!DOCTYPE html><html><body>503 Service Unavailable</body></html>",
    "html without doctype": b"<html><body>oops</body></html>",
    "cut": b"<ListBucketResult><Contents><Key>a",
    "text": b"upstream connect error",
    "not utf-8": b"<ListBucketResult>\xff</ListBucketResult>",
    "utf-16": "<ListBucketResult></ListBucketResult>".encode("utf-16"),
    "billion laughs": b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
    "external entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Tagging>&a;</Tagging>',
    "control character in a tag": b"<ListBucket\x01Result></ListBucketResult>",
}


def listing(inner: str, namespace: str = NAMESPACE) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {namespace}>{inner}</ListBucketResult>'.encode()


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_malformed(parser: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parser(body)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_says_nothing_about_an_error(body: bytes) -> None:
    assert not is_error(body)
    assert parse_error(body) == ErrorReply()


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_body_parses_or_is_malformed(body: bytes) -> None:
    for parser in PARSERS:
        with pytest.raises(Malformed):
            parser(body)
    parse_error(body)


WHOLE = {
    "ListBucketResult": "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>" + CONTENTS.format("k&#x01;&amp;"),
    "ListPartsResult": "<Part><PartNumber>3</PartNumber><ETag>e</ETag><Size>7</Size></Part>",
    "Tagging": "<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet>",
    "DeleteResult": "<Error><Key>k</Key><Code>AccessDenied</Code></Error>",
    "Error": "<Code>SlowDown</Code><Message>m</Message>",
}
SPLINTERS = [b"<", b">", b"</", b"&", b"&#x01;", b"&#xD800;", b"&#1114112;", b"]]>", b"<![CDATA[", b"<?xml ?>", b"<!--"]
SPLINTERS += [
    b"<!ENTITY a 'b'>",
    b"\x00",
    b"\xff\xfe",
    b"\xf3\xb0\x80\x80",
    b"<Contents>",
    b"</Contents>",
    b' xmlns=""',
    b"9" * 30,
]


def parse_with_all(body: bytes) -> None:
    """Read a body as every kind of document; it may be one, or be refused, and nothing else."""
    for parser in PARSERS:
        with suppress(Malformed):
            parser(body)
    parse_error(body)
    is_error(body)


@given(
    name=st.sampled_from(sorted(WHOLE)),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(SPLINTERS) | st.binary(max_size=5))),
)
@settings(max_examples=400)
def test_a_damaged_document_is_read_or_malformed(name: str, cuts: list[tuple[float, int, bytes]]) -> None:
    body = f"<{name}>{WHOLE[name]}</{name}>".encode()
    parse_with_all(body)
    for place, length, splinter in cuts:
        start = int(place * len(body))
        body = body[:start] + splinter + body[start + length :]
    parse_with_all(body)


elements = st.recursive(
    st.text(max_size=5).map(escape),
    lambda inner: st.tuples(
        st.sampled_from(["Contents", "Key", "Size", "ETag", "LastModified", "Part", "Tag", "Grant", "Prefix", "Code"]),
        st.lists(inner, max_size=4),
    ).map(lambda made: f"<{made[0]}>{''.join(made[1])}</{made[0]}>"),
    max_leaves=20,
)


@given(name=st.sampled_from(sorted(WHOLE)), inner=elements)
@settings(max_examples=200)
def test_a_document_of_other_parts_is_read_or_malformed(name: str, inner: str) -> None:
    parse_with_all(f"<{name}>{inner}</{name}>".encode())


@pytest.mark.parametrize(
    "body",
    [
        b" " * 4_000_000,
        b"<?xml " + b" " * 4_000_000,
        b"<" * 1_000_000,
        b"<Error" * 500_000,
        b"<" + b"a" * 4_000_000 + b">",
        b"<a>" * 500_000,
        b"<ListBucketResult>" + b"<a>" * 45_000 + b"</a>" * 45_000 + b"</ListBucketResult>",
        b"<a " + b" ".join(b'b%d="c"' % number for number in range(100_000)) + b"/>",
        b"<ListBucketResult>&#x01;" + "".join(map(chr, range(0xF0000, 0xFFFFE))).encode() + b"x" * 4_000_000,
        b"&#x01;" * 200_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_monstrous_document_takes_no_monstrous_time(body: bytes) -> None:
    """Each of these takes far below a second where reading is linear, and hours where it is quadratic."""
    parse_with_all(body)


def test_error() -> None:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>gone</Message>'
        b"<RequestId>tx1</RequestId><HostId>h</HostId></Error>"
    )
    assert is_error(body)
    assert parse_error(body) == ErrorReply("NoSuchKey", "gone", "tx1")
    assert is_error(b"<Error><Code>x</Code></Error>")
    assert is_error(b'\n\n<Error xmlns="x"/>')
    assert not is_error(b"<ErrorDocument/>")


@pytest.mark.parametrize("namespace", ["", NAMESPACE, 'xmlns="http://doc.s3.amazonaws.com/2006-03-01"'])
def test_listing(namespace: str) -> None:
    body = listing(
        "<Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;k</NextContinuationToken>"
        "<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>" + CONTENTS.format("a &lt;b&gt; %20+"),
        namespace,
    )
    page = parse_listing(body)
    assert page.objects == [ListedObject("a <b> %20+", 5, "abc", TIME_NS)]
    assert page.prefixes == ["dir/"]
    assert (page.is_truncated, page.token, page.next_marker) == (True, "t&k", "")


@given(
    name=st.text(min_size=1) | st.text("a\x01\x1f\uffff\U000f0000", min_size=1),
    form=st.sampled_from(["{0}", "&#x{1:02x};", "&#x{1:04X};", "&#{1};"]),
)
def test_control_characters_in_names_and_tokens(name: str, form: str) -> None:
    """Raw or as references: XML 1.0 allows neither, and real servers write them."""
    written = "".join(
        f"&#{ord(char)};" if char in "<>&\r" else char if is_expressible(char) else form.format(char, ord(char))
        for char in name
    )
    inner = f"{CONTENTS.format('@')}<NextContinuationToken>@</NextContinuationToken>".replace("@", written)
    page = parse_listing(listing(inner))
    assert (page.objects[0].key, page.token) == (name, name)


def test_a_surrogate_is_no_character() -> None:
    with pytest.raises(Malformed):
        parse_listing(listing(CONTENTS.format("&#xD800;&#x01;")))


@pytest.mark.parametrize(
    "broken",
    [
        CONTENTS.format(""),
        CONTENTS.format("a").replace("<Size>5</Size>", ""),
        CONTENTS.format("a").replace("<Size>5", "<Size>-5"),
        CONTENTS.format("a").replace("<Size>5", "<Size>" + "9" * 5000),
        CONTENTS.format("a").replace(TIME, "today"),
        CONTENTS.format("a").replace(TIME, "2026-11-22T07:12:09"),
        "<CommonPrefixes/>",
    ],
)
def test_a_listing_with_a_broken_entry_is_malformed(broken: str) -> None:
    with pytest.raises(Malformed):
        parse_listing(listing(broken))


def test_buckets() -> None:
    body = (
        "<ListAllMyBucketsResult><Owner><ID>o</ID></Owner><Buckets>"
        f"<Bucket><Name>b</Name><CreationDate>{TIME}</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
    )
    assert parse_buckets(body.encode()) == [("b", TIME_NS)]


def test_copy_etags_come_with_and_without_quotes() -> None:
    for etag in ("abc", "&quot;abc&quot;"):
        body = f"<CopyPartResult><LastModified>{TIME}</LastModified><ETag>{etag}</ETag></CopyPartResult>"
        assert parse_copy(body.encode()).etag == "abc"


@pytest.mark.parametrize(
    ("uri", "permission", "expected"),
    [
        ("AllUsers", "READ", "public-read"),
        ("AllUsers", "FULL_CONTROL", "public-read"),
        ("AllUsers", "WRITE", "private"),
        ("AuthenticatedUsers", "READ", "private"),
    ],
)
def test_acl(uri: str, permission: str, expected: str) -> None:
    body = (
        "<AccessControlPolicy><Owner><ID>1</ID></Owner><AccessControlList>"
        "<Grant><Grantee><ID>1</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
        f"<Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/{uri}</URI></Grantee>"
        f"<Permission>{permission}</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )
    assert parse_acl(body.encode()) == expected


def test_tags() -> None:
    tag = "<Tag><Key>a b</Key><Value>c&amp;d=e</Value></Tag><Tag><Key>x</Key><Value/></Tag>"
    assert parse_tags(f"<Tagging><TagSet>{tag}</TagSet></Tagging>".encode()) == "a%20b=c%26d%3De&x="
    assert parse_tags(b"<Tagging><TagSet/></Tagging>") is None


def test_parts() -> None:
    part = (
        "<Part><PartNumber>3</PartNumber><LastModified>1970-01-01T00:00:01.000Z</LastModified>"
        "<ETag>&quot;e&quot;</ETag><Size>7</Size></Part>"
    )
    end = "<IsTruncated>{}</IsTruncated><NextPartNumberMarker>3</NextPartNumberMarker>"
    for truncated, marker in (("true", "3"), ("false", "")):
        body = f"<ListPartsResult>{part}{end.format(truncated)}</ListPartsResult>"
        parts, following = parse_parts(body.encode())
        assert (parts, following) == ([Part(3, "e", 7)], marker)
        assert parts[0].modified_ns == 10**9


def test_uploads() -> None:
    upload = f"<Upload><Key>k</Key><UploadId>2~u</UploadId><Initiated>{TIME}</Initiated></Upload>"
    end = "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>2~u</NextUploadIdMarker><IsTruncated>{}</IsTruncated>"
    for truncated, marker in (("true", ("k", "2~u")), ("false", None)):
        body = f"<ListMultipartUploadsResult>{upload}{end.format(truncated)}</ListMultipartUploadsResult>"
        assert parse_uploads(body.encode()) == ([Upload("k", "2~u", TIME_NS)], marker)


def test_deleted() -> None:
    body = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    assert parse_deleted(body) == [DeleteFailure("k", "AccessDenied", "")]
    assert parse_deleted(b"<DeleteResult/>") == []


def test_times_keep_their_milliseconds() -> None:
    assert parse_time_ns(TIME) == TIME_NS
    assert parse_time_ns("1970-01-01T00:00:00Z") == 0


@given(st.lists(st.text(min_size=1).filter(is_expressible), min_size=1, max_size=5))
def test_keys_survive_the_delete_document(keys: list[str]) -> None:
    root = fromstring(delete_document(keys).decode())  # noqa: S314 - our own document
    assert [found.text for found in root.iter("Key")] == keys


@pytest.mark.parametrize("char", ["\x00", "\x01", "\x1f", "\ufffe", "\uffff"])
def test_what_xml_cannot_express(char: str) -> None:
    assert not is_expressible(f"a{char}b")


def test_the_longest_upload_stays_below_what_a_server_accepts() -> None:
    parts = [Part(number, "d" * 32, 5) for number in range(1, 10_001)]
    assert len(complete_document(parts)) < 1024 * 1024
