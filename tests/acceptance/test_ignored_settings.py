"""A setting that only the service reads is named by the command that is given it, on one line."""

import subprocess
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, until

from canhazgpu.cli.syntax.service_settings import note


def run(host: Daemon, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with more variables."""
    return subprocess.run(
        [*COMMAND, *words],
        env={**host.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def config(host: Daemon) -> str:
    """A settings file of one's own, for the socket and with a duration."""
    path = host.folder / "own.toml"
    path.write_text(
        f'socket = "{host.folder}/s"\n[reserve]\nduration = "1h"\n[limits]\nmax_duration = "2h"\n'
    )
    return str(path)


@pytest.mark.parametrize(
    ("words", "variables", "named"),
    [
        (("reserve",), {"CANHAZGPU_RESERVE_DURATION": "1h"}, "CANHAZGPU_RESERVE_DURATION"),
        (("run", "--", "true"), {"CANHAZGPU_RUN_WAIT": "1"}, "CANHAZGPU_RUN_WAIT"),
        (("status",), {"CANHAZGPU_MEMORY_THRESHOLD_MB": "5"}, "CANHAZGPU_MEMORY_THRESHOLD_MB"),
        (
            ("extend",),
            {"CANHAZGPU_RESERVE_WAIT": "1", "CANHAZGPU_HOST": "x"},
            "CANHAZGPU_HOST, CANHAZGPU_RESERVE_WAIT",
        ),
    ],
)
def test_a_variable_for_the_service(host: Daemon, words: Any, variables: Any, named: str) -> None:
    """The command does what it does without it."""
    if words == ("extend",):
        assert host.run("reserve").returncode == 0
    done = run(host, *words, **variables)
    said = f"Note: only the service reads {named}, when it starts; `{words[0]}` does not\n"
    assert (done.returncode, done.stderr.splitlines(keepends=True)[0]) == (0, said), done
    if words[0] == "reserve":
        assert "for 8h 0m 0s" in done.stderr


def test_a_table_for_the_service(host: Daemon, config: str) -> None:
    """In a file that is named on the command line, and only for commands that it seems to be about."""
    done = run(host, "--config", config, "reserve")
    said = (
        f"Note: only the service reads [reserve], [limits] of {config}, when it starts; `reserve` does not\n"
    )
    assert (done.returncode, done.stderr.startswith(said)) == (0, True), done
    assert run(host, "release", f"--config={config}").stderr == ""
    until(lambda: "AVAILABLE" in host.status())
    assert run(host, "status", "--config", config).stderr == ""
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} --config <(cat {config}) reserve --short"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", ""), "a pipe can be read only once"


def test_what_commands_read_is_not_named(host: Daemon) -> None:
    """Neither the socket, the zone, the reservation, unknown names, nor what a command reads itself."""
    socket, zone = f"{host.folder}/s", {"CANHAZGPU_NOTICES_QUIET_TIMEZONE": "Europe/Berlin"}
    done = run(host, "status", CANHAZGPU_SOCKET=socket, CANHAZGPU_RESERVATION="r1-1", CANHAZGPU_X="1", **zone)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(host, "config", "check", CANHAZGPU_RESERVE_DURATION="1h").stderr == ""


@pytest.mark.parametrize("command", ["web", "exporter", "enforcement", "oci"])
def test_a_command_that_reads_the_settings_is_not_said_to_ignore_them(command: str) -> None:
    """It acts as the variable says, so the note would be false."""
    assert note(command, {"CANHAZGPU_WEB_LISTEN": "unix:/run/web.sock"}, None) == ""


def test_a_consumer_group_is_read_with_the_settings(host: Daemon) -> None:
    """So the variables of the service count for it, unlike for `events` alone."""
    done = run(host, "events", "--group", "g", CANHAZGPU_REDIS_URL="unix:///r")
    assert done.stderr == "Error: --group needs --follow, because a group is read until Ctrl-C\n"
    assert "only the service reads CANHAZGPU_REDIS_URL" in run(host, "events", CANHAZGPU_REDIS_URL="x").stderr
