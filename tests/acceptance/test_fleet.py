"""All hosts of a fleet in one view: real services, a real Redis that has their copies, real commands."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.fleet import fleet_server
from support.people import Person
from support.redis_lab import Server

from canhazgpu.events.redis_client.keys import Keys

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


@contextmanager
def member(name: str, url: str, *gpus: str, interval: str = "5s") -> Iterator[Daemon]:
    """Run the service of a host of the fleet, which is away after three intervals without a sign of life."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        daemon = Daemon(Path(folder), f'[fleet]\nurl = "{url}"\ninterval = "{interval}"\n', host=name)
        daemon.place(*gpus)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


class Lab:
    """Three hosts: gpu01 (two H100), gpu02 (four A100, one used without a reservation), gpu03 (gone)."""

    def __init__(self, server: Server, resources: ExitStack) -> None:
        """Start them."""
        self.url = f"redis://127.0.0.1:{server.port}"
        cards = [gpu(index, name=H100, memory_used_mb=1) for index in range(2)]
        self.one = resources.enter_context(member("gpu01", self.url, *cards))
        cards = [gpu(index, name=A100, memory_used_mb=1) for index in range(3)]
        cards.append(gpu(3, use(4242, 8000, "bob", "python"), name=A100))
        self.two = resources.enter_context(member("gpu02", self.url, *cards))
        card = gpu(0, name=H100, memory_used_mb=1)
        with member("gpu03", self.url, card, interval="1s") as three:
            assert three.run("reserve", "--duration", "1h").returncode == 0
            until(lambda: [gpu["status"] for gpu in self.of("gpu03")["gpus"]] == ["IN_USE"])
        until(lambda: any(gpu["violations"] for gpu in self.of("gpu02")["gpus"]))
        until(lambda: self.of("gpu03")["away"])

    def of(self, host: str) -> dict[str, Any]:
        """Return what one host shows of another."""
        done = self.one.run("status", "--host", host, "--json")
        found = json.loads(done.stdout) if done.returncode == 0 else []
        row: dict[str, Any] = (
            found[0] if found else {"gpus": [{"status": "", "violations": []}] * 4, "away": ""}
        )
        return row


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The fleet, for tests that leave it as it was."""
    with ExitStack() as resources:
        server = resources.enter_context(fleet_server(tmp_path_factory.mktemp("fleet")))
        yield Lab(server, resources)


def test_every_host_is_in_its_place(lab: Lab) -> None:
    """`status --all` shows each host in order, with the lines of the host itself, and their age."""
    done = lab.one.run("status", "--all")
    lines = done.stdout.splitlines()
    heads = [line for line in lines if not line.startswith("  ")]
    assert [line.split()[0] for line in heads] == ["gpu01", "gpu02", "gpu03"]
    assert heads[0].startswith("gpu01 (seen 0h 0m ")
    own = [line.split("[")[0] for line in lab.two.status().splitlines()]
    assert [line.strip().split("[")[0] for line in lines if line.startswith("  GPU")][2:6] == own
    assert "WITHOUT RESERVATION by user bob" in done.stdout


def test_a_host_that_is_gone_is_shown_with_its_last_known_state(lab: Lab) -> None:
    """A host without a sign of life is in its place, said to be away, and its reservation is still shown."""
    row = lab.of("gpu03")
    assert re.match(r"no sign of life for \d+h \d+m ", row["away"])
    assert row["gpus"][0]["status"] == "IN_USE"
    done = lab.two.run("status", "--host", "gpu03")
    assert re.match(r"gpu03 \(AWAY: no sign of life for \d+h \d+m ", done.stdout)
    assert "IN USE by" in done.stdout


def test_only_matching_hosts_are_shown(lab: Lab) -> None:
    """With a filter, hosts without such GPUs are left out."""
    done = lab.one.run("status", "--all", "--user", "bob")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["gpu02", "GPU"]


def test_a_host_that_is_none(lab: Lab) -> None:
    """A name that no host has is refused with a sentence."""
    done = lab.one.run("status", "--host", "gpu99")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: there is no host gpu99 in the fleet (`canhazgpu status --all` shows all)\n"


def test_where_gpus_are_free(lab: Lab) -> None:
    """`find` lists hosts with enough GPUs of the model, those where they are free now first."""
    rows = json.loads(lab.one.run("find", "--gpus", "2", "--json").stdout)
    assert [(row["host"], row["now"], row["free"]) for row in rows] == [
        ("gpu02", True, 3),
        ("gpu01", True, 2),
    ]
    rows = json.loads(lab.one.run("find", "--gpus", "1", "--model", "h100", "--json").stdout)
    assert [(row["host"], row["now"], bool(row["away"])) for row in rows] == [
        ("gpu01", True, False),
        ("gpu03", False, True),
    ]
    shown = lab.one.run("find", "--gpus", "3").stdout.splitlines()
    assert [line.split()[:3] for line in shown] == [["HOST", "START", "FREE"], ["gpu02", "now", "3"]]
    done = lab.one.run("find", "--gpus", "8", "--model", "H100")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: no host of the fleet has 8 GPUs of the model H100\n",
    )


def test_when_gpus_will_be_free(lab: Lab) -> None:
    """If no host has enough free GPUs, `find` says when, after all who wait."""
    assert lab.one.run("reserve", "--gpus", "2", "--duration", "30m").returncode == 0
    try:
        until(lambda: [bool(gpu["reservation"]) for gpu in lab.of("gpu01")["gpus"]] == [True, True])
        (row,) = [
            row
            for row in json.loads(lab.two.run("find", "-g", "2", "--model", "H100", "--json").stdout)
            if row["host"] == "gpu01"
        ]
        held = lab.of("gpu01")["gpus"][0]["reservation"]
        assert (row["now"], row["free"], row["start"][:19]) == (False, 0, held["expires"][:19])
    finally:
        assert lab.one.run("release").returncode == 0
        until(lambda: not any(gpu["reservation"] for gpu in lab.of("gpu01")["gpus"]))


def test_violations_and_queues_of_all_hosts(lab: Lab) -> None:
    """`violations --all` and `queue --all` show the hosts that have some."""
    (host,) = json.loads(lab.one.run("violations", "--all", "--json").stdout)
    assert (host["host"], [row["user"] for row in host["violations"]]) == ("gpu02", ["bob"])
    lines = lab.one.run("violations", "--all").stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["gpu02", "VIOLATION"]
    assert lab.one.run("violations", "--all", "--user", "carol").stdout == ""
    assert lab.one.run("queue", "--all").stdout == ""


def test_reservations_of_all_hosts(lab: Lab) -> None:
    """`reservations --all` shows the hosts that have some, also one that is away."""
    (host,) = json.loads(lab.one.run("reservations", "--all", "--json").stdout)
    assert (host["host"], [row["gpus"] for row in host["reservations"]]) == ("gpu03", [[0]])
    lines = lab.one.run("reservations", "--all").stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["gpu03", "ID"]
    assert lab.one.run("reservations").stdout == "Nothing is reserved.\n"


def test_the_past_of_all_hosts(lab: Lab) -> None:
    """`history --all` shows by host what has ended, and `report --all` says which hosts have no hours yet."""
    assert lab.two.run("reserve", "--duration", "1h", "--note", "soon over").returncode == 0
    assert lab.two.run("release").returncode == 0
    until(lambda: "soon over" in lab.one.run("history", "--all").stdout, 20)
    lines = lab.one.run("history", "--all").stdout.splitlines()
    at = [line.split()[0] for line in lines].index("gpu02")
    assert (lines[at + 1].split()[0], "soon over" in lines[at + 2]) == ("ENDED", True)
    found = json.loads(lab.one.run("history", "--all", "-n", "1", "--json").stdout)
    assert [row["note"] for host in found if host["host"] == "gpu02" for row in host["ended"]] == [
        "soon over"
    ]
    assert lab.one.run("history", "--all", "--user", "carol").stdout == ""
    done = lab.one.run("report", "--all", "--by", "host")
    # A service adds up the day, if any use of it is known, once a minute: each host may have done so or not.
    said = re.fullmatch(r"(?:No hours are known of (gpu0[123](?:, gpu0[123])*)\.\n)?", done.stderr)
    assert (done.returncode, bool(said)) == (0, True), done.stderr
    unknown = said[1].split(", ") if said and said[1] else []
    assert unknown == sorted(set(unknown))
    assert done.stdout.startswith(f"GPU-hours of {3 - len(unknown)} ") or len(unknown) == 3
    for words in (("report", "--all", "--by", "gpu"), ("history", "--all", "--gpu", "1")):
        done = lab.one.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is about this host only: leave out --all" in done.stderr


def test_without_a_fleet(host: Daemon) -> None:
    """A host that is not in a fleet says so, and what to set."""
    for words in (
        ("status", "--all"),
        ("find",),
        ("queue", "--all"),
        ("reservations", "--all"),
        ("history", "--all"),
        ("report", "--all"),
    ):
        done = host.run(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: this host is not in a fleet (set fleet.url ")


def test_the_fleets_redis_is_away(folder: Path) -> None:
    """Without the fleet's Redis, the host works on, and a view of the fleet says why there is none."""
    daemon = Daemon(folder, '[fleet]\nurl = "redis://127.0.0.1:1"\n').start()
    try:
        done = daemon.run("status", "--all")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: the fleet's Redis cannot be read: Redis does not answer: ")
        assert daemon.run("reserve", "--duration", "1h").returncode == 0
        until(lambda: "fleet_away" in daemon.log.read_text())
        assert "Traceback" not in daemon.log.read_text()
    finally:
        daemon.stop()


def test_who_may_see_the_fleet(folder: Path, people: list[Person], lab: Lab) -> None:
    """With fleet.readers, others than administrators and members of these groups are refused."""
    settings = f'[fleet]\nurl = "{lab.url}"\nreaders = ["root", "no-such-group-here"]\n'
    daemon = Daemon(folder, settings, host="gpu04").start()
    try:
        assert daemon.run("status", "--all").returncode == 0
        done = daemon.run("status", "--all", person=people[0])
        assert done.returncode == 1
        assert done.stderr.startswith("Error: you may not see the other hosts (the groups that may: root")
    finally:
        daemon.stop()
        with daemon_redis(lab) as fleet:
            fleet.delete(Keys("gpu04").fleet)


def daemon_redis(lab: Lab) -> Any:
    """Connect to the fleet's Redis."""
    from redis import Redis  # noqa: PLC0415

    return Redis.from_url(lab.url)
