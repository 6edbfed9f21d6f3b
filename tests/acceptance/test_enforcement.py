"""With enforcement, a GPU opens for the user who has reserved it, and for nobody else."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until, use
from support.device_files import DeviceFolder, Opener, devices
from support.people import Person

__all__ = ["devices"]
ROUNDS = int(os.environ.get("ENFORCEMENT_ROUNDS", "60"))
MINORS = (2, 0, 3, 1)  # Of the GPUs 0 to 3: a card's device file has another number than its index.
ALL = {0, 1, 2, 3}


def cards(*gpus: int) -> list[str]:
    """Return the scenario of these GPUs."""
    return [gpu(index, minor=MINORS[index], memory_used_mb=45) for index in gpus]


@pytest.fixture
def service(folder: Path, devices: DeviceFolder) -> Iterator[Daemon]:
    """A service that owns four device files, running, with all of them closed."""
    daemon = Daemon(folder, devices.settings)
    daemon.place(*cards(0, 1, 2, 3))
    daemon.start()
    until(lambda: all(devices.file(minor).stat().st_mode & 0o007 == 0 for minor in ALL))
    yield daemon
    daemon.stop()


def settings(daemon: Daemon, old: str, new: str) -> None:
    """Change the settings file."""
    path = daemon.folder / "config.toml"
    path.write_text(path.read_text().replace(old, new))


def reserve(daemon: Daemon, person: Person, *words: str) -> "subprocess.CompletedProcess[str]":
    """Reserve as a person."""
    done = daemon.run("reserve", *words, person=person)
    assert done.returncode == 0, done.stderr
    return done


def test_each_file_opens_for_its_holder_between_grant_and_release(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """Nobody opens a GPU before a reservation; then its holder does; after the release nobody again."""
    ann, bob = people
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        assert first.opens == second.opens == set()
        reserve(service, ann, "--gpu-ids", "0,2")
        assert (first.opens, second.opens) == ({2, 3}, set())
        reserve(service, bob, "--gpu-ids", "1")
        assert (first.opens, second.opens) == ({2, 3}, {0})
        assert service.run("release", "--gpu-ids", "2", person=ann).returncode == 0
        assert (first.opens, second.opens) == ({2}, {0})
        assert service.run("release", person=ann).returncode == 0
        assert (first.opens, second.opens) == (set(), {0})


def test_random_grants_and_releases_never_open_a_gpu_to_the_wrong_user(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """After each answer of the service, every user opens exactly the GPUs that are theirs."""
    chance = random.Random(15)
    openers = [Opener(person, devices) for person in people]
    held: list[set[int]] = [set(), set()]
    for _ in range(ROUNDS):
        who = chance.randrange(2)
        free = sorted(ALL - held[0] - held[1])
        if held[who] and (not free or chance.random() < 0.5):
            index = chance.choice(sorted(held[who]))
            assert service.run("release", "--gpu-ids", str(index), person=people[who]).returncode == 0
            held[who] -= {index}
        elif free:
            index = chance.choice(free)
            reserve(service, people[who], "--gpu-ids", str(index))
            held[who] |= {index}
        for opener, mine in zip(openers, held, strict=True):
            assert opener.opens == {MINORS[index] for index in mine}
    for opener in openers:
        opener.__exit__()


def test_a_run_opens_its_gpus_by_uuid_and_its_end_closes_them(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """The command sees its GPUs by UUID, because indices depend on what it can open."""
    ann, _ = people
    script = 'echo $CUDA_VISIBLE_DEVICES; : <>"$0" && echo opened'
    command = ["sh", "-c", script, str(devices.file(MINORS[1]))]
    done = service.run("run", "--gpu-ids", "1", "--", *command, person=ann)
    uuid, said = done.stdout.split()
    assert (uuid[:4], said) == ("GPU-", "opened")
    with Opener(ann, devices) as opener:
        until(lambda: opener.opens == set())


def test_a_gpu_that_lingers_stays_open_to_its_holder(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """A run that has ended keeps its GPU as long as a process of it uses the GPU, and no longer."""
    ann, _ = people
    script = "sleep 600 >/dev/null & echo $!; exec sleep 600"
    words = ann.command(*COMMAND, "run", "--gpu-ids", "1", "--", "sh", "-c", script)
    run = subprocess.Popen(words, env=service.environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    child = int(run.stdout.readline())
    used = gpu(1, use(child, 5000), minor=MINORS[1])
    service.place(*cards(0), used, *cards(2, 3))
    until(lambda: "5000MB" in service.status())
    run.kill()
    run.communicate()
    with Opener(ann, devices) as opener:
        until(lambda: "lingering" in service.status())
        assert opener.opens == {MINORS[1]}
        os.kill(child, signal.SIGKILL)
        until(lambda: opener.opens == set())


def test_who_waits_can_open_the_gpu_when_the_answer_comes(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """A GPU that is granted from the queue is open to its new holder at once, and not to the last one."""
    ann, bob = people
    reserve(service, ann, "--gpus", "4")
    waiting = subprocess.Popen(
        bob.command(*COMMAND, "reserve", "--gpus", "4", "--wait"),
        env=service.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: json.loads(service.run("queue", "--json").stdout))
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        assert service.run("release", person=ann).returncode == 0
        assert waiting.wait(PATIENCE) == 0
        assert (first.opens, second.opens) == (set(), ALL)
    waiting.communicate()


def test_a_reservation_with_sudo_opens_to_the_user_who_logged_in(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """Root's reservation after `sudo` is that of the user, who can open the GPU."""
    ann, bob = people
    words = ann.sudo(*COMMAND, "reserve", "--gpu-ids", "3")
    subprocess.run(words, env=service.environment, check=True, capture_output=True)
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        assert (first.opens, second.opens) == ({MINORS[3]}, set())


