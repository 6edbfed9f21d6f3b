"""A simulated host with a process in a container, and a Docker socket that describes the container."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import until
from support.docker_socket import DockerSocket, docker_socket
from support.people import Person
from support.proc import Host, reading

from canhazgpu.events.gpu import ProcessUse
from canhazgpu.service.identity import container_hints, docker_api, slow_files
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.container_hints import Hints

A = "a1" * 32
DOCKER = f"0::/system.slice/docker-{A}.scope"
MOUNT = "9 8 254:0 {} {} rw - ext4 /dev/vda rw\n"


class HintLab:
    """A host with processes in containers, and a Docker socket that may describe them."""

    def __init__(self, host: Host, docker: DockerSocket, people: list[Person]) -> None:
        self.host, self.docker = host, docker
        self.ada, self.bob = people
        self.now = 0.0
        host.give(1, mountinfo=MOUNT.format("/", "/"))
        self.start()

    def start(self, **options: Any) -> None:
        """Start the attribution with empty caches."""
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
        """Create process 7. `{ada}`, `{bob}` and `{uid}` in the texts are replaced."""
        self.host.put(7, uid, cgroup, uid_map=uid_map, **facts)
        rows = [MOUNT.format(self.text(mount), f"/m{number}") for number, mount in enumerate(mounts)]
        self.host.give(7, mountinfo="".join(rows), environ=self.text(environ).replace(" ", "\0"))

    def text(self, text: str) -> str:
        """Replace `{ada}`, `{bob}` and `{uid}` in a text."""
        return text.format(ada=self.ada.name, bob=self.bob.name, uid=self.ada.uid)

    def look(self) -> ProcessUse:
        """Return what is known immediately."""
        found = self.attributor.attribute(reading(7))
        assert found
        return found

    def settled(self) -> ProcessUse:
        """Return what is known when all look-ups have finished."""
        self.look()
        until(lambda: not any(one.asked for one in self.hints._known.values()))  # noqa: SLF001
        return self.look()

    def hint(self) -> tuple[str, str] | None:
        """Return the user that the hint names, and its source."""
        found = self.settled()
        assert found.person is None
        return (found.hint.user, found.hint.source) if found.hint else None


@pytest.fixture
def lab(
    tmp_path: Path, folder: Path, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> Iterator[HintLab]:
    """A host with two users, and a Docker socket that knows no container yet. All has time to answer."""
    for module, name in ((docker_api, "DEADLINE"), (container_hints, "DEADLINE"), (slow_files, "PATIENCE")):
        monkeypatch.setattr(module, name, 60.0)
    with docker_socket(folder / "d") as docker:
        yield HintLab(Host(tmp_path), docker, people)
