"""OpenPBS: the hook, run by Python for the events of pbs_mom with a service behind it."""

from collections.abc import Iterator
from typing import Any

import pytest
from support.daemon import until
from support.pbs import GPUS, NODE, Mom, cards, clear, mom
from support.people import Person

JOB = "4711.head"


@pytest.fixture(scope="module")
def service() -> Iterator[Mom]:
    """A node of four GPUs whose device files count the other way round."""
    with mom() as found:
        yield found


@pytest.fixture
def node(service: Mom) -> Iterator[Mom]:
    """The same, with nothing reserved in the end."""
    yield service
    service.daemon.place(*cards())
    clear(service)


def job(person: Person, exec_vnode: str = f"({NODE}:ncpus=1:ngpus=2)", **facts: Any) -> dict[str, Any]:
    """Return the facts of a job."""
    return {"id": JOB, "euser": person.name, "exec_vnode": exec_vnode, **facts}


def vnode(gpu: int) -> dict[str, Any]:
    """Return the resources of a vnode that has one GPU."""
    return {"gpu_id": f"gpu{gpu}", "ngpus": 1}


def test_the_devices_of_the_cgroup_are_reserved_until_the_end(node: Mom, people: list[Person]) -> None:
    """The hook pbs_cgroups names device files, which are found by minor number."""
    node.assign(JOB, "nvidia0", "nvidia1", "nvidiactl")
    began = node.hook("execjob_begin", job=job(people[0]))
    assert (began["accepted"], began["log"]) == (True, [])
    assert node.held == {JOB: [2, 3]}
    ended = node.hook("execjob_end", job=job(people[0]))
    assert (ended["accepted"], ended["log"], node.held) == (True, [], {})


def test_without_the_cgroup_the_vnodes_say_which_gpus(node: Mom, people: list[Person]) -> None:
    """Each GPU is a vnode of this node with the resource gpu_id, an index; other nodes do not count."""
    where = f"({NODE}[1]:ncpus=1:ngpus=1+{NODE}[3]:ngpus=1)+(node2[0]:ncpus=1:ngpus=1)"
    vnodes = {f"{NODE}[1]": vnode(1), f"{NODE}[3]": vnode(3), "node2[0]": vnode(0)}
    assert node.hook("execjob_begin", job=job(people[0], where), vnodes=vnodes)["accepted"]
    assert node.held == {JOB: [1, 3]}


def test_a_job_without_gpus_runs_without_the_service(node: Mom, people: list[Person]) -> None:
    """Nothing is asked for it."""
    node.daemon.stop()
    try:
        began = node.hook("execjob_begin", job=job(people[0], f"({NODE}:ncpus=2)"))
        ended = node.hook("execjob_end", job=job(people[0], f"({NODE}:ncpus=2)"))
    finally:
        node.daemon.start()
    for decision in (began, ended):
        assert (decision["accepted"], decision["log"]) == (True, [])


def test_a_job_whose_gpu_is_held_goes_back_to_the_queue(node: Mom, people: list[Person]) -> None:
    """The hook rejects the event, and the reason, which is in the logs of PBS too, names the holder."""
    assert node.daemon.run("reserve", "--gpu-ids", "3", person=people[1]).returncode == 0
    node.assign(JOB, "nvidia0")
    began = node.hook("execjob_begin", job=job(people[0]))
    assert not began["accepted"]
    assert f"GPU 3 is reserved by {people[1].name}" in began["message"]
    assert began["log"] == [f"{JOB};{began['message']}"]
    assert node.held == {}


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ((), "the job has 2 GPUs on this node, but PBS does not say which"),
        (("nvidia-cap12",), "PBS has given the job MIG instances"),
    ],
)
def test_gpus_that_cannot_be_known_are_not_given(
    node: Mom, people: list[Person], devices: tuple[str, ...], said: str
) -> None:
    """A job with GPUs that PBS does not name, or with parts of GPUs, is sent back with the reason."""
    if devices:
        node.assign(JOB, *devices)
    began = node.hook("execjob_begin", job=job(people[0]), vnodes={NODE: {"ngpus": 4}})
    assert (began["accepted"], node.held) == (False, {})
    assert said in began["message"]


