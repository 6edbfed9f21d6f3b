"""`canhazgpu doctor` says only what it has checked, and who can check the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until
from support.people import Person


def doctor_of(host: Daemon, person: Person) -> tuple[int, list[dict[str, Any]]]:
    """Run doctor as an ordinary person; return its code and its rows."""
    done = host.run("doctor", "--json", person=person)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def healthy(host: Daemon) -> Daemon:
    """A host where nothing is wrong, with files that only root may read."""
    host.stop()
    secret = host.folder / "url"
    secret.write_text("http://127.0.0.1:9/x")
    secret.chmod(0o600)
    config = host.folder / "config.toml"
    config.write_text(config.read_text() + f'[notify.webhook.chat]\nurl_file = "{secret}"\n')
    (host.folder / "violations.log").touch(0o600)
    host.start()
    return host


def test_an_ordinary_user_of_a_healthy_host(healthy: Daemon, people: list[Person]) -> None:
    """Nothing fails: what they cannot see is named, with who can see it."""
    healthy.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in healthy.status())
    code, rows = doctor_of(healthy, people[1])
    assert code == 0, [row for row in rows if row["state"] == "fail"]
    assert [row["found"] for row in rows if row["check"] == "gpus"] == ["the service reads 2 GPUs"]
    skipped = {row["check"]: row for row in rows if row["state"] == "skip"}
    assert {"log", "webhook"} <= skipped.keys()
    assert all("root can: `sudo canhazgpu doctor`" in row["remedy"] for row in skipped.values()), skipped
    states = {row["check"]: row["state"] for row in rows}
    assert (states["service"], states["redis"], states["terminals"]) == ("ok", "ok", "ok") or (
        states["terminals"] == "warn"  # /dev/pts of this host.
    )


def test_a_broken_gpu_fails_for_everybody(healthy: Daemon, people: list[Person]) -> None:
    """What the service reports is known, whoever asks."""
    healthy.place(gpu(0), gpu(1, error="GPU_IS_LOST"))
    until(lambda: "GPU 1: ERROR" in healthy.status())
    code, rows = doctor_of(healthy, people[1])
    assert code == 1
    (row,) = [row for row in rows if row["state"] == "fail"]
    assert (row["check"], row["found"][:6]) == ("gpus", "GPU 1:")
    assert row["remedy"]


def test_root_before_the_first_start(folder: Path) -> None:
    """The service does not run; what depends on it is not called unreadable or broken."""
    host = Daemon(folder)
    done = host.run("doctor", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert [row["check"] for row in rows if row["state"] == "fail"] == ["service"]
    assert "by this user" not in done.stdout
    (redis,) = [row for row in rows if row["check"] == "redis" and row["state"] == "skip"]
    assert redis["found"] == "cannot be checked now: it runs only while the service runs"
    assert "service may not have" in done.stdout  # The server of its own PATH.
