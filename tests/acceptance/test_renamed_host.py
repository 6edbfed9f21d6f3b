"""The name of a host changes: everything that is kept of it goes along."""

import json
import subprocess
from typing import Any

from support.daemon import COMMAND, until, use
from support.daemon import gpu as card
from support.machines import Make


def state(shared: Any, host: str) -> dict[str, Any]:
    """What is kept of a host and may not change with its name."""
    prefix = f"canhazgpu:{{{host}}}:"
    streams = ("violations", "notices", "events", "deliveries")
    groups = {name: shared.xinfo_groups(prefix + name) for name in streams if shared.exists(prefix + name)}
    return {
        "reservations": sorted(shared.hkeys(prefix + "reservations")),
        "open": sorted(shared.hkeys(prefix + "violations:open")),
        "silences": sorted(shared.hkeys(prefix + "silences")),
        "events": [key for key, _ in shared.xrange(prefix + "events", count=5)],
        "violations": [key for key, _ in shared.xrange(prefix + "violations", count=5)],
        "groups": {
            (stream, one["name"].decode()): [int(part) for part in one["last-delivered-id"].split(b"-")]
            for stream, some in groups.items()
            for one in some
        },
    }


def test_a_host_that_is_renamed_keeps_everything(machine: Make, shared: Any) -> None:
    """Manual reservation, run, violation, silence, history and consumer positions move to the new name."""
    host = machine("first.lab")
    host.here = True
    host.place(card(0), card(1), card(2, use(999_999, 4000, "mallory", "train")), card(3))
    host.start()
    words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
    run = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    try:
        assert host.run("reserve", "--gpu-ids", "1", "--duration", "4h").returncode == 0
        until(lambda: host.facts() and shared.hlen("canhazgpu:{first.lab}:violations:open"))
        silenced = host.run("silence", "add", "--user", "mallory", "--for", "2h", "--reason", "known")
        assert silenced.returncode == 0, silenced.stderr
        until(lambda: shared.hlen("canhazgpu:{first.lab}:reservations") == 2)
        shared.xgroup_create("canhazgpu:{first.lab}:events", "dashboard", id="0")
        shared.xreadgroup("dashboard", "one", {"canhazgpu:{first.lab}:events": ">"}, count=3)
        host.stop()
        before = state(shared, "first.lab")
        host.call("second")
        host.start()
        until(lambda: "GPU 0: IN USE by root" in host.status())
        after = state(shared, "second")
        names = ("reservations", "open", "silences", "events", "violations")
        assert [after[name] for name in names] == [before[name] for name in names]
        assert after["groups"].keys() == before["groups"].keys()
        assert all(after["groups"][name] >= place for name, place in before["groups"].items())
        assert after["groups"]["events", "dashboard"] == before["groups"]["events", "dashboard"]
        assert shared.keys("canhazgpu:{first.lab}:*") == []
        until(lambda: shared.zrange("canhazgpu:hosts", 0, -1) == [b"second"])
        told = host.run("events", "--type", "host.renamed", "--json").stdout.splitlines()
        assert [json.loads(line)["data"]["was"] for line in told] == ["first.lab"]
        assert "host_renamed" in host.log.read_text()
        assert "host second, machine " in host.health()
        refused = host.run("reserve", "--gpus", "3")
        assert (refused.returncode, "Available: 1" in refused.stderr) == (1, True), refused.stderr
        run.kill()
        run.wait()
        until(lambda: "GPU 0: AVAILABLE" in host.status())
    finally:
        run.kill()
        run.wait()


def test_a_new_name_that_is_another_s_is_refused(machine: Make, shared: Any) -> None:
    """If the new name has state, nothing is moved, and one line says which name to keep."""
    host, other = machine("mine"), machine("theirs")
    for one in (host, other):
        one.start()
        assert one.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop()
    host.call("theirs")
    line = host.refused()
    assert 'set `host = "mine"`' in line
    assert "Traceback" not in host.log.read_text()
    assert shared.hlen("canhazgpu:{mine}:reservations") == 1
    assert other.run("status").returncode == 0
    host.call("mine")
    host.start()
    assert "GPU 1: IN USE by root" in host.status()


def test_a_clone_with_a_name_of_its_own_takes_nothing_along(machine: Make, shared: Any) -> None:
    """A clone with its own name takes nothing from the first machine; both keep their state."""
    first = machine("gpu-1", "ab" * 16).start()
    assert first.run("reserve", "--gpu-ids", "1").returncode == 0
    second = machine("gpu-2", "ab" * 16)
    second.look_longer()
    second.start()
    assert second.run("reserve", "--gpu-ids", "2").returncode == 0
    for one in (first, second):
        one.stop()
        one.start()
    assert shared.hlen("canhazgpu:{gpu-1}:reservations") == 1
    assert "GPU 1: IN USE by root" in first.status()
    assert "GPU 2: IN USE by root" in second.status()
