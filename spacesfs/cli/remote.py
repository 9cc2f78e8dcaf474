"""``spacesfs ls``, ``stat``, ``cat``, ``du`` and ``rm``: what lies in Spaces, without a mount."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import click
import trio

from spacesfs.cli.meter import Meter
from spacesfs.cli.options import space_options
from spacesfs.cli.output import counted, human_bytes, print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import SpacePlace, bring_up_to_date, bucket_place, show_in_mount, space_place
from spacesfs.cli.selection import Found, objects_below, select
from spacesfs.cli.spaces import Flags, Spaces, run
from spacesfs.client.cdn_urls import origin_url
from spacesfs.client.client import Bucket
from spacesfs.client.errors import AccessDenied, EncryptedObject
from spacesfs.client.models import DeleteFailure, ListedObject
from spacesfs.client.objects import MAX_DELETE_KEYS
from spacesfs.tasks import open_team

BROKEN_PIPE = 141  # as shells say it: 128 + SIGPIPE

_BATCHES_AT_ONCE = 4  # the server deletes sixteen objects of a batch at a time

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="BUCKET[:KEY]...", shell_complete=complete_path)
@click.option("-l", "--long", "is_long", is_flag=True, help="Show size and time too.")
@click.option("-r", "--recursive", is_flag=True, help="Everything below, at any depth.")
@as_json_option
@space_options
def ls(places: Sequence[str], *, is_long: bool, recursive: bool, as_json: bool, **flags: object) -> None:
    """List objects and folders. KEY may be a glob: BUCKET:photos/*.jpg."""
    named = [bucket_place(text) for text in places]
    shown: list[dict[str, Any]] = []

    async def work() -> None:
        async with Spaces(flags) as spaces:
            for place in named:
                bucket = await _bucket(spaces, place)
                for found in await select(bucket, place):
                    async with aclosing(_listed(bucket, found, recursive=recursive)) as entries:
                        async for entry in entries:
                            if as_json:
                                shown.append(_record(bucket, entry))
                            else:
                                say(_line(entry, _shown_name(found, entry), is_long=is_long))

    run(work)
    if as_json:
        print_json(shown)


@click.command()
@click.argument("place", metavar="BUCKET[:KEY]", shell_complete=complete_path)
@as_json_option
@space_options
def stat(place: str, *, as_json: bool, **flags: object) -> None:
    """Show all that is known of an object, a folder or a bucket."""
    facts = run(lambda: _facts(bucket_place(place), flags))
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            for inner, text in value.items():
                say(f"{name}.{inner}: {text}")
        elif value is not None:
            say(f"{name}: {value}")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="BUCKET:KEY...", shell_complete=complete_path)
@space_options
def cat(places: Sequence[str], **flags: object) -> None:
    """Write objects to standard output, one after the other."""
    named = [space_place(text) for text in places]

    async def work() -> None:
        async with Spaces(flags) as spaces:
            for place in named:
                bucket = await _bucket(spaces, place)
                for found in await select(bucket, place):
                    await to_standard_output(bucket, file_key(place, found))

    try:
        run(work)
    except BrokenPipeError:
        raise click.exceptions.Exit(BROKEN_PIPE) from None  # the reader has enough


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="BUCKET[:KEY]...", shell_complete=complete_path)
@as_json_option
@space_options
def du(places: Sequence[str], *, as_json: bool, **flags: object) -> None:
    """Add up sizes: of objects, folders, whole buckets."""
    named = [bucket_place(text) for text in places]

    async def work() -> list[dict[str, Any]]:
        totals = []
        async with Spaces(flags) as spaces:
            for place in named:
                bucket = await _bucket(spaces, place)
                for found in await select(bucket, place):
                    count = size = 0
                    async with aclosing(_below(bucket, found)) as entries:
                        async for entry in entries:
                            count, size = count + 1, size + entry.size
                    totals.append({"place": f"{bucket.name}:{found.key}", "objects": count, "bytes": size})
        return totals

    totals = run(work)
    if as_json:
        print_json(totals)
        return
    for total in totals:
        say(f"{human_bytes(total['bytes']):>10}  {counted(total['objects'], 'object'):>12}  {total['place']}")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="BUCKET:KEY...", shell_complete=complete_path)
@click.option("-r", "--recursive", is_flag=True, help="Folders too, with all that lies below.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be deleted.")
@as_json_option
@space_options
def rm(places: Sequence[str], *, recursive: bool, dry_run: bool, as_json: bool, **flags: object) -> None:
    """Delete objects. In a bucket that keeps versions, older ones stay."""
    named = [space_place(text) for text in places]

    async def work() -> None:
        async with Spaces(flags) as spaces:
            for place in named:
                bucket = await _bucket(spaces, place)
                for found in await select(bucket, place):
                    if found.entry is None and not recursive:
                        raise click.ClickException(f"{bucket.name}:{found.key}: is a folder; add -r")
                    await _delete(bucket, found, meter, dry_run=dry_run, is_told=not as_json)

    with Meter() as meter:
        try:
            run(work)
        finally:
            for place in named:
                show_in_mount(place)
    done = meter.done
    if as_json:
        print_json({"objects": done.files, "bytes": done.bytes, "failed": done.failed})
    if done.failed:
        raise click.ClickException(f"{counted(done.failed, 'object')} could not be deleted")


async def to_standard_output(bucket: Bucket, key: str) -> None:
    """Write one object to standard output.

    Raises:
        BrokenPipeError: Nobody reads any more.
    """
    sys.stdout.flush()
    async with bucket.stream(key) as stream:
        async for piece in stream:
            await trio.to_thread.run_sync(sys.stdout.buffer.write, piece)
    sys.stdout.buffer.flush()


def file_key(place: SpacePlace, found: Found) -> str:
    """Return the key of an object that was named.

    Raises:
        click.ClickException: It is a folder.
    """
    if found.entry is None:
        raise click.ClickException(f"{place.at(found.key)}: is a folder")
    return found.key


async def _bucket(spaces: Spaces, place: SpacePlace) -> Bucket:
    bring_up_to_date(place)
    return await spaces.bucket(place)


async def _listed(bucket: Bucket, found: Found, *, recursive: bool) -> AsyncGenerator[Found, None]:
    """Return an object itself, of a folder what lies in it."""
    if found.entry is not None:
        yield found
        return
    async with aclosing(bucket.list(found.key, delimiter=None if recursive else "/")) as pages:
        async for page in pages:
            entries = [Found(entry.key, entry) for entry in page.objects if entry.key != found.key]
            for entry in sorted([*entries, *map(Found, page.prefixes)], key=lambda entry: entry.key):
                yield entry


async def _below(bucket: Bucket, found: Found) -> AsyncGenerator[ListedObject, None]:
    if found.entry is not None:
        yield found.entry
        return
    async with aclosing(objects_below(bucket, found.key)) as entries:
        async for entry in entries:
            yield entry


def _shown_name(found: Found, entry: Found) -> str:
    """Return a name as ls shows it: within the folder that was asked for, or the whole key."""
    return entry.key if found.entry is not None else entry.key.removeprefix(found.key)


def _line(found: Found, name: str, *, is_long: bool) -> str:
    if not is_long:
        return name
    if found.entry is None:
        return f"{'':>14}  {'':>19}  {name}"
    moment = datetime.fromtimestamp(found.entry.last_modified_ns // 10**9, UTC)
    return f"{found.entry.size:>14}  {moment:%Y-%m-%d %H:%M:%S}  {name}"


def _record(bucket: Bucket, found: Found) -> dict[str, Any]:
    record: dict[str, Any] = {"bucket": bucket.name, "key": found.key, "type": "folder"}
    if found.entry is not None:
        record |= {
            "type": "object",
            "size": found.entry.size,
            "modified": iso_time(found.entry.last_modified_ns),
            "etag": found.entry.etag,
        }
    return record


def iso_time(time_ns: int) -> str:
    """Write a time as programs read it."""
    return datetime.fromtimestamp(time_ns / 10**9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _facts(place: SpacePlace, flags: Flags) -> dict[str, Any]:
    async with Spaces(flags) as spaces:
        bucket = await _bucket(spaces, place)
        way = await spaces.way(place)
        url = origin_url(way.endpoint, bucket.name, place.key)
        if not place.key:
            return await _bucket_facts(bucket) | {"url": url}
        [found, *others] = await select(bucket, place)
        if others:
            raise click.ClickException(f"{place}: matches {len(others) + 1} names; name one")
        if found.entry is None:
            return {"bucket": bucket.name, "key": found.key, "type": "folder"}
        return await _object_facts(bucket, found.key) | {"url": origin_url(way.endpoint, bucket.name, found.key)}


async def _bucket_facts(bucket: Bucket) -> dict[str, Any]:
    usage = await bucket.usage()
    facts: dict[str, Any] = {"bucket": bucket.name, "type": "bucket", "location": await bucket.location()}
    facts |= {"versioning": await bucket.versioning(), "objects": usage.object_count, "bytes": usage.bytes_used}
    try:
        facts["acl"] = await bucket.get_bucket_acl()
    except AccessDenied:
        facts["acl"] = None  # a limited key may not ask
    return facts


async def _object_facts(bucket: Bucket, key: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"bucket": bucket.name, "key": key, "type": "object"}
    try:
        info = await bucket.head(key)
    except EncryptedObject:
        return facts | {"encrypted": "under a customer's key (SSE-C)"}
    properties = info.properties
    facts |= {"size": info.size, "etag": info.etag, "modified": iso_time(info.last_modified_ns)}
    facts |= {"version": info.version_id or None, "content-type": properties.content_type}
    facts |= {"cache-control": properties.cache_control, "content-encoding": properties.content_encoding}
    facts |= {"content-disposition": properties.content_disposition, "content-language": properties.content_language}
    facts |= {"expires": properties.expires, "metadata": dict(properties.metadata) or None}
    facts["acl"] = await bucket.get_acl(key)
    facts["tags"] = await bucket.get_tags(key) if info.tag_count else None
    return facts


async def _delete(bucket: Bucket, found: Found, meter: Meter, *, dry_run: bool, is_told: bool) -> None:
    """Delete an object, or all below a folder, while the listing goes on; the meter counts."""

    def count(batch: list[ListedObject], failures: list[DeleteFailure]) -> None:
        failed = {failure.key for failure in failures}
        for failure in failures:
            meter.fail(f"{bucket.name}:{failure.key}: {failure.message or failure.code}")
        for entry in batch:
            if entry.key not in failed:
                meter.move(entry.size)
                meter.finish()

    async def delete(batch: list[ListedObject]) -> None:
        try:
            count(batch, await bucket.delete_many([entry.key for entry in batch]))
        finally:
            places.release()

    places = trio.Semaphore(_BATCHES_AT_ONCE)
    async with open_team() as team, aclosing(_batches(_below(bucket, found))) as batches:
        async for batch in batches:
            for entry in batch:
                meter.plan(entry.size)
                if dry_run and is_told:
                    say(f"would delete {bucket.name}:{entry.key}")
            if dry_run:
                count(batch, [])
            else:
                await places.acquire()
                team.start_soon(delete, batch)


async def _batches(entries: AsyncGenerator[ListedObject, None]) -> AsyncGenerator[list[ListedObject], None]:
    """Return what one deletion takes at a time, in order."""
    batch: list[ListedObject] = []
    async with aclosing(entries):
        async for entry in entries:
            batch.append(entry)
            if len(batch) == MAX_DELETE_KEYS:
                yield batch
                batch = []
    if batch:
        yield batch
