"""Reservations for the jobs of a scheduler, as its prolog and epilog ask for them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person

from canhazgpu.client import Client, Refused

BOTH = [3, 2]  # Numbers of device files. The GPUs 0 and 1 have them.


@pytest.fixture(scope="module")
def service() -> Iterator[Daemon]:
    """A host of four GPUs whose device files count the other way round."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        daemon = Daemon(Path(name))
        daemon.place(*cards())
        daemon.start()
        until(lambda: daemon.status().count("AVAILABLE") == 4)
        yield daemon
        daemon.stop()


@pytest.fixture
def host(service: Daemon) -> Iterator[Daemon]:
    """The same, with nothing reserved in the end."""
    yield service
    service.run("admin", "release", "--all")
    service.place(*cards())
    until(lambda: service.status().count("AVAILABLE") == 4)


def cards(**processes: str) -> list[str]:
    """Return the scenario; `gpu0` and so on name the process on a GPU."""
    used = [[processes[f"gpu{index}"]] if f"gpu{index}" in processes else [] for index in range(4)]
    return [gpu(index, *used[index], minor=3 - index, memory_used_mb=45) for index in range(4)]


def reserve(host: Daemon, job: str = "17", uid: int = 0, devices: list[int] = BOTH, **more: Any) -> Any:
    """Ask as a prolog does; return the reservation."""
    body = {"kind": "slurm", "job": job, "uid": uid, "devices": devices, **more}
    return client(host).post("/v1/jobs", body)["reservation"]


def release(host: Daemon, job: str = "17") -> Any:
    """Release as an epilog does."""
    return client(host).post("/v1/jobs/release", {"kind": "slurm", "job": job})


def client(host: Daemon) -> Client:
    """Return a client of the service."""
    return Client(str(host.folder / "s"))


def refusal(host: Daemon, **facts: Any) -> Refused:
    """Return why a job gets nothing."""
    with pytest.raises(Refused) as refused:
        reserve(host, **facts)
    return refused.value


def test_device_files_are_the_gpus_with_these_minor_numbers(host: Daemon, people: list[Person]) -> None:
    """A job holds the GPUs of its device files in its user's name, until it ends."""
    held = reserve(host, uid=people[0].uid)
    assert (held["gpus"], held["kind"], held["user"]) == ([0, 1], "slurm", people[0].name)
    assert (held["label"], held["expires"], held["pid"]) == ("job 17", None, None)
    assert f"GPU 0: IN USE by {people[0].name} (job 17) for" in host.status()
    assert "(slurm, until the job ends)" in host.status()
    assert [row["gpus"] for row in release(host)] == [[0, 1]]
    assert release(host) == []


def test_a_job_asks_again_and_holds_the_same(host: Daemon) -> None:
    """A prolog that runs twice gets the reservation that the job has, with other GPUs a new one."""
    first = reserve(host)
    assert reserve(host)["id"] == first["id"]
    moved = reserve(host, devices=[1])
    assert (moved["gpus"], moved["id"] != first["id"]) == ([2], True)
    assert len(client(host).get("/v1/reservations")) == 1


def test_jobs_of_one_user_hold_gpus_side_by_side(host: Daemon, people: list[Person]) -> None:
    """Each job has a reservation of its own, and its end leaves the other's."""
    reserve(host, job="17", uid=people[0].uid, devices=[0])
    reserve(host, job="18", uid=people[0].uid, devices=[1])
    release(host, job="17")
    assert [row["label"] for row in client(host).get("/v1/reservations")] == ["job 18"]


def test_only_root_reserves_for_others(host: Daemon, people: list[Person]) -> None:
    """A user is refused, also for a job of their own."""
    script = f'from canhazgpu.client import Client; Client("{host.folder}/s").post("/v1/jobs", ' + repr(
        {"kind": "slurm", "job": "1", "uid": people[0].uid, "devices": [0]}
    )
    words = people[0].command(sys.executable, "-c", f"{script})")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert "only administrators can do this" in done.stderr
    assert client(host).get("/v1/reservations") == []


def test_its_user_cannot_release_what_the_scheduler_gave(host: Daemon, people: list[Person]) -> None:
    """`release` refuses the GPUs of a job and leaves them with --all; an administrator can release them."""
    reserve(host, uid=people[0].uid)
    named = host.run("release", "0", person=people[0])
    assert (named.returncode, "released when the job ends" in named.stderr) == (1, True)
    assert "Nothing to release" in host.run("release", "--all", person=people[0]).stdout
    assert "Nothing to release" in host.run("release", person=people[0]).stdout
    assert len(client(host).get("/v1/reservations")) == 1
    assert host.run("admin", "release", "--user", people[0].name).returncode == 0
    assert client(host).get("/v1/reservations") == []


