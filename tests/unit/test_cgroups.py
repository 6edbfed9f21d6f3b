"""What cgroup paths say, tested with paths of real hosts and with misleading ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.service.identity.cgroups import container_of, slice_uid

A, B = "a1" * 32, "b2" * 32
POD = "pod0d5a8a4e_3f0c_4a0b_9f0e_1c2d3e4f5a6b"
DASHED = POD.replace("_", "-")
USER = "/user.slice/user-1000.slice/user@1000.service"
KUBE = "0::/kubepods.slice"
BURST, BEST, KUBELET = "kubepods-burstable", "kubepods-besteffort", "/kubelet.slice/kubelet-kubepods"
STREWN = ["0::/", A, "user-", "1000", ".slice", "/", ":", "\n", "docker-", ".scope"]
CONTAINERS = [
    ("docker", f"0::/system.slice/docker-{A}.scope"),
    ("docker", f"0::/docker/{A}"),
    ("docker", f"12:devices:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/system.slice/containerd.service"),
    ("docker", f"11:memory:/system.slice/docker-{A}.scope\n0::/"),
    ("docker", f"0::/system.slice/docker-{A}.scope/init.scope"),
    ("docker", f"0::{USER}/user.slice/docker-{A}.scope"),
    ("docker", f"{KUBE}/{BURST}.slice/{BURST}-{POD}.slice/docker-{A}.scope"),
    ("docker", f"0::/actions_job/docker/{A}"),
    ("podman", f"0::/machine.slice/libpod-{A}.scope"),
    ("podman", f"0::/machine.slice/libpod-{A}.scope/container"),
    ("podman", f"0::{USER}/user.slice/libpod-{A}.scope"),
    ("podman", f"0::{USER}/user.slice/libpod-{A}.scope/container"),
    ("podman", f"0::/libpod_parent/libpod-{A}"),
    ("podman", f"10:cpuset:/libpod_parent/{A}\n0::/"),
    ("podman", f"0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container"),
    ("containerd", f"0::/system.slice/nerdctl-{A}.scope"),
    ("containerd", f"{KUBE}/kubepods-{POD}.slice/cri-containerd-{A}.scope"),
    ("containerd", f"{KUBE}/{BURST}.slice/{BURST}-{POD}.slice/cri-containerd-{A}.scope"),
    ("containerd", f"{KUBE}/{BEST}.slice/{BEST}-{POD}.slice/cri-containerd-{A}.scope"),
    ("containerd", f"0::/kubepods/burstable/{DASHED}/{A}"),
    ("containerd", f"0::/kubepods/besteffort/{DASHED}/{A}"),
    ("containerd", f"0::/kubepods/{DASHED}/{A}"),
    ("containerd", f"5:memory:/system.slice/containerd.service/{BURST}-{POD}.slice:cri-containerd:{A}"),
    ("containerd", f"0::{KUBELET}.slice/kubelet-kubepods-{POD}.slice/cri-containerd-{A}.scope"),
    ("cri-o", f"{KUBE}/{BURST}.slice/{BURST}-{POD}.slice/crio-{A}.scope"),
    ("cri-o", f"{KUBE}/kubepods-{POD}.slice/crio-{A}.scope/container"),
    ("cri-o", f"0::/kubepods/burstable/{DASHED}/crio-{A}"),
    ("container", f"0::/ecs/0123456789/{A}"),
]  # fmt: skip
LXC = [
    ("web", "0::/lxc.payload.web"),
    ("web", "0::/lxc.payload.web/system.slice/sshd.service"),
    ("my.box-1", "0::/lxc.payload.my.box-1/init.scope"),
    ("web", "8:memory:/lxc/web\n1:name=systemd:/lxc/web/init.scope"),
    ("101", "0::/lxc/101/ns/user.slice/user-0.slice"),
]
OUTSIDE = [
    "0::/",
    "",
    "0::/init.scope",
    "0::/system.slice/sshd.service",
    "0::/system.slice/docker.service",
    "0::/system.slice/containerd.service",
    "0::/user.slice/user-1000.slice/session-3.scope",
    f"0::{USER}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
    f"0::{USER}/tmux-spawn-0d5a8a4e.scope",
    "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0",
    "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/user.slice/user-1000.slice/session-3.scope",
    "0::/lxc.monitor.web",
    "0::/lxc",
    "0::/docker",
    "0::/kubepods.slice",
]
SLICES = [
    (1000, "0::/user.slice/user-1000.slice/session-3.scope"),
    (1000, "0::/user.slice/user-1000.slice/session-c12.scope"),
    (1000, f"0::{USER}/init.scope"),
    (1000, f"0::{USER}/user.slice/libpod-{A}.scope/container"),
    (0, "0::/user.slice/user-0.slice/session-1.scope"),
    (1000, "4:cpu:/\n1:name=systemd:/user.slice/user-1000.slice/session-3.scope"),
    (None, "0::/system.slice/cron.service"),
    (None, f"0::/system.slice/docker-{A}.scope"),
    (None, "0::/user.slice"),
    (None, "0::/"),
    (None, ""),
]


@pytest.mark.parametrize(("runtime", "cgroup"), CONTAINERS)
def test_a_container_is_known_by_its_cgroup(runtime: str, cgroup: str) -> None:
    """A container of every runtime is recognised with either driver and either version of cgroups."""
    found = container_of(cgroup)
    assert found is not None
    assert (found.runtime, found.id) == (runtime, A)


@pytest.mark.parametrize(("name", "cgroup"), LXC)
def test_an_lxc_container_is_known_by_its_name(name: str, cgroup: str) -> None:
    """A container of LXC, LXD or Proxmox is identified by its name, because it has no id."""
    found = container_of(cgroup)
    assert found is not None
    assert (found.runtime, found.id) == ("lxc", name)


@pytest.mark.parametrize("cgroup", OUTSIDE)
def test_outside_of_containers_there_is_none(cgroup: str) -> None:
    """Services, sessions, batch jobs and the runtimes' own daemons are not in a container."""
    assert container_of(cgroup) is None