def test_a_file_that_is_reset_is_closed_at_the_next_scan(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """What nvidia-modprobe opens is closed again, and stays open to the holder."""
    ann, bob = people
    reserve(service, ann, "--gpu-ids", "0")
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        devices.file(0).chmod(0o666)
        devices.make(2)
        until(lambda: (first.opens, second.opens) == ({2}, set()))


def test_exempt_users_and_groups_can_open_everything(
    folder: Path, devices: DeviceFolder, people: list[Person]
) -> None:
    """Those who are exempt from violations, and the groups of the settings, open every GPU."""
    ann, bob = people
    daemon = Daemon(folder, f'exempt_users = ["{ann.name}"]\n{devices.settings}groups = ["{bob.name}"]\n')
    text = (folder / "config.toml").read_text()
    exempt = f'exempt_users = ["{ann.name}"]\n'
    (folder / "config.toml").write_text(
        text.replace(exempt, "").replace("[violations]\n", f"[violations]\n{exempt}")
    )
    daemon.place(*cards(0, 1, 2, 3))
    daemon.start()
    stranger = Person()
    try:
        with (
            Opener(ann, devices) as first,
            Opener(bob, devices) as second,
            Opener(stranger, devices) as third,
        ):
            until(lambda: (first.opens, second.opens, third.opens) == (ALL, ALL, set()))
    finally:
        stranger.remove()
        daemon.stop()


@pytest.mark.parametrize("how", ["on_stop", "switched off", "command"])
def test_the_files_are_open_again_when_enforcement_ends(
    service: Daemon, devices: DeviceFolder, people: list[Person], how: str
) -> None:
    """Stopping keeps the files closed unless the settings say otherwise; so does nothing else."""
    service.stop()
    with Opener(people[0], devices) as opener:
        assert opener.opens == set()
        if how == "on_stop":
            settings(service, "devices = true", 'devices = true\non_stop = "restore"')
            service.start()
            until(lambda: opener.opens == set())
            service.stop()
        elif how == "switched off":
            settings(service, "devices = true", "devices = false")
            service.start()
            until(lambda: opener.opens == ALL)
        else:
            done = service.run("enforcement", "restore")
            assert (done.returncode, done.stderr) == (0, "")
        assert opener.opens == ALL


def test_restore_opens_all_files_of_a_running_service_until_resume(
    service: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """An administrator opens everything at once, and the service leaves it so, also after a restart."""
    ann, bob = people
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        done = json.loads(service.run("enforcement", "restore", "--json").stdout)
        assert (len(done["restored"]), done["suspended"]) == (4, True)
        assert first.opens == ALL
        reserve(service, ann, "--gpu-ids", "0")
        assert second.opens == ALL
        service.stop()
        service.start()
        assert second.opens == ALL
        assert json.loads(service.run("enforcement", "resume", "--json").stdout) == {"resumed": True}
        until(lambda: (first.opens, second.opens) == ({MINORS[0]}, set()))


def test_status_says_who_can_open_what(service: Daemon, people: list[Person]) -> None:
    """`enforcement status` lists the files, with the users who can open them."""
    reserve(service, people[0], "--gpu-ids", "0")
    rows = json.loads(service.run("enforcement", "status", "--json").stdout)["files"]
    assert [(row["file"][-7:], row["open_to"], row["users"]) for row in rows] == [
        (f"nvidia{minor}", "named", [people[0].name] if minor == MINORS[0] else []) for minor in sorted(ALL)
    ]
    assert people[0].name in service.run("enforcement", "status").stdout


def test_only_root_can_restore(service: Daemon, people: list[Person]) -> None:
    """Another user is told so in one line, and changes nothing."""
    done = service.run("enforcement", "restore", person=people[0])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "root" in done.stderr


def test_unmanaged_gpus_stay_open(service: Daemon, devices: DeviceFolder, people: list[Person]) -> None:
    """A GPU that canhazgpu does not manage is open to all, and closed once it is managed."""
    with Opener(people[0], devices) as opener:
        assert service.run("admin", "init", "--gpu-ids", "0,1").returncode == 0
        until(lambda: opener.opens == {MINORS[2], MINORS[3]})
        assert service.run("admin", "init", "--gpus", "4").returncode == 0
        until(lambda: opener.opens == set())
