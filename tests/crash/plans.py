"""What is done to a mount beside killing it: one plan for each thing that can go wrong around it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.crash.harness import Plan, Trouble
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

_FAIL_PERCENT = 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where a campaign takes place: the server, and the edge between it and the mount."""

    rgw: RadosGateway
    edge: Edge


def edge_for(name: str, rgw: RadosGateway) -> Edge:
    """Return the edge, not started, that a plan wants."""
    return Edge(rgw.endpoint, fail_percent=_FAIL_PERCENT if name == "failing" else 0)


def plan(name: str, place: Place) -> Plan:
    """Return a plan by its name, one of `NAMES`."""
    return _PLANS[name](place)


def _killed(_: Place) -> Plan:
    return Plan()


def _killed_while_draining(_: Place) -> Plan:
    return Plan(kills_while_draining=2)


def _killed_while_recovering(_: Place) -> Plan:
    return Plan(kills_while_recovering=2)


def _power(_: Place) -> Plan:
    return Plan(disk_mebibytes=400, cuts_power=True)


def _full(_: Place) -> Plan:
    """The disk of the journal is full for a while; who writes is told so after a short wait."""
    return Plan(["--timeout", "3s"], trouble=_ballast, disk_mebibytes=120, wanted_errors=("ENOSPC",))


def _network(place: Place) -> Plan:
    """The network goes, and comes back before or after the mount is killed."""
    return Plan(trouble=lambda _: (place.edge.cut, place.edge.mend))


def _gateway(place: Place) -> Plan:
    """The server is killed, and started again."""
    return Plan(trouble=lambda _: (place.rgw.stop_gateway, place.rgw.start_gateway))


def _failing(_: Place) -> Plan:
    return Plan()


def _fsync(_: Place) -> Plan:
    return Plan(["--durability", "fsync", "--grace", "5s"])  # else little is pending


def _space(_: Place) -> Plan:
    """What is acknowledged is in the Space already, so nothing acknowledged can be pending."""
    return Plan(["--durability", "space"], lines=(30, 200), is_pending=False)


_PLANS: dict[str, Callable[[Place], Plan]] = {
    "killed": _killed,
    "killed-while-draining": _killed_while_draining,
    "killed-while-recovering": _killed_while_recovering,
    "power": _power,
    "full": _full,
    "network": _network,
    "gateway": _gateway,
    "failing": _failing,
    "fsync": _fsync,
    "space": _space,
}
NAMES = tuple(_PLANS)


def _ballast(state: Path) -> Trouble:
    """Return what fills the disk of the state folder, and what frees it."""
    ballast = state / "ballast"

    def fill() -> None:
        with ballast.open("wb") as file:
            for size in (8 << 20, 1 << 20, 1 << 16):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)

    return fill, lambda: ballast.unlink(missing_ok=True)
