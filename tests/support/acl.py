"""A Redis with the users of config/redis.acl, and the commands that they may and do use."""

import ast
import re
import subprocess
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from support.eventually import until
from support.redis import redis_binary

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "redis.acl"
SERVICE, WORKER, READER = "canhazgpu-service", "canhazgpu-worker", "canhazgpu-reader"
PASSWORD = "an-acl-password"  # noqa: S105 - of a Redis that ends with the test
FOLDERS = {
    SERVICE: ("service", "workers", "events", "cli"),
    WORKER: ("workers", "events", "notifiers"),
    READER: ("events/consumer",),
}
FOREIGN = {"consumer", "conformance"}  # Folders of what runs as a reader, or on a Redis for tests.
CONTAINERS = {"config", "memory", "xgroup", "xinfo"}  # Commands whose first argument says what they do.
RECEIVERS = {"redis", "_redis", "pipe", "client"}
# What only backups need is in docs/redis.md; the service's own server has no users.
WITH_MORE_RIGHTS = {"state_copy.py", "deleted_files.py", "server_process.py"}
WITHOUT_AUTH = {"auth", "hello", "quit", "reset"}  # What a user may do is not asked for these.
# Of redis-server 6.2, which lists no subcommands.
SUBCOMMANDS = {
    "acl": "cat deluser genpass getuser list load log save setuser users whoami",
    "client": "caching getname getredir id info kill list no-evict pause reply setname tracking unblock",
    "cluster": "addslots failover forget info meet nodes replicate reset slots",
    "config": "get resetstat rewrite set",
    "latency": "doctor graph history latest reset",
    "memory": "doctor malloc-stats purge stats usage",
    "module": "list load unload",
    "object": "encoding freq idletime refcount",
    "pubsub": "channels numpat numsub",
    "script": "debug exists flush kill load",
    "slowlog": "get len reset",
    "xgroup": "create createconsumer delconsumer destroy setid",
    "xinfo": "consumers groups stream",
}


class AclRedis:
    """A running server; `admin` is a client that may do everything."""

    def __init__(self, folder: Path) -> None:
        """Name its socket."""
        self.socket = folder / "acl.sock"
        self.admin = self.client("admin")

    def client(self, user: str) -> Any:
        """Return a client of one of its users."""
        return Redis(unix_socket_path=str(self.socket), username=user, password=PASSWORD)

    def url(self, user: str) -> str:
        """Return the URL of one of its users."""
        return f"unix://{user}:{PASSWORD}@{self.socket}"


@contextmanager
def serving(folder: Path) -> Iterator[AclRedis]:
    """Run a Redis with the shipped users, switched on."""
    text = FILE.read_text().replace(" off resetkeys", f" on >{PASSWORD} resetkeys")
    (folder / "redis.acl").write_text(f"{text}user admin on >{PASSWORD} ~* &* +@all\n")
    made = AclRedis(folder)
    words = ["--port", "0", "--unixsocket", str(made.socket), "--dir", str(folder), "--save", ""]
    words += ["--appendonly", "yes", "--aclfile", str(folder / "redis.acl")]
    server = subprocess.Popen([redis_binary(), *words], stdout=subprocess.DEVNULL)

    def ready() -> bool:
        assert server.poll() is None, "redis-server does not take config/redis.acl"
        try:
            return bool(made.admin.ping())
        except RedisError:
            return False

    try:
        until(ready, 60)
        yield made
    finally:
        made.admin.close()
        server.terminate()
        server.wait()


def granted(user: str) -> set[str]:
    """The commands that the file grants a user, as `xgroup|create`."""
    (line,) = [line for line in FILE.read_text().splitlines() if line.startswith(f"user {user} ")]
    return {word[1:] for word in line.split() if word.startswith("+")}


def used(user: str, known: Container[str]) -> set[str]:
    """The commands in the code that runs as a user; those that every connection needs are among them."""
    found = {"ping", "select"}
    for folder in FOLDERS[user]:
        for path in (ROOT / folder).rglob("*.py"):
            if path.name in WITH_MORE_RIGHTS or (path.parent.name in FOREIGN and user != READER):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    found |= {name for name in _of_call(node, node.func) if name in known}
        for path in (ROOT / folder).rglob("lua/*.lua"):
            calls = re.findall(r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", path.read_text())
            found |= {_named(command.lower(), more.lower()) for command, more in calls}
    return found - WITHOUT_AUTH


def _of_call(node: ast.Call, function: ast.Attribute) -> set[str]:
    receiver = function.value
    name = getattr(receiver, "attr", getattr(receiver, "id", ""))
    owner = getattr(receiver, "value", None)
    if name not in RECEIVERS or getattr(owner, "attr", "") == "_fleet":  # Whose users `redis acl` makes.
        return set()
    if function.attr == "pipeline":
        whole = any(one.arg == "transaction" and getattr(one.value, "value", None) for one in node.keywords)
        return {"multi", "exec"} if whole else set()
    first, _, rest = function.attr.partition("_")
    return {_named(first, rest)}


def _named(command: str, more: str) -> str:
    return f"{command}|{more}" if command in CONTAINERS else command


def every_command(client: Any) -> dict[str, list[str]]:
    """Every command the server has, as `xgroup|create`, with the words that call it."""
    found = {}
    for name, facts in client.execute_command("COMMAND").items():
        inner = {one[0].decode(): one[1] for one in facts.get("subcommands", [])}
        inner = inner or dict.fromkeys((f"{name}|{sub}" for sub in SUBCOMMANDS.get(name, "").split()), 6)
        for whole, arity in (inner or {name: facts["arity"]}).items():
            words = whole.split("|")
            found[whole] = words + ["canhazgpu:{h}:events"] * max(0, abs(arity) - len(words))
    return found
