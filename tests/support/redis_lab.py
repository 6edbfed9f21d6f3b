"""Redis as administrators run it, all real: with TLS and a password, with Sentinels, or as a Cluster."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError
from support.eventually import until
from support.ports import free_port
from support.redis import redis_binary

UNPACKED = Path(__file__).parents[2] / "build" / "servers" / "redis"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
SLOTS = 16384
TIMEOUT = 20  # Seconds until a test's own command to a server has failed.


def program() -> tuple[str, dict[str, str]]:
    """Return a server with TLS and what it needs in its environment; skip where there is none."""
    unpacked = UNPACKED / "usr" / "bin" / "redis-server"
    libraries = ":".join(map(str, (UNPACKED / "usr" / "lib").glob("*-linux-gnu")))
    for path in (shutil.which("redis-server"), str(unpacked) if unpacked.exists() else None):
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries if path == str(unpacked) else ""}
        if path and b"tls" in _libraries(path, environment):
            return path, environment
    reason = "no redis-server with TLS: `apt install redis-server`"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and tests may not be skipped here")
    pytest.skip(reason)


def _libraries(path: str, environment: dict[str, str]) -> bytes:
    """Return b"tls" when the server knows the setting."""
    words = [path, "--port", "0", "--tls-port", "0", "--unixsocket", "/nowhere/s"]
    tried = subprocess.run(words, env=environment, capture_output=True, check=False)
    return b"" if b"Bad directive" in tried.stdout + tried.stderr else b"tls"


class Server:
    """One server, or Sentinel, on a port of its own; it can be killed, stopped and started again."""

    def __init__(self, folder: Path, *words: str, port: int = 0, tls: "dict[str, str] | None" = None) -> None:
        """Start it and wait until it answers; `tls` are certificates, which its clients need too."""
        self.port = port or free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir(exist_ok=True)
        binary, self._environment = program() if tls else (redis_binary(), dict(os.environ))
        where = (*_tls_words(tls), "--port", "0", "--tls-port") if tls else ("--port",)
        self._words = [binary, *words, *where, str(self.port), "--dir", str(self.folder)]
        self._tls = tls
        self.start()

    def start(self) -> None:
        """Start it, again."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._words, env=self._environment, stdout=log, stderr=log)
        until(self._answers, 60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:  # It loads its data.
            return False

    def client(self) -> Any:
        """Connect to it."""
        paths = self._tls
        if paths is None:
            return Redis(port=self.port, socket_timeout=TIMEOUT)
        names = {"ssl_ca_certs": "ca", "ssl_certfile": "client", "ssl_keyfile": "client_key"}
        shown: dict[str, Any] = {option: paths[name] for option, name in names.items()}
        return Redis(host="127.0.0.1", port=self.port, socket_timeout=TIMEOUT, ssl=True, **shown)

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, also when it is stopped."""
        self.process.send_signal(signal.SIGCONT)
        self.kill()


def _tls_words(paths: dict[str, str]) -> tuple[str, ...]:
    names = {"ca-cert-file": "ca", "cert-file": "server", "key-file": "server_key"}
    words = [word for name, path in names.items() for word in (f"--tls-{name}", paths[path])]
    return (*words, "--tls-replication", "yes")


def certificates(folder: Path) -> dict[str, str]:
    """Write an authority, a server's certificate and a client's; return the paths."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    paths = {"ca": str(folder / "ca.pem")}
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1", "localhost")),
        ("client", authority.issue_cert("canhazgpu.example")),
    ):
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        paths |= {name: str(folder / f"{name}.pem"), f"{name}_key": str(folder / f"{name}.key")}
    return paths


def tls_context(paths: dict[str, str]) -> ssl.SSLContext:
    """Return what a client that shows its certificate connects with."""
    context = ssl.create_default_context(cafile=paths["ca"])
    context.load_cert_chain(paths["client"], paths["client_key"])
    return context


