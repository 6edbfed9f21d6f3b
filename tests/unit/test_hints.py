"""Who a container's process probably belongs to: what counts, in which order, and what does not count."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import until
from support.docker_socket import DockerSocket, docker_socket, sending
from support.people import Person
from support.proc import Host, reading

from canhazgpu.events.gpu import ProcessUse
from canhazgpu.service.attribution import Attributor
from canhazgpu.service.hints import FRESH, RETRY, Hints

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may make users")
A = "a1" * 32
DOCKER = f"0::/system.slice/docker-{A}.scope"
MOUNT = "9 8 254:0 {} {} rw - ext4 /dev/vda rw\n"


class Lab:
    """A host with processes in containers, and a socket that may answer for them."""

    def __init__(self, host: Host, docker: DockerSocket, people: list[Person]) -> None:
        self.host, self.docker = host, docker
        self.ada, self.bob = people
        self.now = 0.0
        host.give(1, mountinfo=MOUNT.format("/", "/"))
        self.start()

    def start(self, **options: Any) -> None:
        """Begin without knowing anything."""
        options = {"clock": lambda: self.now, **options}
        self.hints = Hints(self.docker.path, self.host.proc, self.host.etc, **options)
        self.attributor = Attributor(self.host.proc, self.host.etc, hints=self.hints)

    def put(
        self,
        uid: int = 0,
        *mounts: str,
        environ: str = "",
        cgroup: str = DOCKER,
        uid_map: str = "0 0 4294967295",
        **facts: Any,
    ) -> None:
        """Put process 7 there; names of people may stand in what is given."""
        self.host.put(7, uid, cgroup, uid_map=uid_map, **facts)
        rows = [MOUNT.format(self.text(mount), f"/m{number}") for number, mount in enumerate(mounts)]
        self.host.give(7, mountinfo="".join(rows), environ=self.text(environ).replace(" ", "\0"))

    def text(self, text: str) -> str:
        """Put in the names of people."""
        return text.format(ada=self.ada.name, bob=self.bob.name, uid=self.ada.uid)

    def look(self) -> ProcessUse:
        """Return what is known at once."""
        found = self.attributor.attribute(reading(7))
        assert found
        return found

    def asked(self) -> ProcessUse:
        """Return what is known when all that was asked has answered."""
        self.look()
        until(lambda: not any(one.asked for one in self.hints._known.values()))  # noqa: SLF001
        return self.look()

    def hint(self) -> tuple[str, str] | None:
        """Return who is hinted at, and why."""
        found = self.asked()
        assert found.person is None
        return (found.hint.user, found.hint.source) if found.hint else None


@pytest.fixture
def lab(tmp_path: Path, folder: Path, people: list[Person]) -> Iterator[Lab]:
    """A host with two people, and a Docker socket that knows no container yet."""
    with docker_socket(folder / "d") as docker:
        yield Lab(Host(tmp_path), docker, people)


WORKING_DIR = "com.docker.compose.project.working_dir"
RUNTIME = "docker a1a1a1a1a1a1"
NAMED = 'container "train"'


def labelled(lab: Lab, **labels: str) -> None:
    """Put process 7 into a container with labels."""
    lab.put()
    lab.docker.have(A, Labels={name: lab.text(value) for name, value in labels.items()})


def mounted_read_only(lab: Lab) -> None:
    """Let process 7 only read a home."""
    lab.put()
    lab.host.give(7, mountinfo=lab.text(MOUNT.format("/home/{ada}", "/d")).replace(" rw -", " ro -"))


def with_a_uid_of_their_own(lab: Lab) -> None:
    """Run process 7 with a uid that no image chooses."""
    lab.ada.become(1002345)
    lab.put(1002345)


def started_as_user(lab: Lab) -> None:
    """Start the container with --user."""
    lab.put(lab.ada.uid)
    lab.docker.have(A, User=f"{lab.ada.uid}:7")


RANKS: dict[str, tuple[Callable[[Lab], None], str]] = {
    "a home": (lambda lab: lab.put(0, "/home/{ada}/x", "/srv"), RUNTIME + " has /home/{ada}/x mounted"),
    "a read-only home": (mounted_read_only, RUNTIME + " has /home/{ada} mounted read-only"),
    "its environment": (
        lambda lab: lab.put(environ="A=b USER={ada} NB_USER=no-user-has-this LOGNAME={ada}"),
        "its environment has USER={ada}",
    ),
    "its uid": (with_a_uid_of_their_own, "it runs with uid 1002345"),
    "a label": (
        lambda lab: labelled(lab, **{"canhazgpu.user": "{ada}"}),
        NAMED + " has the label canhazgpu.user={ada}",
    ),
    "a folder": (
        lambda lab: labelled(lab, **{WORKING_DIR: "/home/{bob}/../{ada}/p"}),
        NAMED + " has the label " + WORKING_DIR + "=/home/{bob}/../{ada}/p",
    ),
    "--user": (started_as_user, NAMED + " was started with --user {uid}"),
}


@pytest.mark.parametrize(("prepare", "source"), RANKS.values(), ids=RANKS)
def test_what_points_to_a_person(lab: Lab, prepare: Callable[[Lab], None], source: str) -> None:
    """It is shown with its source; it proves nobody, and nothing else about the process changes."""
    prepare(lab)
    assert lab.hint() == (lab.ada.name, lab.text(source))
    found = lab.look()
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
    assert found.hint
    assert found.hint.uid in (lab.ada.uid, 1002345)


def test_the_strongest_counts(lab: Lab) -> None:
    """Mounts, labels, the environment, and last the uid, which images choose themselves."""
    labels = {"canhazgpu.user": lab.bob.name}
    lab.docker.have(A, Labels=labels, User=str(lab.bob.uid))
    lab.put(lab.bob.uid, "/home/{ada}", environ="USER={bob}")
    assert lab.hint() == (lab.ada.name, f'container "train" has /home/{lab.ada.name} mounted')
    lab.start()
    lab.put(lab.bob.uid, environ="USER={ada}")
    assert lab.hint() == (lab.bob.name, f'container "train" has the label canhazgpu.user={lab.bob.name}')
    lab.start()
    lab.docker.have(A, User=str(lab.bob.uid))
    assert lab.hint() == (lab.ada.name, f"its environment has USER={lab.ada.name}")


@pytest.mark.parametrize(
    ("mounts", "environ"),
    [(["/home/{ada}", "/home/{bob}/data"], ""), (["/home/{ada}", "/home/{bob}"], "USER={ada}"),
     ([], "USER={ada} LOGNAME={bob}"), ([], "USER=root LOGNAME=daemon"), ([], "USER=0 XUSER={ada} USER"),
     (["/home"], "HOME=/home/{ada}")],
)  # fmt: skip
def test_what_points_to_nobody(lab: Lab, mounts: list[str], environ: str) -> None:
    """Two people on one rank, users that are no persons, and what says nothing of a user."""
    lab.put(0, *mounts, environ=environ)
    assert lab.hint() is None


def test_what_an_image_has_by_itself_points_to_nobody(lab: Lab) -> None:
    """Its user, environment and labels are those of whoever built it."""
    lab.docker.have(A, User=str(lab.ada.uid), Labels={"canhazgpu.user": lab.ada.name})
    lab.docker.image(
        User=str(lab.ada.uid), Env=[f"USER={lab.ada.name}"], Labels={"canhazgpu.user": lab.ada.name}
    )
    lab.put(lab.ada.uid, environ="USER={ada}")
    assert lab.hint() is None


def test_a_uid_that_images_choose_points_to_nobody(lab: Lab) -> None:
    """1000 is jovyan, vscode, ray and node: only what was asked for with --user says something."""
    lab.put(1000)
    assert lab.hint() is None
    lab.start()
    lab.put(100000, uid_map=f"{lab.ada.uid} 100000 10")
    assert lab.hint() is None


def test_a_user_who_is_mapped_is_the_one_that_was_asked_for(lab: Lab) -> None:
    """With userns-remap the process has another uid on the host, which may be somebody else's."""
    lab.docker.have(A, User=str(lab.ada.uid))
    lab.put(100000 + lab.ada.uid, uid_map="0 100000 65536")
    assert lab.hint() == (lab.ada.name, f'container "train" was started with --user {lab.ada.uid}')


