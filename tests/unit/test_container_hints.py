"""The probable user of a container's process: which sources count, in which order, and which do not."""

import os
from collections.abc import Callable

import pytest
from support.hint_lab import MOUNT, A, HintLab

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may make users")


WORKING_DIR = "com.docker.compose.project.working_dir"
RUNTIME = "docker a1a1a1a1a1a1"
NAMED = 'container "train"'


def labelled(lab: HintLab, **labels: str) -> None:
    """Put process 7 into a container with labels."""
    lab.put()
    lab.docker.have(A, Labels={name: lab.text(value) for name, value in labels.items()})


def mounted_read_only(lab: HintLab) -> None:
    """Mount a home read-only for process 7."""
    lab.put()
    lab.host.give(7, mountinfo=lab.text(MOUNT.format("/home/{ada}", "/d")).replace(" rw -", " ro -"))


def started_as_user(lab: HintLab) -> None:
    """Start the container with `--user`."""
    lab.put(lab.ada.uid)
    lab.docker.have(A, User=f"{lab.ada.uid}:7")


RANKS: dict[str, tuple[Callable[[HintLab], None], str]] = {
    "a home": (lambda lab: lab.put(0, "/home/{ada}/x", "/srv"), RUNTIME + " has /home/{ada}/x mounted"),
    "a read-only home": (mounted_read_only, RUNTIME + " has /home/{ada} mounted read-only"),
    "its environment": (
        lambda lab: lab.put(environ="A=b USER={ada} NB_USER=no-user-has-this LOGNAME={ada}"),
        "its environment has USER={ada}",
    ),
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
def test_what_points_to_a_person(lab: HintLab, prepare: Callable[[HintLab], None], source: str) -> None:
    """A hint is shown with its source; it proves nothing, and nothing else about the process changes."""
    prepare(lab)
    assert lab.hint() == (lab.ada.name, lab.text(source))
    found = lab.look()
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
    assert found.hint
    assert found.hint.uid in (lab.ada.uid, 1002345)


def test_the_strongest_counts(lab: HintLab) -> None:
    """The order is mounts, labels, environment, uid. The uid comes last, because images choose it."""
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
def test_what_points_to_nobody(lab: HintLab, mounts: list[str], environ: str) -> None:
    """Two users in one source, system users, and unrelated facts give no hint."""
    lab.put(0, *mounts, environ=environ)
    assert lab.hint() is None


def test_what_an_image_has_by_itself_points_to_nobody(lab: HintLab) -> None:
    """The user, environment and labels of an image were chosen by its author, so they give no hint."""
    lab.docker.have(A, User=str(lab.ada.uid), Labels={"canhazgpu.user": lab.ada.name})
    lab.docker.image(
        User=str(lab.ada.uid), Env=[f"USER={lab.ada.name}"], Labels={"canhazgpu.user": lab.ada.name}
    )
    lab.put(lab.ada.uid, environ="USER={ada}")
    assert lab.hint() is None


def test_a_uid_that_images_choose_points_to_nobody(lab: HintLab) -> None:
    """Common uids of images, such as 1000, give no hint unless the uid was requested with `--user`."""
    lab.put(1000)
    assert lab.hint() is None
    lab.start()
    lab.put(100000, uid_map=f"{lab.ada.uid} 100000 10")
    assert lab.hint() is None


@pytest.mark.parametrize("user", ["", "app", "app:app", "0"])
def test_a_uid_that_the_container_chose_itself_points_to_nobody(lab: HintLab, user: str) -> None:
    """A uid that the image or its entrypoint chose gives no hint, even if a user of the host has it."""
    lab.docker.have(A, User=user)
    lab.put(lab.ada.uid)
    assert lab.hint() is None


def test_a_user_who_is_mapped_is_the_one_that_was_asked_for(lab: HintLab) -> None:
    """With userns-remap, the hint is the user that was requested, not the mapped uid on the host."""
    lab.docker.have(A, User=str(lab.ada.uid))
    lab.put(100000 + lab.ada.uid, uid_map="0 100000 65536")
    assert lab.hint() == (lab.ada.name, f'container "train" was started with --user {lab.ada.uid}')


def test_only_where_nobody_is_proven(lab: HintLab) -> None:
    """Only containers without a proven user are examined. Docker is asked only about its own containers."""
    lab.put(lab.bob.uid, "/home/{ada}", cgroup="0::/")
    found = lab.settled()
    assert (found.uid, found.hint) == (lab.bob.uid, None)
    lab.put(0, "/home/{ada}", cgroup="0::/", start=6)
    assert lab.settled().hint is None
    lab.put(0, "/home/{ada}", cgroup=f"0::/machine.slice/libpod-{A}.scope", start=7)
    assert lab.hint() == (lab.ada.name, f"podman a1a1a1a1a1a1 has /home/{lab.ada.name} mounted")
    assert lab.docker.requests == []


def test_a_name_that_a_user_chose_is_harmless(lab: HintLab) -> None:
    """A name from a label or a folder is limited to one short line."""
    lab.docker.have(A, name="a\nb\x1b[2J", Labels={WORKING_DIR: f"/home/{lab.ada.name}/\n\x1b" + "x" * 999})
    lab.put()
    found = lab.settled()
    assert found.hint
    assert found.container
    assert found.container.name == "a\\nb\\x1b[2J"
    assert len(found.hint.source) <= 200
    assert found.hint.source.isprintable()
