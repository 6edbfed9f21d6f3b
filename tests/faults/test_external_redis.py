"""An external Redis: safe connections, and nothing is lost or duplicated if a server dies."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.crc import key_slot
from support.daemon import Daemon, gpu, until
from support.load import Crowd
from support.redis_lab import DURABLE, SLOTS, Cluster, Server, Watched, certificates

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
GPUS = 16
# Seconds. A Sentinel that had no processor for two seconds does nothing for thirty (TILT), and it waits up to
# twenty until it makes a former master a replica.
FAILOVER = 75
PASSWORD = "a long one, with a space"  # noqa: S105 - of a server that ends with the test


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    """Processes that are ended after the test."""
    with ExitStack() as stack:
        yield stack


def serving(folder: Path, resources: ExitStack, settings: str) -> Daemon:
    """Start a service with 16 idle GPUs and these settings of Redis."""
    daemon = Daemon(folder, "[redis]\n" + settings)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    resources.callback(daemon.stop)
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == GPUS)
    return daemon


def shown(paths: dict[str, str]) -> str:
    """Return the settings of the certificates that the service trusts and shows."""
    names = {"ca_file": "ca", "cert_file": "client", "key_file": "client_key"}
    return "".join(f'{key} = "{paths[name]}"\n' for key, name in names.items())


def test_tls_with_a_clients_certificate_and_a_password_in_a_file(folder: Path, resources: ExitStack) -> None:
    """TLS and password are required, the password is in no argument or log, and a restart is survived."""
    paths = certificates(folder)
    (folder / "password").write_text(PASSWORD + "\n")
    server = Server(folder, *DURABLE, "--requirepass", PASSWORD, tls=paths)
    resources.callback(server.close)
    settings = f'url = "rediss://127.0.0.1:{server.port}"\n'
    daemon = serving(folder, resources, f'{settings}password_file = "{folder}/password"\n{shown(paths)}')
    with Crowd(daemon).at_work() as crowd:
        crowd.wait_for_grants(10)
        server.kill()
        server.start()
        crowd.wait_for_grants(10)
    assert daemon.process is not None
    said = Path(f"/proc/{daemon.process.pid}/cmdline").read_text() + daemon.log.read_text()
    for command in (["config", "show"], ["doctor"]):
        done = daemon.run(*command)
        said += done.stdout + done.stderr
    assert PASSWORD not in said
    (folder / "password").write_text("wrong")
    server.kill()
    server.start()
    until(lambda: "password" in daemon.run("release").stderr)
    (folder / "password").write_text(PASSWORD)  # It is read anew for each connection.
    until(lambda: "password" not in daemon.run("release").stderr)


def test_without_a_certificate_nobody_is_let_in(folder: Path, resources: ExitStack) -> None:
    """Doctor names the missing setting, or the certificate that is not trusted."""
    paths = certificates(folder)
    server = Server(folder, *DURABLE, tls=paths)
    resources.callback(server.close)
    settings = f'[redis]\nurl = "rediss://127.0.0.1:{server.port}"\nca_file = "{paths["ca"]}"\n'
    said = Daemon(folder, settings).run("doctor").stdout
    found = [line for line in said.splitlines() if " redis " in line]
    assert [line.split()[0] for line in found] == ["fail"]
    assert "set redis.cert_file and redis.key_file" in said
    untrusted = settings.replace(paths["ca"], paths["client"])
    found = [
        line for line in Daemon(folder, untrusted).run("doctor").stdout.splitlines() if " redis " in line
    ]
    assert "CERTIFICATE_VERIFY_FAILED" in found[0]


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    """A missing file prevents the start, with one line that names the setting."""
    settings = f'[redis]\nurl = "rediss://127.0.0.1:1"\nca_file = "{folder}/missing.pem"\n'
    done = Daemon(folder, settings).run("serve")
    assert done.returncode == 1
    assert done.stderr == f"Error: redis.ca_file: {folder}/missing.pem: No such file or directory\n"


def test_a_unix_socket_of_another_server(folder: Path, resources: ExitStack) -> None:
    """If the server restarts under load, nothing is lost or duplicated."""
    server = Server(folder, *DURABLE, "--unixsocket", str(folder / "r"), "--requirepass", PASSWORD)
    resources.callback(server.close)
    (folder / "password").write_text(PASSWORD)
    daemon = serving(folder, resources, f'url = "unix://{folder}/r"\npassword_file = "{folder}/password"\n')
    with Crowd(daemon).at_work() as crowd:
        crowd.wait_for_grants(10)
        server.kill()
        server.start()
        crowd.wait_for_grants(10)


def test_the_last_second_is_lost_with_the_server(folder: Path, resources: ExitStack) -> None:
    """A server that lost acknowledged data is repaired before it grants anything."""
    server = Server(folder, "--appendonly", "no", "--save", "")
    resources.callback(server.close)
    daemon = serving(folder, resources, f'url = "redis://127.0.0.1:{server.port}"\n')
    with Crowd(daemon).at_work() as crowd:
        crowd.wait_for_grants(10)
        with server.client() as client:
            client.save()
        crowd.wait_for_grants(10)
        server.kill()  # It starts with what it had when it was saved, under the same name.
        server.start()
        crowd.wait_for_grants(10)


@pytest.mark.parametrize(
    ("way", "encrypted"), [("killed", False), ("stopped", False), ("killed", True)], ids=str
)
def test_sentinels_name_another_master(
    folder: Path, resources: ExitStack, way: str, *, encrypted: bool
) -> None:
    """The master dies, or hangs, under load: the service goes on with the new one and all promises.

    Encrypted, the Sentinels too ask for the service's certificate.
    """
    paths = certificates(folder) if encrypted else None
    watched = Watched(folder, resources, paths)
    daemon = serving(folder, resources, f'url = "{watched.url}"\n{shown(paths) if paths else ""}')
    old = watched.master()
    with Crowd(daemon).at_work() as crowd:
        crowd.wait_for_grants(10)
        old.kill() if way == "killed" else os.kill(old.process.pid, 19)
        until(lambda: watched.master() is not old, FAILOVER)
        crowd.wait_for_grants(10)
        if way == "stopped":
            os.kill(
                old.process.pid, 18
            )  # It still thinks that it is the master, until the Sentinels tell it.
            until(lambda: _role(old) == "slave", FAILOVER)
            crowd.wait_for_grants(10)
    assert _role(watched.master()) == "master"


@pytest.mark.parametrize(
    ("way", "encrypted"), [("killed", False), ("replaced", False), ("killed", True)], ids=str
)
def test_a_cluster_loses_the_node_that_has_the_host(
    folder: Path, resources: ExitStack, way: str, *, encrypted: bool
) -> None:
    """If a Cluster's replica takes over under load, the service follows it.

    Encrypted, every node asks for the service's certificate.
    """
    paths = certificates(folder) if encrypted else None
    cluster = Cluster(folder, resources, "{testhost}", paths, timeout_ms=1000)
    daemon = serving(folder, resources, f'url = "{cluster.url}"\n{shown(paths) if paths else ""}')
    with Crowd(daemon).at_work() as crowd:
        crowd.wait_for_grants(10)
        if way == "killed":
            cluster.owner.kill()
        else:  # The old one goes on, as a replica that points to the new one.
            with cluster.replica.client() as client:
                client.execute_command("CLUSTER FAILOVER")
        until(lambda: _role(cluster.replica) == "master", 30)
        crowd.wait_for_grants(10)
    assert "Traceback" not in daemon.log.read_text()
    found = []
    for server in cluster.servers:
        if server is not cluster.owner:
            with server.client() as client:
                found += [(server.port, key) for key in client.keys("*")]
    assert {key.partition(b"}")[0] for _, key in found} <= {
        b"canhazgpu:{testhost",  # What the replica has.
        b"canhazgpu:hosts",
        b"canhazgpu:{canhazgpu:hosts",
    }


def test_a_renamed_host_keeps_its_name_on_a_cluster(folder: Path, resources: ExitStack) -> None:
    """In a Cluster, the old state is on another node, and the error says which name to set."""
    cluster = Cluster(folder, resources, "{testhost}", timeout_ms=1000)
    settings = f'url = "{cluster.url}"\n'
    daemon = serving(folder, resources, settings)
    assert daemon.run("reserve", "--duration", "1h").returncode == 0
    daemon.stop()
    slots = {SLOTS * number // 3 for number in range(4)}
    names = [f"host{number}" for number in range(50)]
    elsewhere = next(name for name in names if _node(name, slots) != _node("testhost", slots))
    renamed = Daemon(folder, "[redis]\n" + settings, host=elsewhere)
    done = renamed.run("serve")
    assert done.returncode == 1
    assert f"host: the state of testhost cannot follow this machine's new name {elsewhere}" in done.stderr
    assert 'set `host = "testhost"` in the settings' in done.stderr
    again = Daemon(folder, "[redis]\n" + settings)
    again.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    resources.callback(again.stop)
    again.start()
    until(lambda: again.status().count("AVAILABLE") == GPUS - 1)


def _node(host: str, firsts: set[int]) -> int:
    """Return the first slot of the node that has the keys of a host."""
    return max(first for first in firsts if first <= key_slot(f"{{{host}}}".encode()))


def _role(server: Server) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])
