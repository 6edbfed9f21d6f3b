"""The recipes for JupyterHub, with a real JupyterHub that starts the servers of real users.

Its proxy is one that does nothing, because the usual one needs Node.js: the tests ask the hub itself.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.notebook import PYTHON, ROOT, need_notebooks
from support.people import Person
from support.ports import free_port

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(300)]  # A kernel is slow to start.
PAGE = (ROOT / "docs" / "integrations" / "notebooks.md").read_text()
HOOKS = (ROOT / "docs" / "integrations" / "jupyterhub_config.py").read_text()
(UNDER_RUN,) = re.findall(r"^(c\.Spawner\.cmd = .+)$", PAGE, re.MULTILINE)
SETTINGS = """
import sys
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    routes = {{}}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return self.routes

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "all", "services": ["test"], "scopes": ["admin:users", "admin:servers"]}}
]
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.cleanup_servers = True
c.Spawner.notebook_dir = "/"
c.Spawner.env_keep = ["PATH", "CANHAZGPU_CONFIG"]
"""
# What is below /root, such as the interpreter, is closed to users. The hub has its own /root, open to all.
READABLE = """
for number in 0 1; do
    mkdir -p "$0/$number"
    eval "mount --bind \\"\\${$((number + 1))}\\" \\"$0/$number\\""
done
mount -t tmpfs -o mode=755 tmpfs /root
for number in 0 1; do
    mkdir -p "$1"
    mount --bind "$0/$number" "$1"
    shift
done
exec "$@"
"""
TOKEN = "0123456789abcdef" * 2


class Hub:
    """A hub whose service is `daemon`."""

    def __init__(self, daemon: Daemon, recipe: str) -> None:
        """Start it with this recipe."""
        self._port = free_port()
        folder = daemon.folder
        (folder / "bin").mkdir(exist_ok=True)
        program = folder / "bin" / "canhazgpu"
        program.write_text(f'#!/bin/sh\n[ -z "$SECRET" ] || exit 99\nexec {" ".join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        config = folder / "jupyterhub_config.py"
        more = SETTINGS.format(port=free_port(), hub=self._port, token=TOKEN, folder=folder)
        config.write_text(f"{recipe}\n{more}")
        self.log = folder / "hub.log"
        path = f"{folder}/bin:{PYTHON.parent}:/usr/bin:/bin"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self._readable(folder), PYTHON, "-m", "jupyterhub", "-f", config],
                env={"PATH": path, "CANHAZGPU_CONFIG": f"{folder}/config.toml", "SECRET": "of the hub"},
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        until(self._answers, 90)

    @staticmethod
    def _readable(folder: Path) -> list[str]:
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", READABLE]
        return [*words, f"{folder}/mounts", sys.base_prefix, str(ROOT)]

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """Ask the hub's API."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(method, f"/hub/api{path}", headers={"Authorization": f"token {TOKEN}"})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body else None
        finally:
            connection.close()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/")[0] == 200
        except OSError:
            return False

    def start_server(self, user: str) -> None:
        """Start the server of a user, and wait until the hub says that it is ready."""
        assert self.ask("POST", f"/users/{user}")[0] == 201
        status, said = self.ask("POST", f"/users/{user}/server")
        assert status in {201, 202}, (said, self.log.read_text())
        until(lambda: self.ask("GET", f"/users/{user}")[1]["servers"].get("", {}).get("ready"), 90)

    def stop_server(self, user: str) -> None:
        """Stop it."""
        assert self.ask("DELETE", f"/users/{user}/server")[0] in {202, 204}
        until(lambda: not self.ask("GET", f"/users/{user}")[1]["servers"], 60)

    def stop(self) -> None:
        """Stop the hub and its servers."""
        self.process.terminate()
        self.process.wait(PATIENCE)


@contextmanager
def hub_of(daemon: Daemon, recipe: str) -> Iterator[Hub]:
    """Run a hub with this recipe."""
    need_notebooks()
    hub = Hub(daemon, recipe)
    try:
        yield hub
    finally:
        hub.stop()


@pytest.fixture
def person(people: list[Person], folder: Path) -> Person:
    """A user with a home."""
    user = people[0]
    home = folder / "home"
    home.mkdir()
    home.chmod(0o777)
    user.set_home(str(home))
    return user


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host with four GPUs, all free."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def reservations(host: Daemon) -> list[tuple[str, str, int, str | None]]:
    """Return user, kind, number of GPUs and note of each reservation."""
    shown = json.loads(host.run("status", "--json").stdout)
    held = {one["reservation"]["id"]: one["reservation"] for one in shown if one["reservation"]}
    return [(one["user"], one["kind"], len(one["gpus"]), one["note"]) for one in held.values()]


def variable(user: Person) -> str:
    """Return CUDA_VISIBLE_DEVICES of the user's server."""
    pids = subprocess.run(
        ["pgrep", "-u", user.name, "-f", "jupyterhub"], capture_output=True, text=True, check=True
    )
    found = Path(f"/proc/{pids.stdout.split()[0]}/environ").read_text().split("\0")
    return dict(one.split("=", 1) for one in found if one)["CUDA_VISIBLE_DEVICES"]


def test_the_hooks_reserve_for_the_user_and_release(free: Daemon, person: Person) -> None:
    """The reservation is the user's, the server has its variables, and others of the user remain."""
    assert free.run("reserve", "--gpu-ids", "0", person=person, cwd="/").returncode == 0
    with hub_of(free, HOOKS) as hub:
        hub.start_server(person.name)
        assert sorted(reservations(free), key=str) == [
            (person.name, "manual", 1, "JupyterHub"),
            (person.name, "manual", 1, None),
        ]
        assert variable(person) in {"1", "2", "3"}
        hub.stop_server(person.name)
        assert reservations(free) == [(person.name, "manual", 1, None)]
        assert free.run("reserve", "--gpus", "3").returncode == 0
        status, said = hub.ask("POST", f"/users/{person.name}/server")
        assert status == 503
        assert said["message"].startswith("No GPU was reserved: Not enough GPUs available. Requested: 1,")
        assert len(reservations(free)) == 2


def test_a_server_under_run(free: Daemon, person: Person) -> None:
    """The reservation is a run of the user, and ends with the server."""
    with hub_of(free, UNDER_RUN) as hub:
        hub.start_server(person.name)
        assert reservations(free) == [(person.name, "run", 1, None)]
        assert variable(person) in {"0", "1", "2", "3"}
        hub.stop_server(person.name)
        until(lambda: not reservations(free))