@pytest.mark.parametrize(("uid", "cgroup"), SLICES)
def test_whose_session_it_is(uid: int | None, cgroup: str) -> None:
    """The user of a session is the one whose slice systemd created at login."""
    assert slice_uid(cgroup) == uid


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/x{A}",
        f"0::/docker-{A[:-1]}.scope",
        f"0::/docker-{A}0.scope",
        f"0::/docker-{A.upper()}.scope",
        f"0::/evil-docker-{A}.scope.d",
        f"0::/docker-{A}.scope\u200b",
        f"0::/lxc.payloadx{A}",
        "0::/lxc.payload.",
        f"docker-{A}.scope",
        f"0:/docker-{A}.scope",
        "\x00\x1b[31m",
        "::::::",
        "0::" + "/x" * 5000,
    ],
)
def test_what_only_looks_like_a_container_is_none(cgroup: str) -> None:
    """A path component is matched as a whole, and only in a line of the kernel's form."""
    assert container_of(cgroup) is None


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/system.slice/job.service/user-1001.slice",
        "0::/system.slice/job.service/user.slice/user-1001.slice/session-1.scope",
        f"0::/system.slice/docker-{A}.scope/user.slice/user-1001.slice/session-1.scope",
        "0::/lxc.payload.web/user.slice/user-1001.slice/session-1.scope",
        "0::/lxc/101/ns/user.slice/user-1001.slice/session-1.scope",
        f"0::/machine.slice/libpod-{A}.scope/container/user.slice/user-1001.slice",
        "0::/system.slice/job.service/x\x0b0::/user.slice/user-1001.slice",
        "0::/system.slice/job.service/x\u20280::/user.slice/user-1001.slice",
        "0::/user.slice/user-\u0661\u0660\u0660\u0661.slice",
        "0::/user.slice/user-1001.slice.d",
        "0::/user.slice/user--1001.slice",
        "0::/user.slice/user-4294967295.slice",
        "0::/user.slice/user-99999999999999999999.slice",
        "0::/evil/user.slice/user-1001.slice",
    ],
)
def test_a_slice_below_somebody_elses_cgroup_names_nobody(cgroup: str) -> None:
    """A slice below a cgroup that another user can write to names nobody."""
    assert slice_uid(cgroup) is None


def test_a_slice_within_ones_own_slice_changes_nothing() -> None:
    """A cgroup with another user's name in a user's own slice does not change the user."""
    assert slice_uid(f"0::{USER}/user-1001.slice/user.slice/user-1001.slice") == 1000


@pytest.mark.parametrize(
    ("runtime", "cgroup"),
    [
        ("docker", f"0::/lxc.payload.web/system.slice/docker-{A}.scope"),
        ("podman", f"0::/system.slice/docker-{B}.scope/machine.slice/libpod-{A}.scope"),
        ("docker", f"0::/kubepods/burstable/{DASHED}/{B}/docker/{A}"),
    ],
)
def test_the_innermost_container_counts(runtime: str, cgroup: str) -> None:
    """A process in a container within a container is in the innermost one."""
    found = container_of(cgroup)
    assert found is not None
    assert (found.runtime, found.id) == (runtime, A)


@given(st.text(max_size=300) | st.lists(st.sampled_from(STREWN), max_size=30).map("".join))
def test_no_text_raises(cgroup: str) -> None:
    """Any text of a container name is accepted without an exception."""
    found = container_of(cgroup)
    assert found is None or found.id
    uid = slice_uid(cgroup)
    assert uid is None or 0 <= uid < 2**32 - 1


def test_a_folder_that_a_user_made_is_no_container() -> None:
    """A folder that a user created under cgroup v1 does not count as a container, whatever its name."""
    cgroup = (
        f"12:freezer:/user/alice/0/docker/{A}\n1:name=systemd:/user.slice/user-1000.slice/session-1.scope"
    )
    assert container_of(cgroup) is None
    assert slice_uid(cgroup) == 1000
