"""The kinds of processes in the lab: what the kernel says of them, and what the oracle knows beside that."""

import msgspec

from bench.truth.people import EVERYBODY, ROOT
from bench.truth.proc import HOST_IDS

DOCKER = "/system.slice/docker-{number:012x}" + "0" * 52 + ".scope"
ROOTLESS = "/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-" + "{number:064x}" + ".scope"
SESSION = "/user.slice/user-{uid}.slice/session-3.scope"
IMAGES_UID = 1000  # Alice's number, and that of most images: jovyan, vscode, node.
EXEMPT_PROGRAM = "/usr/bin/sleep"  # Root's, where only root can put one: exempt in the lab's settings.
EXEMPT_NAME = "sleep"
OWN_PROGRAM = "/dev/shm/sleep"  # noqa: S108 - nobody runs it


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind: None as `uid` or `login` stands for the person's own.

    `proven`: whether what the kernel says proves the person. `owner`: who it is whoever started it.
    `switched`: it is in another person's login, as after `sudo -u` or `su -`.
    """

    uid: int | None = None
    login: int | None = None
    logged_in: bool = True
    cgroup: str = SESSION
    id_map: str = HOST_IDS
    name: str = "python3"
    program: str = "/usr/bin/python3"
    proven: bool = True
    exempt: bool = False
    owner: str = ""
    switched: bool = False


KINDS = {
    "plain": Kind(),
    "slice": Kind(uid=EVERYBODY["www"], logged_in=False),
    "sudo": Kind(uid=ROOT, cgroup="/system.slice/ssh.service"),
    "switched": Kind(switched=True),
    "exempt": Kind(
        uid=ROOT, logged_in=False, cgroup="/", name=EXEMPT_NAME, program=EXEMPT_PROGRAM, exempt=True
    ),
    "disguised": Kind(name=EXEMPT_NAME, program=OWN_PROGRAM),
    "mps": Kind(name="nvidia-cuda-mps-server", program=OWN_PROGRAM),
    "rootless": Kind(
        uid=101000, cgroup=ROOTLESS, id_map="0 1157 1\n1 100000 65536\n", logged_in=False, owner="jon"
    ),
    "container": Kind(uid=ROOT, logged_in=False, cgroup=DOCKER, proven=False),
    "container-uid": Kind(uid=IMAGES_UID, logged_in=False, cgroup=DOCKER, proven=False),
    "remapped": Kind(uid=165536, logged_in=False, cgroup=DOCKER, id_map="0 165536 65536\n", proven=False),
}
