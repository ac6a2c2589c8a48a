"""How many CPUs a process may use, by the files that the kernel shows it."""

from __future__ import annotations

import os

import pytest

from maitred.cpus import AFFINITY, usable

V2 = "31 24 0:27 {top} {point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 25 0:29 {top} {point} rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    b"25 24 0:5 / /proc rw - proc proc rw\n"
    b"26 24 8:1 / /mnt/\xe9t\xe9 rw - ext4 /dev/sda1 rw\n"
    b"34 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make the files of a process with eight CPUs; give the directory above them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "proc/self").mkdir(parents=True)

    def make(groups: str, mounts: str, files: dict[str, str]):
        (tmp_path / "proc/self/cgroup").write_text(groups)
        (tmp_path / "proc/self/mountinfo").write_bytes(OTHERS + mounts.encode())
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense\n", 8),
    ],
)
def test_quota_of_version_2(machine, text, count):
    """A part of a CPU counts as one; more than there are is no limit."""
    root = machine(
        "0::/\n",
        V2.format(top="/", point="/sys/fs/cgroup"),
        {"sys/fs/cgroup/cpu.max": text},
    )
    found = usable(root)
    assert found.number == count
    if count == 8:
        assert found.reason == AFFINITY
    else:
        assert f"{root}/sys/fs/cgroup/cpu.max" in found.reason


def test_smallest_of_nested_groups_holds(machine):
    """A pod has one, and the container in it another; so has a slice of systemd."""
    root = machine(
        "0::/pod/container\n",
        V2.format(top="/", point="/sys/fs/cgroup"),
        {
            "sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/pod/container/cpu.max": "600000 100000\n",
        },
    )
    count, reason = usable(root)
    assert count == 2
    assert reason.endswith("/pod/cpu.max, which is 2")


@pytest.mark.parametrize(
    ("group", "top"),
    [("/docker/abc", "/docker/abc"), ("/", "/"), ("/docker/abc", "/elsewhere")],
    ids=["own group mounted", "own namespace", "unknown"],
)
def test_quota_of_version_1(machine, group, top):
    """What is mounted may be the machine's tree, or the container's own group alone."""
    point = "/sys/fs/cgroup/cpu,cpuacct"
    root = machine(
        f"9:name=systemd:/\n4:cpu,cpuacct:{group}\n0::/\n",
        V1.format(top=top, point=point),
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable(root).number == 3


def test_no_quota_of_version_1(machine):
    """It is -1 there."""
    root = machine(
        "4:cpu:/\n",
        V1.format(top="/", point="/sys/fs/cgroup/cpu"),
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable(root) == (8, AFFINITY)


def test_what_cannot_be_read_does_not_limit(tmp_path):
    """Without /proc, the mask is all there is."""
    assert usable(tmp_path) == (len(os.sched_getaffinity(0)), AFFINITY)
