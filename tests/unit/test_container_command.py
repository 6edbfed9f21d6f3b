"""What `canhazgpu run` adds to a command that starts a container."""

import pytest

from canhazgpu.cli.syntax.container_command import TooMany, with_variables

BOTH = "--env CANHAZGPU_RESERVATION --env CANHAZGPU_TOKEN"
OPTIONS = "--rm -it -v /a:/b -itv /c:/d -p80:80 --name x"
ENVIRONMENT = {"CANHAZGPU_RESERVATION": "r1", "CANHAZGPU_TOKEN": "secret"}


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        ("docker run x", f"docker run {BOTH} x"),
        ("docker -H unix:///s --debug run -d x", f"docker -H unix:///s --debug run {BOTH} -d x"),
        ("/usr/bin/docker container create x", f"/usr/bin/docker container create {BOTH} x"),
        ("nerdctl run x", f"nerdctl run {BOTH} x"),
        ("podman run x", "podman run --env CANHAZGPU_RESERVATION x"),
    ],
)
def test_a_container_gets_the_names_of_the_variables(typed: str, run: str) -> None:
    """The engine takes the values from its environment; the command line, which all can read, has none."""
    assert with_variables(typed.split(), ENVIRONMENT) == run.split()


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        ("--gpus all IMAGE", "--gpus={} IMAGE"),
        ("--gpus=all IMAGE", "--gpus={} IMAGE"),
        ("--gpus 2 IMAGE", "--gpus={} IMAGE"),
        (f"{OPTIONS} --gpus all IMAGE", f"{OPTIONS} --gpus={{}} IMAGE"),
        ("--gpus all,capabilities=utility IMAGE", "--gpus={},capabilities=utility IMAGE"),
        ("--gpus=driver=nvidia,count=all IMAGE", "--gpus={},driver=nvidia IMAGE"),
        ("--gpus capabilities=utility,device=0 IMAGE",) * 2,
        ('--gpus "device=0,2,1" IMAGE',) * 2,
        ("--gpus",) * 2,
        ("-h box --gpus all IMAGE", "-h box --gpus={} IMAGE"),
        ("--use-api-socket --gpus all IMAGE", "--use-api-socket --gpus={} IMAGE"),
        ("--gpus 1 IMAGE", "--gpus={one} IMAGE"),
        ("--gpus count=1,capabilities=utility IMAGE", "--gpus={one},capabilities=utility IMAGE"),
        ("--gpus capabilities=utility IMAGE", "--gpus={one},capabilities=utility IMAGE"),
        (
            '--gpus "capabilities=utility,compute",count=1 IMAGE',
            '--gpus={one},"capabilities=utility,compute" IMAGE',
        ),
        ("--gpus 0 IMAGE",) * 2,
        ("--gpus some IMAGE",) * 2,
        ("--gpus device=0 IMAGE",) * 2,
        ("IMAGE train --gpus all",) * 2,
        ("--rm IMAGE --gpus all",) * 2,
        ("--env A=b IMAGE --gpus all",) * 2,
    ],
)
def test_all_gpus_or_a_number_of_them_become_the_reserved_ones(typed: str, run: str) -> None:
    """Other GPUs that are named stay, and so do the arguments of the program in the container."""
    both = '"device=GPU-a,GPU-b"'
    found = with_variables(["docker", "run", *typed.split()], {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b"})
    assert found == ["docker", "run", *run.format(both, one="device=GPU-a").split()]


def test_one_gpu_needs_no_quotes() -> None:
    """Docker reads the value of --gpus as CSV: only several GPUs are quoted."""
    found = with_variables(["docker", "run", "--gpus=1", "x"], {"NVIDIA_VISIBLE_DEVICES": "GPU-a"})
    assert found == ["docker", "run", "--gpus=device=GPU-a", "x"]


@pytest.mark.parametrize("count", ["-2", "count=-7", "-1", "all"])
def test_a_negative_number_is_all_reserved_gpus(count: str) -> None:
    """Docker takes every negative number for all GPUs of the host."""
    found = with_variables(["docker", "run", f"--gpus={count}", "x"], {"NVIDIA_VISIBLE_DEVICES": "GPU-a"})
    assert found == ["docker", "run", "--gpus=device=GPU-a", "x"]


@pytest.mark.parametrize("count", ["9" * 5000, "none", "--1", "-", "+", "0", "-0"])
def test_what_docker_refuses_is_left_to_docker(count: str) -> None:
    """It is no number of GPUs, however long it is."""
    command = ["docker", "run", f"--gpus={count}", "x"]
    assert with_variables(command, {"NVIDIA_VISIBLE_DEVICES": "GPU-a"}) == command


@pytest.mark.parametrize(
    "words",
    [["--gpus", "3"], ["--gpus", "+3"], ["--gpus=count=3"], ["--gpus", "3,capabilities=utility"]],
)
def test_more_gpus_than_are_reserved_are_an_error(words: list[str]) -> None:
    """The container would get GPUs of others, or fail later."""
    with pytest.raises(TooMany, match="the container asks for 3 GPUs, but the run has 2"):
        with_variables(["docker", "run", *words, "x"], {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b"})


@pytest.mark.parametrize(
    "sudo", ["sudo", "/usr/bin/sudo -n", "sudo -nu docker", "sudo --user root -E --", "sudo A=b -g docker"]
)
def test_docker_may_be_started_with_sudo(sudo: str) -> None:
    """The options of sudo may come before it, and their values are not taken for the command."""
    environment = {**ENVIRONMENT, "NVIDIA_VISIBLE_DEVICES": "GPU-a"}
    found = with_variables([*sudo.split(), "docker", "run", "--gpus=all", "x"], environment)
    assert found == [*sudo.split(), *f"docker run {BOTH} --gpus=device=GPU-a x".split()]


@pytest.mark.parametrize(
    "typed", ["sudo", "sudo -u", "sudo -u docker run --gpus=all x", "sudo --", "sudo -l docker"]
)
def test_other_commands_of_sudo_stay_as_they_are(typed: str) -> None:
    """Without a container engine as the command, nothing is changed."""
    assert with_variables(typed.split(), ENVIRONMENT) == typed.split()


@pytest.mark.parametrize(
    "typed", ["docker exec c run", "docker compose run x", "docker", "docker ps", "sh -c docker run", "run"]
)
def test_other_commands_stay_as_they_are(typed: str) -> None:
    """Only the verbs that create a container are changed."""
    assert with_variables(typed.split(), ENVIRONMENT) == typed.split()


def test_without_a_token_only_the_reservation_is_passed_on() -> None:
    """If containers are not checked, the service issues no token."""
    found = with_variables(["docker", "run", "x"], {"CANHAZGPU_RESERVATION": "r1"})
    assert found == ["docker", "run", "--env", "CANHAZGPU_RESERVATION", "x"]
