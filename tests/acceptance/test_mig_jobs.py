"""Jobs of PBS and pods on a node whose GPU 0 is divided into MIG instances."""

from collections.abc import Iterator

import pytest
from support.daemon import gpu, until
from support.mig import instance
from support.pbs import NODE, Mom, mom
from support.people import Person

from canhazgpu.cli.kubernetes import held
from canhazgpu.client import Client, Refused

JOB = "4711.head"
FREE = 3  # Lines of `status`: two instances, and GPU 1.


@pytest.fixture(scope="module")
def service() -> Iterator[Mom]:
    """A node with the divided GPU 0 and GPU 1."""
    instances = [instance(number, "3g.40gb", f"MIG-{number}") for number in range(2)]
    with mom(gpu(0, uuid="GPU-card"), *instances, gpu(1, uuid="GPU-whole")) as found:
        until(lambda: found.daemon.status().count("AVAILABLE") == FREE)
        yield found


@pytest.fixture
def node(service: Mom) -> Iterator[Mom]:
    """The same, with nothing reserved in the end."""
    yield service
    service.daemon.run("admin", "release", "--all")
    until(lambda: service.daemon.status().count("AVAILABLE") == FREE)


def test_torque_gives_a_job_the_whole_of_a_divided_gpu(node: Mom, people: list[Person]) -> None:
    """The job holds all instances, and the epilogue releases them."""
    done = node.prologue(JOB, people[0], "0")
    assert (done.returncode, done.stderr, node.held) == (0, "", {JOB: [0, 1024, 1025]})
    assert f"GPU 0:1: IN USE by {people[0].name} (job {JOB}) for" in node.daemon.status()
    assert (node.epilogue(JOB, people[0]).returncode, node.held) == (0, {})


def test_a_job_waits_for_all_instances(node: Mom, people: list[Person]) -> None:
    """While somebody has one of them, the job goes back to the queue, and is told which."""
    node.daemon.run("reserve", "--gpu-ids", "0:1", person=people[1])
    done = node.prologue(JOB, people[0], "0")
    assert (done.returncode, node.held) == (2, {})
    assert f"GPU 0:1 is reserved by {people[1].name}" in done.stderr


def test_torque_cannot_name_an_instance(node: Mom, people: list[Person]) -> None:
    """Its number is not taken for the index of one."""
    done = node.prologue(JOB, people[0], "1025")
    assert (done.returncode, node.held) == (2, {})
    assert "this node has no GPU 1025; Torque counts whole GPUs" in done.stderr


def test_openpbs_names_an_instance_by_its_vnode(node: Mom, people: list[Person]) -> None:
    """The resource gpu_id of a vnode can be 0:1; the job holds this instance alone."""
    where = f"({NODE}[0]:ncpus=1:ngpus=1)"
    job = {"id": JOB, "euser": people[0].name, "exec_vnode": where}
    vnodes = {f"{NODE}[0]": {"gpu_id": "0:1", "ngpus": 1}}
    assert node.hook("execjob_begin", job=job, vnodes=vnodes)["accepted"]
    assert node.held == {JOB: [1025]}
    assert f"GPU 0:1: IN USE by {people[0].name} (job {JOB})" in node.daemon.status()
    assert node.hook("execjob_end", job=job)["accepted"]
    assert node.held == {}


def test_pods_get_neither_instances_nor_divided_gpus(node: Mom) -> None:
    """They are not offered, and refused if the kubelet has an old list."""
    client = Client(str(node.daemon.folder / "s"))
    assert [device.uuid for device in held.devices(client)] == ["GPU-whole"]
    for uuid in ("GPU-card", "MIG-1"):
        with pytest.raises(Refused, match=f"{uuid} is not a GPU of this host"):
            held.reserve_patiently(client, [uuid], 1.0)
    pod = {"kind": "kubernetes", "job": "starting-a", "uid": 0}
    for facts in ({"gpus": [1025]}, {"gpus": ["GPU-card"]}, {"devices": [0]}):
        with pytest.raises(Refused, match="pods get GPUs that are not divided into MIG instances"):
            client.post("/v1/jobs", {**pod, **facts, "wait": False})
    assert node.daemon.status().count("AVAILABLE") == FREE


def test_a_gpu_that_is_divided_while_a_pod_has_it(node: Mom) -> None:
    """No other pod gets it, and when the pod has ended it is released with its instances."""
    daemon = node.daemon
    before = (daemon.folder / "gpus.toml").read_text()
    client = Client(str(daemon.folder / "s"))
    held.reserve_patiently(client, ["GPU-whole"], 1.0)
    daemon.place(before, instance(0, "7g.80gb", "MIG-new"))
    until(lambda: "GPU 1:0: IN USE" in daemon.status())
    (device,) = held.devices(client)
    assert (device.uuid, device.healthy, device.in_use) == ("GPU-whole", False, False)
    with pytest.raises(Refused, match="GPU-whole is divided into MIG instances"):
        held.reserve_patiently(client, ["GPU-whole"], 1.0)
    assert device.held
    held.release(client, [device.held])
    until(lambda: "GPU 1:0: AVAILABLE" in daemon.status())
    assert held.devices(client) == ()
    daemon.place(before)
