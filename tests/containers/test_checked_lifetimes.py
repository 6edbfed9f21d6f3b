"""Containers that are checked: their proof, after a boot, and while the service does not answer."""

import json
from collections.abc import Iterator

import pytest
from support.checked_containers import CheckedHost, checked_docker, uuid
from support.daemon import until
from support.dockerd import IMAGE
from support.people import Person

pytestmark = [pytest.mark.docker, pytest.mark.slow(120)]
GPU_0 = "--gpus=device=0"
SLEEPS = ["--network=none", IMAGE, "sleep", "600"]


@pytest.fixture(scope="module")
def checked() -> Iterator[CheckedHost]:
    """A service and a Docker that asks it."""
    with checked_docker() as found:
        yield found


@pytest.fixture
def host(checked: CheckedHost) -> Iterator[CheckedHost]:
    """The same in the mode enforce, with nothing reserved and no container in the end."""
    checked.set_mode("enforce")
    yield checked
    assert checked.docker is not None
    names = checked.docker.docker("ps", "--all", "--quiet").split()
    if names:
        checked.docker.docker("rm", "--force", *names)
    if checked.service.process is None:
        checked.started()
    checked.service.run("admin", "release", "--all")


@pytest.fixture
def ada(people: list[Person]) -> Person:
    """A user."""
    return people[0]


def reserve(host: CheckedHost, person: Person) -> dict[str, str]:
    """Reserve GPU 0 for a person; return the variables of a run on it."""
    done = host.service.run("reserve", "--gpu-ids", "0", person=person)
    assert done.returncode == 0, done.stderr
    lines = host.service.run("run", "--", "env", person=person).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("CANHAZGPU_"))


def state(host: CheckedHost, name: str) -> dict[str, str]:
    """Return the state of a container."""
    assert host.docker is not None
    return dict(json.loads(host.docker.docker("inspect", name))[0]["State"])


def test_what_a_container_says_of_itself_proves_nothing(host: CheckedHost, people: list[Person]) -> None:
    """A label, a name, the id of a reservation and a changed token are no proof; the token is."""
    ada, bob = people
    variables = reserve(host, ada)
    name, gpus, code = variables["CANHAZGPU_TOKEN"].split(".")
    claims = [
        f"--label=canhazgpu.user={ada.name}",
        f"--env=CANHAZGPU_USER={ada.name}",
        f"--env=CANHAZGPU_RESERVATION={variables['CANHAZGPU_RESERVATION']}",
    ]
    for token in ("", f"{name}.{gpus}.{code[::-1]}", f"{name}.0-1.{code}"):
        done = host.run(*host.container(GPU_0, *claims, f"--env=CANHAZGPU_TOKEN={token}"), person=bob)
        assert "canhazgpu: the container was not started: nothing proves" in done.stderr
    passed = host.run(
        *host.container(GPU_0, f"--env=CANHAZGPU_TOKEN={variables['CANHAZGPU_TOKEN']}"), person=ada
    )
    assert passed.returncode == 0, passed.stderr
    host.service.run("release", "--all", person=ada)
    late = host.run(
        *host.container(GPU_0, f"--env=CANHAZGPU_TOKEN={variables['CANHAZGPU_TOKEN']}"), person=ada
    )
    assert "nothing proves that a holder started it (GPU 0: not reserved)" in late.stderr


def test_all_gpus_in_a_script_are_narrowed_to_those_of_the_run(host: CheckedHost, ada: Person) -> None:
    """A script in a run passes the token on itself; its containers get the GPUs of the run."""
    assert host.service.run("reserve", "--gpus", "2", person=ada).returncode == 0
    assert host.docker is not None
    docker = f"docker --host=unix://{host.docker.socket}"
    words = " ".join(host.container("--gpus=all", "--env=CANHAZGPU_TOKEN"))
    for index in range(2):
        run = ["run", "--gpu-ids", str(index), "--", "sh", "-c", f"{docker} {words}"]
        done = host.service.run(*run, person=ada)
        assert f"NVIDIA_VISIBLE_DEVICES={uuid(index)}\n" in done.stdout, done.stderr
        assert "CANHAZGPU_TOKEN" not in done.stdout


def test_the_reservation_of_a_run_follows_its_container(host: CheckedHost, ada: Person) -> None:
    """A detached container keeps the GPUs of the run that started it until it ends."""
    done = host.run("run", "--detach", "--gpus=all", *SLEEPS, person=ada, run="--gpus 1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(host.service.run("status", "--json").stdout)
    assert [row["reservation"]["kind"] for row in rows if row["reservation"]] == ["run"]
    assert host.docker is not None
    host.docker.docker("rm", "--force", done.stdout.strip())
    until(lambda: host.service.status().count("AVAILABLE") == 2, 30)


def test_after_a_boot_a_container_starts_only_if_its_reservation_lasts(
    host: CheckedHost, ada: Person
) -> None:
    """Docker restarts containers without anybody who asks: the token that is stored with them decides."""
    reserve(host, ada)
    assert host.docker is not None
    done = host.run("run", "--detach", "--restart=always", GPU_0, *SLEEPS, person=ada, run="--gpu-ids 0")
    name = done.stdout.strip()
    host.docker.restart()
    until(lambda: state(host, name)["Running"], 30)
    host.service.run("release", "--all", person=ada)
    assert state(host, name)["Running"]
    host.docker.restart()
    found = until(lambda: (now := state(host, name))["Error"] and now, 30)
    assert "nothing proves that a holder started it (GPU 0: not reserved)" in found["Error"]
    assert not found["Running"]


def test_a_command_in_a_running_container_is_not_checked_again(host: CheckedHost, ada: Person) -> None:
    """`docker exec` adds no GPU to a container, so it needs no proof, not even the service."""
    reserve(host, ada)
    name = host.run("run", "--detach", GPU_0, *SLEEPS, person=ada, run="--gpu-ids 0").stdout.strip()
    host.service.stop()
    done = host.run("exec", name, "env", person=ada)
    assert done.returncode == 0, done.stderr
    assert "CANHAZGPU_RESERVATION=" in done.stdout
    assert "CANHAZGPU_TOKEN=" not in done.stdout


@pytest.mark.parametrize(
    ("mode", "unreachable", "code"),
    [
        ("enforce", "allow", 0),
        ("enforce", "refuse", 125),
        ("warn", "refuse", 0),
        ("off", "refuse", 0),
    ],
)
def test_without_the_service_a_setting_decides(
    host: CheckedHost, mode: str, unreachable: str, code: int
) -> None:
    """A container with GPUs is refused only if both settings say so; one without GPUs always starts."""
    host.set_mode(mode, unreachable)
    host.service.stop()
    done = host.run(*host.container(GPU_0))
    assert done.returncode == code, done.stderr
    assert code == 0 or "canhazgpu: the container was not started: the service does not answer" in done.stderr
    assert host.run(*host.container()).returncode == 0


def test_a_privileged_container_needs_every_gpu(host: CheckedHost, ada: Person) -> None:
    """It could open any GPU, and none can be taken away from it; so can one with a rule for all devices."""
    for option in ("--privileged", "--device-cgroup-rule=c 195:* rwm"):
        done = host.run(*host.container(option), person=ada, run="--gpu-ids 0 --wait")
        assert f"{ada.name} has not reserved its GPUs (GPU 1: not reserved)" in done.stderr
