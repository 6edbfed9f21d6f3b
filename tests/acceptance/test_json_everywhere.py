"""`--json`: every command that says something has it, and prints one JSON value and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from support.daemon import Daemon, serving

from canhazgpu.cli.commands import COMMANDS, build

# They run something, write files, or print text that is meant for another program.
WITHOUT = {
    *("run", "top", "serve", "worker", "demo", "config example"),
    *("install systemd", "install logrotate", "install profile", "install slurm", "install pbs"),
    *("install docker", "install podman", "install kubernetes", "oci hook", "oci runtime"),
    *("slurm prolog", "slurm epilog", "slurm reconcile", "kubernetes"),
    *("exporter", "install exporter", "install prometheus", "web"),
    *("pbs prologue", "pbs epilogue", "pbs reconcile", "redis acl"),
}


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path.strip(), command
    for name, one in (inner or {}).items():
        yield from _commands(one, f"{path} {name}")


def test_every_command_has_it() -> None:
    """Except those that are named here."""
    found = dict(_commands(typer.main.get_command(build(*COMMANDS)), ""))
    lacking = {name for name, one in found.items() if not any("--json" in p.opts for p in one.params)}
    assert lacking == WITHOUT


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """One service on two idle GPUs for all tests of this module."""
    with serving(2) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("admin", "init", "--gpus", "2"), {"managed": [0, 1], "released": []}),
        (("admin", "undrain", "1"), {"changed": [], "reason": None}),
        (("release",), []),
        (("cancel",), []),
        (("disown",), []),
        (("env",), []),
        (("queue",), []),
        (("admin", "release", "--all"), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_it_prints(host: Daemon, words: tuple[str, ...], shown: object) -> None:
    """The answer of the service."""
    done = host.run(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == shown


def test_a_drained_gpu(host: Daemon) -> None:
    """The GPUs that have changed, and why."""
    for words, shown in (
        (("drain", "1", "--reason", "fan"), {"changed": [1], "reason": "fan"}),
        (("undrain", "1"), {"changed": [1], "reason": None}),
    ):
        done = host.run("admin", *words, "--json")
        assert (done.returncode, done.stderr, json.loads(done.stdout)) == (0, "", shown)


def test_a_checked_file(host: Daemon) -> None:
    """The exit code is that of the text, and the reason is in the JSON."""
    path = str(host.folder / "config.toml")
    done = host.run("config", "check", path, "--json")
    assert json.loads(done.stdout) == {"valid": True, "error": None, "sources": [path]}
    (host.folder / "bad.toml").write_text("nothing = 1\n")
    done = host.run("config", "check", str(host.folder / "bad.toml"), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["valid"]) == (2, "", False)
    assert "nothing" in found["error"]


def test_a_sent_notice(host: Daemon) -> None:
    """`notify test` prints the attempts to deliver it."""
    done = host.run("notify", "test", "--channel", "log", "--json")
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["channel"], row["outcome"]) == (0, "log", "delivered")