class Watched:
    """A master, a replica, and three Sentinels; when two think that the master is gone the replica is it."""

    def __init__(self, folder: Path, resources: ExitStack, tls: "dict[str, str] | None" = None) -> None:
        """Start all, and wait until the replica follows and the Sentinels know each other."""
        self._tls = tls
        self.servers = [Server(folder, *DURABLE, tls=tls)]
        resources.callback(self.servers[0].close)
        follow = ("--replicaof", "127.0.0.1", str(self.servers[0].port))
        self.servers.append(Server(folder, *DURABLE, *follow, tls=tls))
        resources.callback(self.servers[1].close)
        self.sentinels = [self._sentinel(folder, resources) for _ in range(3)]
        until(lambda: self._info(self.servers[1], "replication")["master_link_status"] == "up", 60)
        until(lambda: all(map(self._knows_all, self.sentinels)), 60)
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"{'rediss' if tls else 'redis'}+sentinel://{places}/gpus"

    def _sentinel(self, folder: Path, resources: ExitStack) -> Server:
        port = free_port()
        (folder / str(port)).mkdir()
        settings = folder / str(port) / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor gpus 127.0.0.1 {self.servers[0].port} 2\n"
            "sentinel down-after-milliseconds gpus 800\n"
            "sentinel failover-timeout gpus 4000\n"
        )
        server = Server(folder, str(settings), "--sentinel", port=port, tls=self._tls)
        resources.callback(server.close)
        return server

    @staticmethod
    def _info(server: Server, section: str) -> Any:
        with server.client() as client:
            return client.info(section)

    def _knows_all(self, sentinel: Server) -> bool:
        with sentinel.client() as client:
            facts = client.execute_command("INFO", "sentinel")
            one = facts["master0"] if isinstance(facts, dict) else {}
            return bool(one.get("slaves") == 1 and one.get("sentinels") == 3)

    def master(self) -> Server:
        """Return the server that is master now."""
        with self.sentinels[0].client() as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "gpus")
        return next(one for one in self.servers if one.port == int(port))


class Cluster:
    """Three masters that share the slots, and a replica of the one that has the slot of a key."""

    def __init__(
        self,
        folder: Path,
        resources: ExitStack,
        key: str,
        tls: "dict[str, str] | None" = None,
        timeout_ms: int = 15_000,
    ) -> None:
        """Start all, and wait until the Cluster is whole. A node that is away for longer is replaced."""
        words: tuple[str, ...] = (*DURABLE, "--cluster-enabled", "yes")
        words += ("--cluster-node-timeout", str(timeout_ms))
        words = (*words, "--tls-cluster", "yes") if tls else words
        self.servers = [Server(folder, *words, tls=tls) for _ in range(4)]
        for server in self.servers:
            resources.callback(server.close)
        clients = [resources.enter_context(server.client()) for server in self.servers]
        for number, client in enumerate(clients[:3]):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
            client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
        for server in self.servers[1:]:
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port)
        self.owner = self.servers[clients[0].execute_command("CLUSTER KEYSLOT", key) * 3 // SLOTS]
        self.replica = self.servers[3]
        until(lambda: all(_is_whole(client) for client in clients), 60)
        name = clients[self.servers.index(self.owner)].execute_command("CLUSTER MYID")
        _patiently(lambda: clients[3].execute_command("CLUSTER REPLICATE", name))
        until(lambda: clients[3].info("replication").get("master_link_status") == "up", 60)
        # All masters must have heard that it is a replica, or they will not let it become one.
        until(lambda: all(b"slave" in _nodes(client) for client in clients[:3]), 60)
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.servers[:3])
        self.url = f"{'rediss' if tls else 'redis'}+cluster://{places}"


def _nodes(client: Any) -> bytes:
    answer = client.execute_command("CLUSTER NODES")
    return str(answer).encode()


def _is_whole(client: Any) -> bool:
    facts = client.execute_command("CLUSTER INFO")
    return bool(facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == "4")


def _patiently(act: Any) -> None:
    def done() -> bool:
        try:
            act()
        except RedisError:
            return False
        return True

    until(done, 60)