def test_gpus_that_somebody_holds_are_refused(host: Daemon) -> None:
    """A job does not get GPUs that are reserved; the refusal names the holder."""
    assert host.run("reserve", "--gpu-ids", "0").returncode == 0
    refused = refusal(host)
    assert (refused.status, refused.kind) == (409, "not-available")
    assert "GPU 0 is reserved by root" in str(refused)
    assert len(client(host).get("/v1/reservations")) == 1


def test_gpus_in_use_are_given_only_to_their_own_user(host: Daemon, people: list[Person]) -> None:
    """A job whose own processes are there already gets the GPU; another user's job does not."""
    process = people[0].spawn("sleep", "600")
    host.place(*cards(gpu0=use(process.pid, 900)))
    until(lambda: "WITHOUT RESERVATION" in host.status())
    assert "in use" in str(refusal(host, uid=people[1].uid))
    assert reserve(host, uid=people[0].uid)["gpus"] == [0, 1]


def test_a_device_file_that_no_gpu_has_is_refused(host: Daemon) -> None:
    """The refusal names the file and the setting."""
    refused = refusal(host, devices=[0, 7])
    assert (refused.status, refused.kind) == (400, "no-such-device")
    assert "/dev/nvidia7" in str(refused)
    assert "slurm.devices" in str(refused)


def test_gpus_that_are_not_managed_need_no_reservation(host: Daemon) -> None:
    """They are the scheduler's alone: a job holds only the others, and is refused if there are none."""
    assert host.run("admin", "init", "--gpu-ids", "1-3").returncode == 0
    try:
        assert reserve(host)["gpus"] == [1]
        refused = refusal(host, job="18", devices=[3])
        assert (refused.status, refused.kind) == (409, "not-managed")
    finally:
        assert host.run("admin", "init", "--force").returncode == 0


def test_run_takes_nothing_that_a_job_holds(host: Daemon, people: list[Person]) -> None:
    """`run` gets the other GPUs, and is refused if there are not enough."""
    reserve(host, uid=people[0].uid, devices=[3, 2, 1])
    assert host.run("run", "--gpus", "1", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES").stdout == "3\n"
    until(lambda: host.status().count("AVAILABLE") == 1)
    done = host.run("run", "--gpus", "2", "--nonblock", "--", "true", person=people[0])
    assert "3 GPUs reserved" in done.stderr


def test_pods_hold_gpus_one_by_one_until_they_end(host: Daemon) -> None:
    """A reservation for Kubernetes is labelled when the pod is known, and is released by its id."""
    both = [reserve(host, kind="kubernetes", job=f"starting-{device}", devices=[device]) for device in BOTH]
    assert "GPU 0: IN USE by root (pod starting-3) for" in host.status()
    for held in both:
        body = {"kind": "kubernetes", "id": held["id"], "job": "ml/train-0"}
        assert client(host).post("/v1/jobs/label", body) == {"labelled": True}
    assert host.status().count("(pod ml/train-0) for") == 2
    assert "(kubernetes, until the pod ends)" in host.status()
    told = host.run("events", "--type", "reservation.labelled", "--json").stdout
    assert told.count('"label": "pod ml/train-0"') == 2
    host.stop(9)  # The label is in the journal, as the reservation is.
    host.start()
    body = {"kind": "kubernetes", "ids": [both[0]["id"]]}
    assert [row["gpus"] for row in client(host).post("/v1/jobs/release", body)] == [[0]]
    assert [row["label"] for row in client(host).get("/v1/reservations")] == ["pod ml/train-0"]
    assert "reserved for a pod" in host.run("release", "1").stderr


def test_only_what_a_scheduler_holds_is_labelled_and_released(host: Daemon) -> None:
    """The ids of manual reservations and of other jobs change nothing; a job or ids must be named."""
    assert host.run("reserve", "--gpu-ids", "0").returncode == 0
    reserve(host, devices=[2])
    for held in client(host).get("/v1/reservations"):
        body = {"kind": "kubernetes", "id": held["id"], "job": "ml/train-0"}
        assert client(host).post("/v1/jobs/label", body) == {"labelled": False}
        assert client(host).post("/v1/jobs/release", {"kind": "kubernetes", "ids": [held["id"]]}) == []
    assert [row["label"] for row in client(host).get("/v1/reservations")] == [None, "job 17"]
    with pytest.raises(Refused, match="either `job` or `ids`"):
        client(host).post("/v1/jobs/release", {"kind": "slurm"})


def test_a_killed_service_keeps_the_reservations_of_jobs(host: Daemon) -> None:
    """They are there again after kill -9 and a start."""
    held = reserve(host)
    host.stop(9)
    host.start()
    rows = client(host).get("/v1/reservations")
    assert [(row["id"], row["kind"], row["label"]) for row in rows] == [(held["id"], "slurm", "job 17")]
    assert [row["id"] for row in release(host)] == [held["id"]]
