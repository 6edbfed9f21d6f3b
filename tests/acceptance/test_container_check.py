"""`canhazgpu oci`: what a runtime is told about a container, without a runtime."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until
from support.people import Person

from canhazgpu.client import Client

MODE = '[containers]\nmode = "enforce"\nunreachable = "refuse"\n'


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on two GPUs that refuses containers without a reservation."""
    daemon = Daemon(folder, MODE)
    daemon.place(*(gpu(index, uuid=f"GPU-{index}", minor=index) for index in range(2)))
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == 2)
    yield daemon
    daemon.stop()


@pytest.fixture
def bundle(folder: Path) -> Path:
    """The directory of a container."""
    made = folder / "bundle"
    made.mkdir()
    return made


def configure(bundle: Path, *env: str, devices: tuple[int, ...] = (0, 1), **more: Any) -> None:
    """Write a configuration with variables and device files of GPUs."""
    nodes = [{"path": f"/dev/nvidia{n}", "type": "c", "major": 195, "minor": n} for n in devices]
    spec = {"process": {"env": list(env)}, "linux": {"devices": nodes}, **more}
    (bundle / "config.json").write_text(json.dumps(spec))
    (bundle / "config.json").chmod(0o640)


def create(host: Daemon, bundle: Path) -> "subprocess.CompletedProcess[str]":
    """Do what the script does before it runs runc."""
    words = ["--log", str(bundle / "log"), "--log-format", "json", "create", "--bundle", str(bundle), "box"]
    return host.run("oci", "runtime", "--next", "runc", "--", *words)


def token(host: Daemon, person: Person, *gpus: str) -> str:
    """Reserve GPUs for a person; return the variable that a run on them has."""
    assert host.run("reserve", "--gpu-ids", ",".join(gpus), person=person).returncode == 0
    lines = host.run("run", "--", "env", person=person).stdout.splitlines()
    (found,) = [line for line in lines if line.startswith("CANHAZGPU_TOKEN=")]
    return found


def test_a_refusal_is_one_line_where_the_runtime_looks(host: Daemon, bundle: Path) -> None:
    """It is on standard error and in the runtime's log, and the configuration stays as it is."""
    configure(bundle)
    before = (bundle / "config.json").read_text()
    done = create(host, bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("canhazgpu: the container was not started: nothing proves")
    logged = json.loads((bundle / "log").read_text())
    assert (logged["level"], logged["msg"]) == ("error", done.stderr.strip())
    assert (bundle / "config.json").read_text() == before
    assert "container_refused" in host.log.read_text()


def test_the_holders_container_is_narrowed(host: Daemon, bundle: Path, people: list[Person]) -> None:
    """It gets the reserved GPU and the id of the reservation, but not the token."""
    configure(bundle, "A=b", token(host, people[0], "1"))
    done = create(host, bundle)
    assert (done.returncode, done.stderr) == (0, "")
    spec = json.loads((bundle / "config.json").read_text())
    assert [one["minor"] for one in spec["linux"]["devices"]] == [1]
    assert spec["process"]["env"][0] == "A=b"
    assert [one.partition("=")[0] for one in spec["process"]["env"][1:]] == ["CANHAZGPU_RESERVATION"]
    assert (bundle / "config.json").stat().st_mode & 0o777 == 0o640


def test_a_hook_tells_root_from_users(host: Daemon, bundle: Path, people: list[Person]) -> None:
    """A user's runtime is that user's; root's is root's, or that of the user who logged in."""
    ada, bob = people
    configure(bundle, devices=(0,))
    (bundle / "config.json").chmod(0o644)
    state = json.dumps({"id": "box", "bundle": str(bundle), "pid": 1})
    assert host.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
    assert host.run("oci", "hook", person=ada, input=state).returncode == 0
    for person in (bob, None):
        refused = host.run("oci", "hook", person=person, input=state)
        assert refused.returncode == 1
        assert f"{person.name if person else 'root'} has not reserved its GPUs" in refused.stderr


def test_questions_are_not_changes(host: Daemon, people: list[Person]) -> None:
    """They do not count as changes, and users cannot fill the log with them."""
    config = host.folder / "config.toml"
    config.write_text(config.read_text() + "[limits]\nchanges_per_hour = 2\n")
    host.stop()
    host.start()
    until(lambda: host.status().count("AVAILABLE") == 2)
    state = json.dumps({"id": "box", "bundle": str(host.folder)})
    configure(host.folder)
    (host.folder / "config.json").chmod(0o644)
    for _ in range(3):
        refused = host.run("oci", "hook", person=people[0], input=state)
        assert "has not reserved its GPUs" in refused.stderr
    assert "container_refused" not in host.log.read_text()
    assert host.run("reserve", "--gpus", "1", person=people[0]).returncode == 0


ODD = '{"process": {"env": 7}, "mounts": [{"options": 7}], "linux": {"devices": [{"type": []}]}}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"linux": 7, "process": [], "mounts": {"a": 1}, "hooks": []}', ODD]
)
def test_a_configuration_that_makes_no_sense_is_no_traceback(host: Daemon, bundle: Path, text: str) -> None:
    """What is not JSON is refused in one line; what has no GPU in it is the runtime's affair."""
    (bundle / "config.json").write_text(text)
    done = create(host, bundle)
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == ((0, 0) if text.startswith('{"') else (1, 1))


TOO_MANY = ",".join(f"GPU-{number}" for number in range(3000))


@pytest.mark.parametrize("more", [f"CANHAZGPU_TOKEN={'x' * 300}", f"NVIDIA_VISIBLE_DEVICES={TOO_MANY}"])
def test_a_container_cannot_ask_too_much_to_be_checked(host: Daemon, bundle: Path, more: str) -> None:
    """A question that the service does not accept is not the same as a service that is away."""
    file = host.folder / "config.toml"
    file.write_text(file.read_text().replace('"refuse"', '"allow"'))
    hook = {"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]}
    configure(bundle, more, hooks=hook)
    done = create(host, bundle)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the container was not started" in done.stderr


def test_all_gpus_before_any_are_known(folder: Path, bundle: Path) -> None:
    """Until the GPUs have been read once, the setting decides that counts if the service does not answer."""
    daemon = Daemon(folder, MODE)
    (folder / "gpus.toml").unlink(missing_ok=True)
    daemon.start()
    try:
        privileged = {"resources": {"devices": [{"allow": True, "access": "rwm"}]}}
        configure(bundle, linux=privileged)
        done = create(daemon, bundle)
    finally:
        daemon.stop()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the GPUs have not been read yet" in done.stderr


def test_names_of_a_container_are_only_text(host: Daemon, bundle: Path) -> None:
    """Control characters in names do not reach a terminal or the log."""
    hook = {"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]}
    configure(bundle, "NVIDIA_VISIBLE_DEVICES=\x1b[31mred\nline", devices=(), hooks=hook)
    done = create(host, bundle)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_answer_of_the_api(host: Daemon) -> None:
    """Integrators get the reason, and a remedy."""
    asked = {"names": ["0"], "daemon": True}
    found = Client(str(host.folder / "s")).post("/v1/containers/check", asked)
    assert found["remedy"]
    assert {**found, "remedy": ""} == {
        "mode": "enforce",
        "allowed": False,
        "user": None,
        "gpus": [0],
        "only": None,
        "reason": "nothing proves that a holder started it (GPU 0: not reserved)",
        "remedy": "",
    }
