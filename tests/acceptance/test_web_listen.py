"""Where `canhazgpu web` can be served: an address and a port, or a socket file, which a proxy reaches."""

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.daemon import COMMAND, Daemon
from support.people import Person

from canhazgpu.cli.web.listener import EXAMPLES

HEADER = "X-Remote-User"


@contextmanager
def served(
    host: Daemon, path: Path, person: Person | None = None, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Serve the page on a socket file, under a umask that closes it; yields the process once it answers."""
    words = ["sh", "-c", 'umask 077; exec "$@"', "-", *COMMAND, "web", "--listen", f"unix:{path}"]
    with subprocess.Popen(
        person.command(*words) if person else words,
        env={**host.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"The page is at unix:{path}\n"
            yield process
        finally:
            process.kill()


def get(path: Path, name: str = "gpus.example.com", **headers: str) -> httpx.Response:
    """Return the answer to a request under a name, as a proxy passes it on."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=60) as client:
        return client.get(
            f"http://{name}/?mine=1", headers={one.replace("_", "-"): headers[one] for one in headers}
        )


def test_the_page_is_served_on_a_socket_file(
    lasting_host: Daemon, folder: Path, people: list[Person]
) -> None:
    """Any process that reaches the directory can connect, under any name. In the end, the file is removed."""
    folder.chmod(0o777)
    path = folder / "web.sock"
    with served(lasting_host, path, people[0]) as process:
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o666, people[0].uid)
        answer = get(path)
        assert (answer.status_code, "4 GPUs" in answer.text) == (200, True)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not path.exists()


def test_the_proxy_names_the_user_and_only_known_names(lasting_host: Daemon, folder: Path) -> None:
    """The header counts, because the peer is on this host; with web.hosts, other names are refused."""
    path = folder / "web.sock"
    hosts = "gpus.example.com"
    with served(lasting_host, path, CANHAZGPU_WEB_USER_HEADER=HEADER, CANHAZGPU_WEB_HOSTS=hosts):
        assert 'data-me="eve"' in get(path, X_Remote_User="eve").text
        assert get(path, "other.example.com").status_code == 421


def test_a_file_that_nobody_serves_is_replaced(lasting_host: Daemon, folder: Path) -> None:
    """After a crash, the page starts again on the same file; the end of the first does not remove it."""
    path = folder / "web.sock"
    with served(lasting_host, path) as process:
        process.kill()
        process.wait()
    assert path.exists()
    with served(lasting_host, path) as first:
        path.unlink()
        with served(lasting_host, path):
            first.terminate()
            assert first.wait(60) == 0
            assert get(path).status_code == 200


def test_what_is_there_is_not_replaced(lasting_host: Daemon, folder: Path) -> None:
    """Neither the socket of a process that listens, nor a file; the command says so and exits with 1."""
    path, file = folder / "web.sock", folder / "file"
    file.write_text("precious")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        before = os.lstat(path)
        for place, reason in (
            (path, "another process serves it"),
            (file, "it exists and is not a socket"),
            (folder / "none" / "web.sock", "No such file or directory"),
        ):
            done = lasting_host.run("web", "--listen", f"unix:{place}")
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"Error: cannot listen on {place}: {reason}; choose another path\n"
        assert os.path.samestat(path.lstat(), before)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("listen", ["unix:", "unix:web.sock", f"unix:/{'x' * 107}"])
def test_a_bad_path_is_one_line(lasting_host: Daemon, listen: str) -> None:
    """It has to be absolute, and short enough for a socket."""
    done = lasting_host.run("web", "--listen", listen)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"Error: --listen: '{listen:.120}' is not unix: and an absolute path of at most 107 bytes\n"
    assert done.stderr == said


@pytest.mark.parametrize(
    "listen",
    ["x", "127.0.0.1", ":80", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:²", "a..b:80", f"{'a' * 64}:80"],
)
def test_a_bad_address_is_one_line(lasting_host: Daemon, listen: str) -> None:
    """The command says what an address looks like, and exits with 2."""
    done = lasting_host.run("web", "--listen", listen)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"Error: --listen: '{listen}' is not an address such as {EXAMPLES}\n")


def test_a_port_in_use_is_one_line(lasting_host: Daemon) -> None:
    """If the address is taken, the command says so, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = lasting_host.run("web", "--listen", address)
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot listen on {address}: Address already in use; choose another port\n"
