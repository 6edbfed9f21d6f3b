"""Cards that fall off the bus, return and change places under a real service: nobody is wrongly accused."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000001", "GPU-bbbbbbbb-0000-0000-0000-000000000002"


@pytest.fixture
def two(folder: Path) -> Iterator[Daemon]:
    """A service on two cards, A and B."""
    daemon = Daemon(folder)
    daemon.place(gpu(0, uuid=A), gpu(1, uuid=B))
    daemon.start()
    until(lambda: "GPU 1: AVAILABLE" in daemon.status())
    yield daemon
    daemon.stop()


def line(daemon: Daemon, index: int) -> str:
    """What `status` says of a GPU; empty where it says nothing."""
    return next((row for row in daemon.status().splitlines() if row.startswith(f"GPU {index}:")), "")


def journal(daemon: Daemon) -> str:
    """Return the last state in the journal."""
    whole = (daemon.folder / "state" / "journal").read_text().rpartition("\n")[0]
    return whole.splitlines()[-1].partition(" ")[2]


def give_up_after(daemon: Daemon, time: str) -> None:
    """Restart the service with another time after which a missing card is given up."""
    settings = daemon.folder / "config.toml"
    kept = [row for row in settings.read_text().splitlines() if not row.startswith("missing_timeout")]
    settings.write_text("\n".join(kept).replace("[gpus]", f'[gpus]\nmissing_timeout = "{time}"'))
    daemon.stop()
    daemon.start()


def test_a_card_that_falls_off_the_bus_takes_nobody_else_with_it(two: Daemon, people: list[Person]) -> None:
    """If a card falls off the bus, the holder of the next card stays its holder under the new index."""
    alice, bob = people
    assert two.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    assert two.run("reserve", "--gpu-ids", "1", person=bob).returncode == 0
    his = bob.spawn("sleep", "600")
    two.place(gpu(0, uuid=A), gpu(1, use(his.pid, 9000), uuid=B))
    until(lambda: "[validated: 9000MB, 1 processes]" in line(two, 1))
    seen = []

    def given_up() -> bool:
        seen.append(two.status())
        return "GPU 1:" not in seen[-1]

    give_up_after(two, "1h")
    two.place(gpu(0, use(his.pid, 9000), uuid=B))
    lost = f"GPU 1: ERROR (not found by the driver (was GPU 0); reserved by {alice.name})"
    until(lambda: given_up() or lost in seen[-1])
    assert lost in seen[-1]
    give_up_after(two, "1s")
    until(given_up)
    assert not [text for text in seen if "WITHOUT RESERVATION" in text or "also used by" in text]
    assert line(two, 0).startswith(f"GPU 0: IN USE by {bob.name} for")
    refused = two.run("reserve", "--gpu-ids", "1", person=alice)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there is no GPU 1" in refused.stderr
    two.place(gpu(0, uuid=A), gpu(1, use(his.pid, 9000), uuid=B))
    until(lambda: line(two, 0).startswith("GPU 0: AVAILABLE (last released"))
    assert line(two, 1).startswith(f"GPU 1: IN USE by {bob.name} for")
    assert two.facts() == []
    events = [json.loads(row) for row in two.run("events", "--json").stdout.splitlines()]
    released = [one["data"] for one in events if one["type"] == "canhazgpu.reservation.released"]
    assert [(one["user"], one["reason"], one["was"]) for one in released] == [(alice.name, "vanished", [0])]
    log = two.log.read_text()
    assert all(word in log for word in ("gpus_renumbered", "gpu_missing", "gpu_removed"))


def test_cards_that_change_places_while_no_service_runs(two: Daemon, people: list[Person]) -> None:
    """If cards change places while no service runs, reservations and drains follow the cards."""
    alice, _ = people
    assert two.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    assert two.run("admin", "drain", "1", "--reason", "noisy fan").returncode == 0
    hers = alice.spawn("sleep", "600")
    two.stop(signal.SIGKILL)
    two.place(gpu(0, uuid=B), gpu(1, use(hers.pid, 9000), uuid=A))
    two.start()
    until(lambda: "1 processes]" in line(two, 1))
    assert line(two, 1).startswith(f"GPU 1: IN USE by {alice.name} for")
    assert line(two, 0) == "GPU 0: DRAINED (noisy fan) [validated: 0MB used]"
    assert two.facts() == []


@pytest.mark.parametrize("when", ["after", "meanwhile"])
def test_a_wipe_and_cards_that_change_places(two: Daemon, people: list[Person], when: str) -> None:
    """If Redis is wiped after cards changed places or meanwhile, reservations and drains follow the cards."""
    alice, bob = people
    assert two.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    assert two.run("admin", "drain", "1", "--reason", "noisy fan").returncode == 0
    two.place(gpu(0, uuid=B), gpu(1, uuid=A))
    until(lambda: line(two, 1).startswith(f"GPU 1: IN USE by {alice.name} for"))
    until(lambda: json.loads(journal(two))["cards"]["1"]["uuid"] == A)
    with two.redis() as redis:
        if when == "meanwhile":
            two.place(gpu(0, uuid=A), gpu(1, uuid=B))
        redis.flushall()
    held, drained = (0, 1) if when == "meanwhile" else (1, 0)
    until(lambda: "redis_lost_state" in two.log.read_text())
    until(lambda: line(two, held).startswith(f"GPU {held}: IN USE by {alice.name} for"))
    until(lambda: line(two, drained).startswith(f"GPU {drained}: DRAINED (noisy fan)"))
    for index in range(2):
        assert two.run("reserve", "--gpu-ids", str(index), "--nonblock", person=bob).returncode == 1
    assert two.facts() == []


@pytest.mark.parametrize("how", ["running", "restored"])
def test_older_data_from_before_a_renumbering(two: Daemon, people: list[Person], how: str) -> None:
    """If Redis gets data from before cards changed places, reservations and drains stay with the cards."""
    alice, bob = people
    assert two.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    assert two.run("admin", "drain", "1", "--reason", "noisy fan").returncode == 0
    file = str(two.folder / "backup")
    assert two.run("backup", file).returncode == 0
    with two.redis() as redis:
        older = {key: redis.dump(key) for key in redis.keys("*")}
    two.place(gpu(0, uuid=B), gpu(1, uuid=A))
    until(lambda: json.loads(journal(two))["cards"]["1"]["uuid"] == A)
    if how == "running":
        with two.redis() as redis, redis.pipeline() as pipe:
            pipe.flushall()
            for key, value in older.items():
                pipe.restore(key, 0, value)
            pipe.execute()
    else:
        two.stop()
        assert two.run("restore", file).returncode == 0
        two.start()
    until(lambda: "redis_lost_state" in two.log.read_text())
    until(lambda: line(two, 1).startswith(f"GPU 1: IN USE by {alice.name} for"))
    until(lambda: line(two, 0).startswith("GPU 0: DRAINED (noisy fan)"))
    assert two.run("reserve", "--gpu-ids", "0", "--nonblock", person=bob).returncode == 1
    until(lambda: [one["gpus"] for one in json.loads(journal(two))["records"].values()] == [[1]])


def test_a_card_whose_uuid_was_listed_twice_keeps_its_holder(two: Daemon, people: list[Person]) -> None:
    """If a UUID was listed twice, the holder keeps the card and is not accused."""
    alice, bob = people
    assert two.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    hers = alice.spawn("sleep", "600")
    two.place(gpu(0, uuid=B), gpu(1, use(hers.pid, 9000), uuid=A))
    until(lambda: line(two, 1).startswith(f"GPU 1: IN USE by {alice.name} for"))
    two.place(gpu(0, uuid=B), gpu(1, use(hers.pid, 9000), uuid=A), gpu(9, uuid=A))
    until(lambda: "GPU 9:" in two.status())
    two.place(gpu(0, uuid=B), gpu(1, use(hers.pid, 9000), uuid=A))
    until(lambda: "GPU 9:" not in two.status())
    two.place(gpu(0, use(hers.pid, 9000), uuid=A), gpu(1, uuid=B))
    until(lambda: line(two, 0).startswith(f"GPU 0: IN USE by {alice.name} for"))
    until(lambda: line(two, 1).startswith("GPU 1: AVAILABLE"))
    assert len(two.status().splitlines()) == 2
    assert two.run("reserve", "--gpu-ids", "0", person=bob).returncode != 0
    assert two.facts() == []


def test_the_end_of_a_process_on_a_missing_card_is_seen(two: Daemon, people: list[Person]) -> None:
    """A violation on a missing card stays open while its process runs, and is closed afterwards."""
    _, bob = people
    give_up_after(two, "1h")
    his = bob.spawn("sleep", "600")
    two.place(gpu(0, use(his.pid, 9000), uuid=A), gpu(1, uuid=B))
    until(lambda: [fact["type"] for fact in two.facts()] == ["canhazgpu.violation.opened"])
    two.place(gpu(0, uuid=B))
    until(lambda: "GPU 1: ERROR" in two.status())
    assert not [fact for fact in two.facts() if fact["type"] == "canhazgpu.violation.closed"]
    his.kill()
    his.wait()
    until(lambda: two.facts()[-1]["type"] == "canhazgpu.violation.closed")
    assert two.facts()[-1]["reason"] == "stopped"
    assert line(two, 1).startswith("GPU 1: ERROR")


def test_cards_that_cannot_be_told_apart_are_said(two: Daemon) -> None:
    """The log and `doctor` name cards that cannot be told apart; they are used by their indices."""
    two.place(gpu(0, uuid=A), gpu(1, uuid=A))
    until(lambda: "GPU 0 and GPU 1 have the same UUID" in two.log.read_text())
    until(lambda: line(two, 1).startswith("GPU 1: AVAILABLE"))
    rows = json.loads(two.run("doctor", "--json").stdout)
    (said,) = [row for row in rows if row["check"] == "gpus" and row["state"] == "warn"]
    assert said["found"] == f"GPU 0 and GPU 1 have the same UUID, {A}"
    assert said["remedy"]


def test_a_card_named_by_uuid_is_granted_though_it_has_just_moved(folder: Path) -> None:
    """`reserve` by UUID gets that card, if the driver has renumbered it since the last scan."""
    daemon = Daemon(folder, scan="30s")
    daemon.place(gpu(0, uuid=A), gpu(1, uuid=B))
    daemon.start()
    try:
        until(lambda: "GPU 1: AVAILABLE" in daemon.status())
        daemon.place(gpu(0, uuid=B), gpu(1, uuid=A))
        done = daemon.run("reserve", "--gpu-ids", A[:12], "--json")
        assert json.loads(done.stdout)["gpus"] == [1], done
        gpus = json.loads(daemon.run("status", "--json").stdout)
        assert [one["uuid"] for one in gpus if one["reservation"]] == [A]
    finally:
        daemon.stop()
