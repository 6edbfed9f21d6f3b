"""What a Docker daemon says of one of its containers: by its socket, read only, bounded, with a deadline."""

import socket
import time

import msgspec

DEADLINE = 1.0  # Seconds for one answer, from connecting to its last byte.
LARGEST = 2**20  # Bytes of an answer that are read.


class DockerAway(Exception):
    """The daemon is there but does not answer, or not in time."""


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    user: str = ""
    env: tuple[str, ...] | None = ()
    labels: dict[str, str] | None = {}


class _Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    config: _Config | None = _Config()
    name: str = ""
    image: str = ""


class ContainerFacts(msgspec.Struct, frozen=True):
    """What whoever started a container chose; what its image has by itself is left out.

    `user` is what `--user` gave. What begins with `image` is the image's own, its environment as NAME=value.
    """

    name: str
    user: str
    labels: dict[str, str]
    image_user: str
    image_environment: frozenset[str]


def inspect(path: str, container: str) -> ContainerFacts | None:
    """Return what the daemon at the socket `path` knows of a container, None where it knows nothing.

    It may take two deadlines. Raises DockerAway.
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
    """Return the answer to one request, None where there is no daemon or no such thing. Raises DockerAway."""
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
    raise DockerAway("it does not come to an end")


def _read(answer: bytes) -> _Inspected | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status == [b"404"]:
        return None
    if status != [b"200"]:
        raise DockerAway("it does not answer with what was asked for")
    try:
        return msgspec.json.decode(body, type=_Inspected)
    except msgspec.DecodeError as error:
        raise DockerAway(f"its answer cannot be read: {error}") from error