def test_a_job_that_cannot_start_elsewhere_gives_its_gpus_back(node: Mom, people: list[Person]) -> None:
    """The event execjob_abort releases, as the end of a job does."""
    node.assign(JOB, "nvidia0")
    node.hook("execjob_begin", job=job(people[0]))
    assert node.hook("execjob_abort", job=job(people[0]))["accepted"]
    assert node.held == {}


def test_without_the_service_a_job_starts_and_is_reserved_later(node: Mom, people: list[Person]) -> None:
    """The warning is in the log of pbs_mom; the next periodic event reserves."""
    node.assign(JOB, "nvidia0")
    node.daemon.stop()
    try:
        began = node.hook("execjob_begin", job=job(people[0]))
    finally:
        node.daemon.start()
    assert began["accepted"]
    assert "starts, but its GPUs are not reserved yet" in began["log"][0]
    until(lambda: node.daemon.status().count("AVAILABLE") == GPUS)
    node.settle()
    assert node.hook("exechost_periodic", job_list=[JOB])["log"] == [
        f"canhazgpu: Reserved the GPUs of job {JOB}"
    ]
    assert node.held == {JOB: [3]}


def test_jobs_that_pbs_does_not_name_lose_their_gpus(node: Mom, people: list[Person]) -> None:
    """The periodic event names the jobs of this node; what others hold is released."""
    node.assign(JOB, "nvidia0")
    node.hook("execjob_begin", job=job(people[0]))
    node.assign("4712.head", "nvidia1")
    node.hook("execjob_begin", job=job(people[0], id="4712.head"))
    assert node.hook("exechost_periodic", job_list=[])["log"] == []  # They may have begun since then.
    node.settle()
    node.hook("exechost_periodic", job_list=[JOB])
    assert node.held == {JOB: [3]}


def test_the_hook_names_a_job_with_a_long_id(node: Mom, people: list[Person]) -> None:
    """A job whose id is shortened keeps its GPUs while PBS names it, and loses them afterwards."""
    long = f"4711.{'head.' * 28}x"
    node.assign(long, "nvidia0")
    assert node.hook("execjob_begin", job=job(people[0], id=long))["accepted"]
    node.settle()
    node.hook("exechost_periodic", job_list=[long])
    assert list(node.held.values()) == [[3]]
    node.hook("execjob_end", job=job(people[0], id=long))
    assert node.held == {}


def test_after_a_boot_nothing_is_left_and_a_restart_changes_nothing(node: Mom, people: list[Person]) -> None:
    """When pbs_mom starts, only jobs that are not noted lose their GPUs: a boot has emptied the notes."""
    node.assign(JOB, "nvidia0")
    node.hook("execjob_begin", job=job(people[0]))
    node.settle()
    assert node.hook("exechost_startup")["log"] == []
    assert node.held == {JOB: [3]}
    (node.notes / JOB).unlink()
    node.hook("exechost_startup")
    assert node.held == {}


def test_a_program_that_is_missing_is_a_reason(node: Mom, people: list[Person]) -> None:
    """A job with GPUs is sent back; one line says what is wrong; other events go on."""
    hook = node.mom_priv / "canhazgpu-hook.py"
    text = hook.read_text()
    program = next(line for line in text.splitlines() if line.startswith("PROGRAM"))
    hook.write_text(text.replace(program, 'PROGRAM = "/nowhere/canhazgpu"'))
    node.assign(JOB, "nvidia0")
    try:
        began = node.hook("execjob_begin", job=job(people[0]))
        ended = node.hook("execjob_end", job=job(people[0]))
    finally:
        hook.write_text(text)
    assert began["message"] == "canhazgpu: /nowhere/canhazgpu: No such file or directory"
    assert (began["accepted"], ended["accepted"]) == (False, True)
    assert node.hook("execjob_launch", job=job(people[0])) == {"accepted": True, "message": "", "log": []}
