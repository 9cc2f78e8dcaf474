"""The image and the examples of how to run it: they parse, fit together, and name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]  # carries no types
import pytest
import yaml  # type: ignore[import-untyped]  # carries no types

from spacesfs.cli.main import cli

FOLDER = Path(__file__).parents[1] / "docker"
STATE, CACHE = "/var/lib/spacesfs", "/var/cache/spacesfs"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the image that is shipped, continued lines joined, without those of the build."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    last = text[text.rindex("\nFROM ") :]
    lines = (line.partition(" ") for line in last.splitlines() if line.strip())
    return [(name, value.strip()) for name, _, value in lines]


def check_command(words: list[str]) -> str:
    """Make sure that a command of ours exists and takes its arguments; return the mountpoint."""
    assert words[0] == "spacesfs"
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, words
    return str(command.make_context(words[1], words[2:]).params["mountpoint"])


def test_the_image_declares_its_state_and_how_it_ends() -> None:
    told = dict(instructions())
    assert STATE in told["VOLUME"]
    assert CACHE in told["VOLUME"]
    assert told["STOPSIGNAL"] == "SIGTERM"
    shell, flag, script = json.loads(told["HEALTHCHECK"].partition("CMD ")[2])
    assert (shell, flag, script) == ("sh", "-c", 'exec spacesfs status "$MOUNTPOINT" --json')
    assert "MOUNTPOINT=/mnt/space" in told["ENV"]
    check_command(["spacesfs", "status", "/mnt/space", "--json"])


def test_the_image_has_a_user_to_whom_state_and_cache_belong() -> None:
    [made] = [value for name, value in instructions() if name == "RUN" and "useradd" in value]
    assert f"chown spacesfs:spacesfs {STATE} {CACHE}" in made
    assert "user_allow_other" in made


def test_compose_shares_the_mount() -> None:
    services = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
    space, web = services["space"], services["web"]
    mountpoint = check_command(["spacesfs", *space["command"]])
    assert check_command(space["healthcheck"]["test"][1:]) == mountpoint
    shared = next(volume for volume in space["volumes"] if isinstance(volume, dict))
    assert shared["bind"]["propagation"] == "rshared"
    assert Path(mountpoint).parent == Path(shared["target"])
    assert web["volumes"][0]["source"] == shared["source"]
    assert web["volumes"][0]["bind"]["propagation"] == "rslave"
    assert {f"state:{STATE}", f"cache:{CACHE}"} <= {volume for volume in space["volumes"] if isinstance(volume, str)}


def test_kubernetes_shares_the_mount_and_keeps_the_state() -> None:
    service, resource = resources()
    assert (resource["apiVersion"], resource["kind"]) == ("apps/v1", "StatefulSet")
    assert (service["kind"], service["metadata"]["name"]) == ("Service", resource["spec"]["serviceName"])
    assert service["spec"]["selector"] == resource["spec"]["selector"]["matchLabels"]
    assert resource["spec"]["selector"]["matchLabels"] == resource["spec"]["template"]["metadata"]["labels"]
    pod = resource["spec"]["template"]["spec"]
    [sidecar], [web] = pod["initContainers"], pod["containers"]
    script = sidecar["args"][0].partition("exec ")[2].split()
    mountpoint = check_command(script)
    for probe in ("startupProbe", "livenessProbe"):
        assert check_command(sidecar[probe]["exec"]["command"]) == mountpoint
        assert sidecar[probe]["timeoutSeconds"] > 10, "status waits that long for an answer"
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["securityContext"]["privileged"], "Bidirectional is refused otherwise"
    mine, theirs = by_volume(sidecar), by_volume(web)
    assert mine["space"]["mountPropagation"] == "Bidirectional"
    assert Path(mountpoint).parent == Path(mine["space"]["mountPath"])
    assert theirs["space"]["mountPropagation"] == "HostToContainer"
    assert (mine["state"]["mountPath"], mine["cache"]["mountPath"]) == (STATE, CACHE)
    claims = {claim["metadata"]["name"] for claim in resource["spec"]["volumeClaimTemplates"]}
    assert claims == {"state"}
    assert claims | {volume["name"] for volume in pod["volumes"]} == set(mine) | set(theirs)


@pytest.mark.parametrize("version", ["1.29.0", "latest"])
def test_kubernetes_knows_every_word(version: str) -> None:
    """By the published schemas of its first version with sidecars, and of a new one; a misspelt field is an error."""
    if version == "latest":
        version = kubernetes_validate.latest_version()
    for resource in resources():
        kubernetes_validate.validate(resource, version, strict=True)
    broken = resources()[1]
    broken["spec"]["template"]["spec"]["initContainers"][0]["restartPolicies"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def resources() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def by_volume(container: dict[str, Any]) -> dict[str, Any]:
    return {mount["name"]: mount for mount in container["volumeMounts"]}
