"""Control groups without a kernel: where they are looked for, and what is written into them.

The real ones, of the version that the machine has, are in test_host_confinement.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from titan.worker.host import cgroup_mounts, cgroups
from titan.worker.host.cgroup_mounts import LEAF, Hierarchy, find_hierarchies, leave_leaf
from titan.worker.host.cgroups import Cgroups, Limits, Usage

OWN = str(os.getpid())
ALL = "cpu memory pids"


class Tree:
    """A directory that looks like the kernel's, as far as files in it tell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.proc = path / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.mounts: list[str] = []
        self.lines: list[str] = []

    def mount_v2(self, group: str, *, controllers: str = ALL, enabled: str = "") -> Path:
        return self._mount("cgroup2", "rw", "", group, controllers, enabled)

    def mount_v1(self, name: str, group: str) -> Path:
        return self._mount("cgroup", f"rw,{name}", name, group, "", "")

    def _mount(
        self, kind: str, options: str, names: str, group: str, controllers: str, enabled: str
    ) -> Path:
        point = self.path / (names or "unified")
        own = point / group.lstrip("/")
        own.mkdir(parents=True)
        (own / "cgroup.procs").write_text(f"{OWN}\n")
        if kind == "cgroup2":
            (own / "cgroup.controllers").write_text(controllers)
            (own / "cgroup.subtree_control").write_text(enabled)
        self.mounts.append(f"31 23 0:28 / {point} rw,relatime - {kind} {kind} {options}")
        self.lines.append(f"{len(self.lines)}:{names}:{group}")
        (self.proc / "self/mountinfo").write_text("\n".join(self.mounts) + "\n")
        (self.proc / "self/cgroup").write_text("\n".join(self.lines) + "\n")
        return own


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def refuse_once(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """The kernel refuses the first write to a file of that name."""
    refused: list[str] = []

    def writing(path: str, value: str) -> None:
        if path.endswith(name) and not refused:
            refused.append(path)
            raise OSError(number, os.strerror(number))
        Path(path).write_text(value)

    monkeypatch.setattr(cgroup_mounts, "write", writing)


def test_version_2_with_controllers_on_is_used_as_it_is(tree: Tree) -> None:
    own = tree.mount_v2("/a/b", enabled=ALL)
    found, faults = find_hierarchies(tree.proc)
    assert found == [Hierarchy(2, frozenset(ALL.split()), str(own), str(own))]
    assert faults == []


def test_in_version_2_the_host_makes_room_for_the_groups_of_tasks(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tree.mount_v2("/service")
    refuse_once(monkeypatch, "subtree_control", 16)
    (hierarchy,), faults = find_hierarchies(tree.proc)
    assert hierarchy == Hierarchy(2, frozenset(ALL.split()), str(own), str(own / LEAF))
    assert (own / LEAF / "cgroup.procs").read_text() == OWN
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert faults == []


def test_processes_of_others_are_not_moved_and_it_is_said_what_helps(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tree.mount_v2("/user.slice/session.scope")
    (own / "cgroup.procs").write_text(f"{OWN}\n1\n")
    refuse_once(monkeypatch, "subtree_control", 16)
    found, faults = find_hierarchies(tree.proc)
    assert found == []
    assert len(faults) == 3
    assert all("has other processes, too" in each and "Delegate=yes" in each for each in faults)
    assert not (own / LEAF).exists()


def test_a_host_that_finds_itself_in_the_leaf_works_beside_it(tree: Tree) -> None:
    leaf = tree.mount_v2(f"/service/{LEAF}")
    base = leaf.parent
    (base / "cgroup.subtree_control").write_text(ALL)
    (hierarchy,), _ = find_hierarchies(tree.proc)
    assert (hierarchy.base, hierarchy.home) == (str(base), str(leaf))


def test_each_controller_is_taken_where_it_is(tree: Tree) -> None:
    v2 = tree.mount_v2("/", controllers="cpu", enabled="cpu")
    memory = tree.mount_v1("memory", "/box")
    found, faults = find_hierarchies(tree.proc)
    assert {(each.version, *each.controllers, each.base) for each in found} == {
        (2, "cpu", str(v2)),
        (1, "memory", str(memory)),
    }
    assert faults == ["pids: this machine has no such controller"]


def test_a_group_that_is_not_seen_from_here_is_not_used(tree: Tree) -> None:
    own = tree.mount_v1("memory", "/docker/abc")
    (own / "cgroup.procs").write_text("1\n")
    assert find_hierarchies(tree.proc)[0] == []


def test_a_mount_of_a_part_of_the_hierarchy_is_understood(tree: Tree) -> None:
    own = tree.mount_v1("memory", "/")
    (tree.proc / "self/mountinfo").write_text(
        f"31 23 0:28 /docker/abc {own} rw - cgroup cgroup rw,memory\n"
    )
    (tree.proc / "self/cgroup").write_text("4:memory:/docker/abc\n")
    (hierarchy,), _ = find_hierarchies(tree.proc)
    assert hierarchy.base == str(own)


def test_the_leaf_is_left_when_nobody_else_is_there(tree: Tree, tmp_path: Path) -> None:
    base = tmp_path / "service"
    leaf = base / LEAF
    leaf.mkdir(parents=True)
    (base / "cgroup.subtree_control").write_text("")
    (base / "cgroup.procs").write_text("")
    (leaf / "cgroup.procs").write_text(f"{OWN}\n1\n")
    hierarchy = Hierarchy(2, frozenset({"memory"}), str(base), str(leaf))
    leave_leaf(hierarchy)
    assert (base / "cgroup.subtree_control").read_text() == ""
    (leaf / "cgroup.procs").write_text(OWN)
    leave_leaf(hierarchy)
    assert (base / "cgroup.subtree_control").read_text() == "-memory"
    assert (base / "cgroup.procs").read_text() == OWN


class Written:
    """Takes what would be written into groups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[tuple[str, str]] = []
        monkeypatch.setattr(cgroups, "write", self.write)

    def write(self, path: str, value: str) -> None:
        self.writes.append((os.path.basename(path), value))

    def take(self) -> list[tuple[str, str]]:
        taken, self.writes = self.writes, []
        return taken


def test_version_2_gets_its_limits_in_its_files_and_dies_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "cgroup.procs").touch()
    written = Written(monkeypatch)
    own = Cgroups([Hierarchy(2, frozenset(ALL.split()), str(base), str(base))], "t")
    group = own.take(Limits(memory_bytes=64 << 20, pids_max=9, cpus_milli=1500))
    assert written.take() == [
        ("memory.oom.group", "0"),
        ("memory.swap.max", "0"),
        ("memory.max", str(64 << 20)),
        ("pids.max", "9"),
        ("cpu.max", "150000 100000"),
    ]
    with own.within(group):
        assert written.take() == [("cgroup.procs", "0")]
        assert (base / "cgroup.procs").read_text() == ""
    # The host is out of it again when the kernel may kill all that is in it.
    assert (base / "cgroup.procs").read_text() == "0"
    assert written.take() == [("memory.oom.group", "1")]
    assert own.watch_oom(group) == -1
    path = Path(group.path(group.hierarchies[0]))
    (path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (path / "pids.events").write_text("max 7\n")
    assert own.usage(group) == Usage(2, 7)
    own.give_back(group)
    again = own.take(Limits(memory_bytes=32 << 20))
    assert again is group
    assert own.usage(again) == Usage(0, 0)
    assert written.take() == [
        ("memory.oom.group", "0"),
        ("memory.swap.max", "0"),
        ("memory.max", str(32 << 20)),
        ("pids.max", "max"),
        ("cpu.max", "max 100000"),
    ]
    own.give_back(again)
    third = own.take(Limits(memory_bytes=32 << 20, pids_max=9))
    assert third is group
    assert own.usage(third) == Usage(0, 0)


def test_version_1_raises_and_lowers_memory_in_the_order_that_the_kernel_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(monkeypatch)
    (tmp_path / "cgroup.procs").touch()
    own = Cgroups([Hierarchy(1, frozenset({"memory"}), str(tmp_path), str(tmp_path))], "t")
    memory, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    for size, names in (
        (64 << 20, [memory, both]),
        (32 << 20, [memory, both]),
        (96 << 20, [both, memory]),
    ):
        group = own.take(Limits(memory_bytes=size))
        assert written.take() == [(name, str(size)) for name in names]
        own.give_back(group)


def test_a_group_that_will_not_take_a_limit_is_replaced_by_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.procs").touch()
    own = Cgroups([Hierarchy(1, frozenset({"pids"}), str(tmp_path), str(tmp_path))], "t")
    written = Written(monkeypatch)
    first = own.take(Limits(pids_max=3))
    own.give_back(first)

    def refuse(path: str, value: str) -> None:
        if first.name in path:
            raise OSError(16, "busy")
        written.write(path, value)

    monkeypatch.setattr(cgroups, "write", refuse)
    second = own.take(Limits(pids_max=4))
    assert second is not first
    assert own.has_leaving