def test_only_where_nobody_is_proven(lab: Lab) -> None:
    """Processes of the host are not looked at, and Docker is asked of containers it may know only."""
    lab.put(lab.bob.uid, "/home/{ada}", cgroup="0::/")
    found = lab.asked()
    assert (found.uid, found.hint) == (lab.bob.uid, None)
    lab.put(0, "/home/{ada}", cgroup="0::/", start=6)
    assert lab.asked().hint is None
    lab.put(0, "/home/{ada}", cgroup=f"0::/machine.slice/libpod-{A}.scope", start=7)
    assert lab.hint() == (lab.ada.name, f"podman a1a1a1a1a1a1 has /home/{lab.ada.name} mounted")
    assert lab.docker.requests == []


def test_a_scan_waits_for_nothing(lab: Lab) -> None:
    """A daemon that hangs is asked elsewhere; the process is shown meanwhile, and the hint comes later."""

    def hang(_: socket.socket) -> None:
        lab.docker.stopping.wait(60)

    lab.docker.answers[f"/containers/{A}/json"] = hang
    lab.put(0, "/home/{ada}")
    began = time.monotonic()
    assert lab.look().hint is None
    assert time.monotonic() - began < 0.9
    until(lambda: lab.look().hint)


def test_what_did_not_answer_is_asked_again(lab: Lab) -> None:
    """Soon at first, then more rarely; what was found ages too."""
    lab.put()
    assert lab.hint() is None
    lab.docker.have(A, Labels={"canhazgpu.user": lab.ada.name})
    lab.now += RETRY - 1
    assert lab.hint() is None
    lab.now += 1
    assert lab.hint()
    assert lab.look().container
    lab.docker.have(A, Labels={"canhazgpu.user": lab.bob.name})
    lab.now += FRESH - 1
    assert lab.hint() == (lab.ada.name, f'container "train" has the label canhazgpu.user={lab.ada.name}')
    lab.now += 1
    assert lab.hint() == (lab.bob.name, f'container "train" has the label canhazgpu.user={lab.bob.name}')


