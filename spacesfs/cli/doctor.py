"""``spacesfs doctor``: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from spacesfs.access import first_key, locate
from spacesfs.cli.bundle import write_bundle
from spacesfs.cli.checks import Finding, check_mounting, check_network, check_read_ahead, check_rights
from spacesfs.cli.client import all_statuses
from spacesfs.cli.layers import collect
from spacesfs.cli.options import space_options
from spacesfs.cli.output import complain, print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import SpacePlace, bucket_place
from spacesfs.cli.remote import as_json_option
from spacesfs.cli.spaces import Flags, Way, client_of, run, space_config
from spacesfs.config import Options, SpaceConfig
from spacesfs.errors import MountError

_SHOWN_OF_KEY_ID = 4  # characters; enough to tell keys apart


@click.command()
@click.argument("place", required=False, metavar="[BUCKET]", shell_complete=complete_path)
@as_json_option
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write an archive (.tar.gz) for who helps you: versions, options, mounts and logs, without secrets.",
)
@space_options
def doctor(place: str | None, *, as_json: bool, bundle: Path | None, **flags: object) -> None:
    """Check this machine, and with BUCKET the way to it and what the key may do there.

    Each line says ok, or what to do. Nothing is left behind in the Space. The exit status is 1 if there is
    anything to do.
    """
    if bundle is not None and bundle.exists():
        raise MountError(f"{bundle} is there already; name another file")
    named = bucket_place(place) if place is not None else None
    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            say(f"{'FIX' if finding.fix else 'ok':<4} {finding.name:<10} {_text(finding)}")

    try:
        run(lambda: _check_space(named, flags, report))
        for finding in check_mounting(collect(flags, named.bucket if named else None).check(Options)):
            report(finding)
        for mount in all_statuses():
            report(check_read_ahead(Path(mount.mountpoint)))
    finally:  # what ends the checks is what a bundle is for
        if bundle is not None:
            write_bundle(bundle, flags, findings)
            complain(f"wrote {bundle}; it names files that wait to be sent: look into it before you give it away")
    if as_json:
        print_json([{"name": f.name, "ok": not f.fix, "text": f.text, "fix": f.fix} for f in findings])
    if any(finding.fix for finding in findings):
        raise click.exceptions.Exit(1)


async def _check_space(place: SpacePlace | None, flags: Flags, report: Callable[[Finding], None]) -> None:
    """Check the key, then the way to the Space as far as it is known, then the rights."""
    way = await _find_way(place, flags, report)
    if way is None:
        return
    reached = True
    async for finding in check_network(way):
        report(finding)
        reached &= not finding.fix or finding.name == "clock"
    if place is not None and reached:
        async with client_of(way) as client:
            async for finding in check_rights(client.bucket(place.bucket)):
                report(finding)


async def _find_way(place: SpacePlace | None, flags: Flags, report: Callable[[Finding], None]) -> Way | None:
    """Look for the key and the server; None if one of them is missing, which was reported, or not asked for."""
    config = collect(flags, None).check(Options) if place is None else space_config(flags, place)
    try:
        key = await first_key(config)
    except MountError as error:
        problem, _, fix = str(error).partition("; ")
        report(Finding("key", problem, fix or "see docs/configuration.md"))
        return None
    report(Finding("key", f"{key.access_key_id[:_SHOWN_OF_KEY_ID]}… from {key.source}"))
    if isinstance(config, SpaceConfig):
        try:
            config = await locate(config, key)
        except MountError as error:
            problem, _, fix = str(error).partition("; ")
            report(Finding("region", problem, fix or "say where it is with --region or --endpoint"))
            return None
    if not config.is_located:
        return None
    way = Way(config, config.address, key)
    report(Finding("region", f"{way.endpoint.url}, signed for {way.endpoint.region}"))
    return way


def _text(finding: Finding) -> str:
    return f"{finding.text}: {finding.fix}" if finding.fix else finding.text
