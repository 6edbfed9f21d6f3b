"""Reads the details of a container from Docker's socket: read-only, bounded, and with a deadline."""

import socket
import time

import msgspec

DEADLINE = 1.0  # Timeout of one request in seconds.
LARGEST = 2**20  # Maximum length of an answer in bytes.


class DockerAway(Exception):
    """The daemon is running but does not answer in time."""


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    user: str = ""
    env: tuple[str, ...] | None = ()
    labels: dict[str, str] | None = {}


class _Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    config: _Config | None = _Config()
    name: str = ""
    image: str = ""


class ContainerFacts(msgspec.Struct, frozen=True):
    """The details of a container that were chosen by the user who started it.

    `user` is the value of `--user`. Fields that begin with `image` describe the image; its environment is
    in the form NAME=value.
    """

    name: str
    user: str
    labels: dict[str, str]
    image_user: str
    image_environment: frozenset[str]


def inspect(path: str, container: str) -> ContainerFacts | None:
    """Return the details of a container from the daemon at the socket `path`, or None if there are none.

    This can take twice the deadline. Raises DockerAway.
    """
    found = _get(path, f"/containers/{container}/json")
    if found is None:
        return None
    image = _get(path, f"/images/{found.image}/json") if found.image else None
    chosen, given = (one.config or _Config() if one else _Config() for one in (found, image))
    theirs = (given.labels or {}).items()
    return ContainerFacts(
        name=found.name.removeprefix("/"),
        user="" if chosen.user == given.user else chosen.user.partition(":")[0],
        labels={name: value for name, value in (chosen.labels or {}).items() if (name, value) not in theirs},
        image_user=given.user.partition(":")[0],
        image_environment=frozenset(given.env or ()),
    )


def _get(path: str, target: str) -> _Inspected | None:
    """Return the answer to one request, or None without a daemon or for a 404. Raises DockerAway."""
    until = time.monotonic() + DEADLINE
    request = f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n"  # Of HTTP/1.0: the answer ends where it ends.
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(DEADLINE)
            link.connect(path)
            link.sendall(request.encode())
            while (left := until - time.monotonic()) > 0 and len(answer) <= LARGEST:
                link.settimeout(left)
                part = link.recv(65536)
                if not part:
                    return _read(bytes(answer))
                answer += part
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DockerAway(str(error)) from error
    raise DockerAway("its answer is too slow or too long")


def _read(answer: bytes) -> _Inspected | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status == [b"404"]:
        return None
    if status != [b"200"]:
        raise DockerAway("its answer is not a description of a container or an image")
    try:
        return msgspec.json.decode(body, type=_Inspected)
    except msgspec.DecodeError as error:
        raise DockerAway(f"its answer cannot be read: {error}") from error
