"""What `canhazgpu run` adds to a command that starts a container."""

import pytest

from canhazgpu.cli.syntax.container_command import with_variables

BOTH = "--env CANHAZGPU_RESERVATION --env CANHAZGPU_TOKEN"
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
    "typed", ["docker exec c run", "docker compose run x", "docker", "docker ps", "sh -c docker run", "run"]
)
def test_other_commands_stay_as_they_are(typed: str) -> None:
    """Only the verbs that create a container are changed."""
    assert with_variables(typed.split(), ENVIRONMENT) == typed.split()


def test_without_a_token_only_the_reservation_is_passed_on() -> None:
    """If containers are not checked, the service issues no token."""
    found = with_variables(["docker", "run", "x"], {"CANHAZGPU_RESERVATION": "r1"})
    assert found == ["docker", "run", "--env", "CANHAZGPU_RESERVATION", "x"]
