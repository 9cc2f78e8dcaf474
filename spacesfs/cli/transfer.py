"""``spacesfs put``, ``get``, ``cp`` and ``mv``: files into Spaces, out of them, and between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from spacesfs.cli.jobs import Orders, transfer
from spacesfs.cli.meter import Meter
from spacesfs.cli.options import space_options
from spacesfs.cli.output import counted, print_json
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import Place, SpacePlace, parse_place, show_in_mount, space_place
from spacesfs.cli.remote import BROKEN_PIPE, as_json_option
from spacesfs.cli.spaces import Flags, Spaces, run
from spacesfs.client.models import ACLS, STORAGE_CLASSES, Acl, ObjectProperties

Command = Callable[..., Any]

_sources = click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=complete_path)
_recursive = click.option("-r", "--recursive", is_flag=True, help="Folders too.")
_no_overwrite = click.option("--no-overwrite", is_flag=True, help="Leave what is there, and fail.")


def _property_options(command: Command) -> Command:
    """Give a command the options for what new objects carry."""
    for option in (
        click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Metadata of one's own; may be repeated."),
        click.option("--storage-class", type=click.Choice(STORAGE_CLASSES), help="Storage class."),
        click.option("--cache-control", metavar="TEXT", help="Cache-Control that browsers and the CDN are told."),
        click.option("--content-type", metavar="TYPE", help="Type, where the name's ending should not decide."),
        click.option("--acl", type=click.Choice(ACLS), help="Who may read the object.  [default: private]"),
    ):
        command = option(command)
    return command


@click.command()
@_sources
@click.argument("target", metavar="BUCKET:KEY", shell_complete=complete_path)
@_recursive
@_no_overwrite
@_property_options
@as_json_option
@space_options
def put(
    sources: Sequence[str],
    target: str,
    *,
    recursive: bool,
    no_overwrite: bool,
    acl: Acl | None,
    content_type: str | None,
    cache_control: str | None,
    storage_class: str | None,
    metadata: Sequence[str],
    as_json: bool,
    **flags: object,
) -> None:
    """Copy files into a Space; SOURCE - is standard input.

    A folder's contents go below KEY with -r. Each file's time is kept in its object's metadata, as rclone and mounts
    do.
    """
    named, place = [_local(text) for text in sources], space_place(target)
    properties = ObjectProperties(
        content_type=content_type,
        cache_control=cache_control,
        metadata=dict(map(_pair, metadata)),
        acl=acl,
        storage_class=storage_class,
    )
    orders = Orders(recursive=recursive, overwrite=not no_overwrite, properties=properties)
    _transfer(named, place, orders, flags, as_json=as_json)


@click.command()
@_sources
@click.argument("target", metavar="PATH", shell_complete=complete_path)
@_recursive
@_no_overwrite
@as_json_option
@space_options
def get(
    sources: Sequence[str], target: str, *, recursive: bool, no_overwrite: bool, as_json: bool, **flags: object
) -> None:
    """Copy objects out of a Space; PATH - is standard output.

    SOURCE is BUCKET:KEY, where KEY may be a glob. A folder's contents go below PATH with -r. A file appears under its
    name when it is whole and verified.
    """
    named = [space_place(text) for text in sources]
    orders = Orders(recursive=recursive, overwrite=not no_overwrite)
    _transfer(named, _local_target(target), orders, flags, as_json=as_json)


@click.command()
@_sources
@click.argument("target", metavar="TARGET", shell_complete=complete_path)
@_recursive
@_no_overwrite
@as_json_option
@space_options
def cp(
    sources: Sequence[str], target: str, *, recursive: bool, no_overwrite: bool, as_json: bool, **flags: object
) -> None:
    """Copy between Spaces, or between a Space and this machine.

    Inside a region nothing passes through this machine. Type, metadata, tags and ACL are kept.
    """
    named, place = [parse_place(text) for text in sources], parse_place(target)
    orders = Orders(recursive=recursive, overwrite=not no_overwrite)
    _transfer(named, place, orders, flags, as_json=as_json)


@click.command()
@_sources
@click.argument("target", metavar="BUCKET:KEY", shell_complete=complete_path)
@_recursive
@_no_overwrite
@as_json_option
@space_options
def mv(
    sources: Sequence[str], target: str, *, recursive: bool, no_overwrite: bool, as_json: bool, **flags: object
) -> None:
    """Move objects inside a Space or to another one: each is copied, then deleted."""
    named, place = [space_place(text) for text in sources], space_place(target)
    orders = Orders(recursive=recursive, overwrite=not no_overwrite, moves=True)
    _transfer(named, place, orders, flags, as_json=as_json)


def _transfer(sources: Sequence[Place], target: Place, orders: Orders, flags: Flags, *, as_json: bool) -> None:
    """Move everything.

    Raises:
        click.ClickException: Several files could not be moved.
        click.exceptions.Exit: One could not, which was said.
        SpacesError, MountError, OSError: Nothing more could be.
    """

    async def work() -> None:
        async with Spaces(flags) as spaces:
            await transfer(spaces, sources, target, orders, meter)

    with Meter() as meter:
        try:
            run(work)
        except BrokenPipeError:
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        finally:
            for place in (*(sources if orders.moves else ()), target):
                if isinstance(place, SpacePlace):
                    show_in_mount(place)
    done = meter.done
    if as_json:
        print_json({"files": done.files, "bytes": done.bytes, "failed": done.failed})
    if done.failed and done.files + done.failed > 1:
        raise click.ClickException(f"{done.failed} of {counted(done.files + done.failed, 'file')} failed")
    if done.failed:
        raise click.exceptions.Exit(1)


def _local(text: str) -> Place:
    place = parse_place(text)
    if isinstance(place, SpacePlace) and place.mounted is None:
        raise click.BadParameter(f'"{text}" is in a Space; write ./{text} for a file, or use cp')
    return place


def _local_target(text: str) -> Place:
    """As `_local`; a folder that is named as one is made."""
    place = _local(text)
    if isinstance(place, Path) and text.endswith("/"):
        place.mkdir(parents=True, exist_ok=True)
    return place


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f'"{text}" is not NAME=VALUE', param_hint="--metadata")
    return name.lower(), value