def test_what_was_found_stands_while_docker_is_away(lab: Lab) -> None:
    """A daemon that is started anew takes no hint away."""
    lab.docker.have(A, Labels={"canhazgpu.user": lab.ada.name})
    lab.put(environ="USER={bob}")
    found = lab.hint()
    assert found
    lab.docker.answers[f"/containers/{A}/json"] = sending(b"")
    lab.now += FRESH
    assert lab.hint() == found
    lab.docker.have(A)
    lab.now += FRESH
    assert lab.hint() == (lab.bob.name, f"its environment has USER={lab.bob.name}")


def test_another_process_by_that_pid_is_looked_at_anew(lab: Lab) -> None:
    """Its start tells them apart."""
    lab.put(0, "/home/{ada}", start=5)
    assert lab.hint()
    lab.put(0, "/home/{bob}", start=6)
    assert lab.look().hint is None
    assert lab.hint() == (lab.bob.name, f"docker a1a1a1a1a1a1 has /home/{lab.bob.name} mounted")


def test_a_name_that_a_user_chose_is_harmless(lab: Lab) -> None:
    """Whatever is in a label or a folder's name stays on one line, and short."""
    lab.docker.have(A, name="a\nb\x1b[2J", Labels={WORKING_DIR: f"/home/{lab.ada.name}/\n\x1b" + "x" * 999})
    lab.put()
    found = lab.asked()
    assert found.hint
    assert found.container
    assert found.container.name == "a\\nb\\x1b[2J"
    assert len(found.hint.source) <= 200
    assert found.hint.source.isprintable()
