"""Inode numbers: keys follow renames, and what anybody holds stays."""

from __future__ import annotations

import stat

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from spacesfs.attributes import Attributes
from spacesfs.tree.inodes import ROOT_NUMBER, Inode, InodeTable

FILE = Attributes(stat.S_IFREG | 0o644, 0, 0, 0, 0, 0)
DIRECTORY = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0)
NAMES = st.sampled_from(["a", "b", "c"])


@pytest.fixture
def table() -> InodeTable:
    return InodeTable("pre/fix/", DIRECTORY)


def held(table: InodeTable, parent: Inode, name: str, attributes: Attributes) -> Inode:
    inode = table.add(parent, name, attributes)
    inode.lookups += 1
    return inode


def test_keys_are_spelt_from_the_parents(table: InodeTable) -> None:
    directory = held(table, table.root, "d", DIRECTORY)
    inner = held(table, directory, "e", DIRECTORY)
    file = held(table, inner, "f", FILE)
    assert (table.root.key, directory.key, inner.key) == ("pre/fix/", "pre/fix/d/", "pre/fix/d/e/")
    assert file.key == "pre/fix/d/e/f"
    assert InodeTable("", DIRECTORY).root.key == ""


def test_renaming_a_directory_moves_every_key_below_it(table: InodeTable) -> None:
    directory = held(table, table.root, "d", DIRECTORY)
    other = held(table, table.root, "other", DIRECTORY)
    file = held(table, held(table, directory, "e", DIRECTORY), "f", FILE)
    table.move(directory, other, "new")
    assert file.key == "pre/fix/other/new/e/f"
    assert table.child(table.root, "d") is None
    assert table.child(other, "new") is directory
    table.check_invariants()


def test_a_name_taken_by_another_inode(table: InodeTable) -> None:
    first = held(table, table.root, "f", FILE)
    second = held(table, table.root, "f", FILE)
    assert first.number != second.number
    assert not first.is_linked
    assert second.is_linked
    assert first.key == second.key
    assert table[first.number] is first
    table.forget(first.number, 1)
    assert table.child(table.root, "f") is second
    with pytest.raises(KeyError):
        table[first.number]


def test_moving_onto_a_name_unlinks_what_had_it(table: InodeTable) -> None:
    source, target = held(table, table.root, "a", FILE), held(table, table.root, "b", FILE)
    table.move(source, table.root, "b")
    assert table.child(table.root, "b") is source
    assert not target.is_linked
    table.forget(target.number, 1)
    assert table.child(table.root, "b") is source
    table.check_invariants()


def test_an_unlinked_inode_that_gets_a_name_again_takes_nobody_elses(table: InodeTable) -> None:
    first = held(table, table.root, "f", FILE)
    second = held(table, table.root, "f", FILE)
    table.move(first, table.root, "f.kept")
    assert table.child(table.root, "f") is second
    assert table.child(table.root, "f.kept") is first
    assert second.is_linked
    table.check_invariants()


def test_the_root_stays(table: InodeTable) -> None:
    table.forget(ROOT_NUMBER, 1)
    assert table[ROOT_NUMBER] is table.root


