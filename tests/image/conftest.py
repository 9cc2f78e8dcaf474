"""Root file systems for the tests of the image and of a fresh Debian. They are made once for a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.image.debian import Container, assemble, copy

ContainerMaker = Callable[[Path], Container]


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Debian as debootstrap leaves it; to be copied, not changed."""
    if os.geteuid() != 0:
        pytest.fail("only root can assemble a root file system", pytrace=False)
    root = tmp_path_factory.mktemp("debian") / "root"
    assemble(root)
    return root


@pytest.fixture
def fresh(debian: Path, tmp_path: Path) -> Path:
    """A copy of it for this test."""
    copy(debian, tmp_path / "fresh")
    return tmp_path / "fresh"


@pytest.fixture
def container(fuse_device: Path) -> Iterator[ContainerMaker]:
    """Make containers that end with the test."""
    del fuse_device
    with ExitStack() as stack:

        def make(root: Path) -> Container:
            made = Container(root)
            stack.callback(made.stop)
            return made

        yield make
