"""`canhazgpu redis acl`: print the rights of one host on the fleet's Redis."""

import sys
from typing import Annotated

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import examples, fail
from canhazgpu.events.sanitize import printable

EPILOG = examples(
    "canhazgpu redis acl --host gpu-host-1",
    "canhazgpu redis acl --host gpu-host-1 >> /etc/redis/users.acl",
)
# What the worker writes with, then what the service reads the fleet with, and finds the nodes of a Cluster.
WRITES = (
    "exec",
    "hgetall",
    "hincrby",
    "hset",
    "multi",
    "set",
    "time",
    "watch",
    "xadd",
    "xinfo|stream",
    "xtrim",
)
READS = ("getrange", "ping", "scan", "select")
CLUSTER = ("cluster|info", "cluster|slots")


def acl(
    *,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="HOST", help="Name of the host, as in its settings.", callback=non_empty
        ),
    ],
) -> None:
    """Print the line that defines a host's user, for the ACL file of the fleet's Redis.

    The user can write the keys of this host only, and read those of all hosts. It is off and has no password:
    replace `off` with `on >PASSWORD`. This needs Redis 7 or Valkey.
    """
    sys.stdout.write(acl_line(host) + "\n")


def acl_line(host: str) -> str:
    """Return the line of an ACL file."""
    from canhazgpu.config.validation import expected_instead  # noqa: PLC0415 - heavy
    from canhazgpu.events.redis_client.keys import ANY_KEY, Keys  # noqa: PLC0415

    if expected := expected_instead("host", host):
        fail(f"--host: expected {expected}, not {printable(host, 60)!r}", USAGE)
    commands = " ".join(f"+{name}" for name in sorted((*WRITES, *READS, *CLUSTER)))
    own = Keys(host)
    # Each key by its name: nobody can make the list of all keys long.
    fleet = own.fleet, own.fleet_state, own.fleet_ended, own.fleet_held, own.fleet_hours
    keys = f"{' '.join(f'~{key}' for key in (*own.streams.values(), *fleet))} %R~{ANY_KEY}"
    return f"user canhazgpu-{host} off resetkeys {keys} resetchannels -@all {commands}"