class InodeMachine(RuleBasedStateMachine):
    """A kernel that looks up, forgets, renames and unlinks; a model of what it and others hold.

    As the real one it holds the directories it works in.
    """

    inodes: Bundle[Inode] = Bundle("inodes")
    pins: Bundle[Inode] = Bundle("pins")

    def __init__(self) -> None:
        super().__init__()
        self.table = InodeTable("", DIRECTORY)
        self.lookups: dict[int, int] = {}
        self.pinned: dict[int, int] = {}
        self.known: dict[int, Inode] = {}

    def parent(self, inode: Inode | None) -> Inode:
        return inode if inode is not None and self.lookups.get(inode.number) else self.table.root

    @rule(target=inodes, parent=st.none() | inodes, name=NAMES, attributes=st.sampled_from([FILE, DIRECTORY]))
    def add(self, parent: Inode | None, name: str, attributes: Attributes) -> Inode:
        directory = self.parent(parent)
        if not directory.attributes.is_directory:
            directory = self.table.root
        inode = self.table.add(directory, name, attributes)
        assert inode.number not in self.known
        self.known[inode.number] = inode
        inode.lookups += 1
        self.lookups[inode.number] = 1
        assert self.table.child(directory, name) is inode
        return inode

    @rule(inode=inodes)
    def look_up_again(self, inode: Inode) -> None:
        if self.is_alive(inode):
            inode.lookups += 1
            self.lookups[inode.number] = self.lookups.get(inode.number, 0) + 1

    @rule(inode=inodes, share=st.integers(1, 3))
    def forget(self, inode: Inode, share: int) -> None:
        count = min(self.lookups.get(inode.number, 0), share)
        if count:
            self.lookups[inode.number] -= count
            self.table.forget(inode.number, count)

    @rule(target=pins, inode=inodes)
    def pin(self, inode: Inode) -> Inode:
        if not self.is_alive(inode):
            return multiple()  # type: ignore[return-value]  # Hypothesis' way to say nothing
        self.table.pin(inode)
        self.pinned[inode.number] = self.pinned.get(inode.number, 0) + 1
        return inode

    @rule(inode=consumes(pins))
    def unpin(self, inode: Inode) -> None:
        self.pinned[inode.number] -= 1
        self.table.unpin(inode)

    @rule(parent=st.none() | inodes, name=NAMES)
    def unlink(self, parent: Inode | None, name: str) -> None:
        directory = self.parent(parent)
        self.table.unlink(directory, name)
        assert self.table.child(directory, name) is None

    @rule(parent=st.none() | inodes, inode=inodes, name=NAMES)
    def move(self, parent: Inode | None, inode: Inode, name: str) -> None:
        directory = self.parent(parent)
        if not self.is_alive(inode) or not inode.is_linked or not directory.attributes.is_directory:
            return
        if self.table.child(directory, name) is inode or self.is_within(directory, inode):
            return
        if inode.parent is None or not self.lookups.get(inode.number):
            return
        self.table.move(inode, directory, name)
        assert inode.is_linked
        assert inode.key == f"{directory.key}{name}" + "/" * inode.attributes.is_directory

    @precondition(lambda self: self.known)
    @rule()
    def forget_everything(self) -> None:
        for number, count in list(self.lookups.items()):
            if count:
                self.lookups[number] = 0
                self.table.forget(number, count)
        if not any(self.pinned.values()):
            assert len(self.table) == 1

    @invariant()
    def held_inodes_live_and_others_do_not(self) -> None:
        self.table.check_invariants()
        held_numbers = {number for number in self.known if self.lookups.get(number) or self.pinned.get(number)}
        for number in held_numbers:
            assert self.table[number] is self.known[number]
        needed = set(held_numbers)
        for number in held_numbers:
            inode = self.known[number]
            while inode.is_linked and inode.parent is not None:
                inode = inode.parent
                needed.add(inode.number)
        assert needed <= {number for number in [*self.known, ROOT_NUMBER] if self.is_alive_number(number)}
        assert len(self.table) == len(needed | {ROOT_NUMBER})

    def is_alive(self, inode: Inode) -> bool:
        return self.is_alive_number(inode.number)

    def is_alive_number(self, number: int) -> bool:
        try:
            self.table[number]
        except KeyError:
            return False
        return True

    def is_within(self, inode: Inode | None, ancestor: Inode) -> bool:
        while inode is not None:
            if inode is ancestor:
                return True
            inode = inode.parent
        return False


TestInodeTable = InodeMachine.TestCase
TestInodeTable.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class ForgetfulKernel:
    """Forgets what it is told to, if it may: some names are in use."""

    def __init__(self) -> None:
        self.table: InodeTable | None = None
        self.in_use: set[str] = set()

    def invalidate_inode(self, inode: int, *, attributes_only: bool = False) -> None:
        pass

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        assert self.table is not None
        inode = self.table.child(self.table[parent], name.decode())
        if inode is not None and inode.lookups and inode.name not in self.in_use:
            self.table.forget(inode.number, inode.lookups)


def test_a_walk_through_many_names_stays_within_the_limit() -> None:
    kernel = ForgetfulKernel()
    kernel.table = table = InodeTable("", DIRECTORY, kernel, limit=100)
    kernel.in_use = {"0", "7"}
    for number in range(10_000):
        table.add(table.root, str(number), FILE).lookups = 1
        assert len(table) <= 110
    assert table.child(table.root, "7") is not None
    assert table.child(table.root, "9999") is not None
    table.check_invariants()


def test_a_kernel_that_does_not_forget_costs_no_more_than_the_names() -> None:
    table = InodeTable("", DIRECTORY, None, limit=10)
    for number in range(1000):
        table.add(table.root, str(number), FILE).lookups = 1
    assert len(table) == 1001
    table.check_invariants()
