"""Every setting: its key, type, default and meaning. Reading them is `config/load.py`'s work.

A field's description is its help; the shipped example and `config show` are made from it. A
duration is kept in seconds, a path as text, a secret never: only the file that holds it is named.
"""

import socket
from typing import Annotated, Literal

from msgspec import Meta, Struct, field, structs

from canhazgpu.config.channels import Notify
from canhazgpu.config.kinds import Duration, about
from canhazgpu.config.notices import Notices
from canhazgpu.config.streams import Consumers, Streams
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.endpoint import Endpoint


class Redis(Struct, frozen=True, kw_only=True):
    """Where state is kept."""

    url: Annotated[
        str,
        about(
            "Redis to use: redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://;"
            " empty: the daemon runs its own.",
            secret=True,
        ),
    ] = ""
    password_file: Annotated[
        str, about("File that holds the password, readable by the service only; the URL names the user.")
    ] = ""
    sentinel_password_file: Annotated[
        str, about("File that holds the password of the Sentinels, where they ask for one.")
    ] = ""
    ca_file: Annotated[
        str, about("Certificates that sign the servers' own, in PEM; empty: those the host trusts.")
    ] = ""
    cert_file: Annotated[str, about("Certificate to show to the servers, in PEM.")] = ""
    key_file: Annotated[str, about("Its key, in PEM, readable by the service only.")] = ""

    def endpoint(self, own: str = "") -> Endpoint:
        """Return where Redis is; `own` is the URL of the daemon's own, for where no other is set."""
        if not self.url:
            return Endpoint(url=own)
        return Endpoint(**structs.asdict(self))


class Gpus(Struct, frozen=True, kw_only=True):
    """Which GPUs, and how often they are looked at."""

    provider: Annotated[
        Literal["auto", "nvml", "simulated"],
        about("Where readings come from; auto: simulated when a scenario is set, else nvml."),
    ] = "auto"
    scenario: Annotated[str, about("TOML file that the simulated provider reads.")] = ""
    scan_interval: Annotated[Duration, about("The longest time between two scans.", least=0.02)] = 1.0
    missing_timeout: Annotated[
        Duration,
        about(
            "A GPU that the driver does not find for so long is given up, and its reservation released;"
            " longer than a reset or a reload of the driver takes.",
            least=1.0,
        ),
    ] = 600.0


class Memory(Struct, frozen=True, kw_only=True):
    """When a GPU counts as in use."""

    threshold_mb: Annotated[
        int, Meta(ge=0), about("A GPU with more memory in use than this, in MiB, is in use.")
    ] = 100


class Violations(Struct, frozen=True, kw_only=True):
    """When use without a reservation becomes a violation."""

    confirm: Annotated[
        Duration, about("Use must be seen in two scans at least this far apart before anyone is told.")
    ] = 2.0
    exempt_users: Annotated[list[str], about("Users whose processes are never a violation.")] = field(
        default_factory=list
    )
    exempt_processes: Annotated[
        list[str],
        about(
            "Programs that never make a GPU count as in use, by file name or path; only where root alone "
            "could have put the program there."
        ),
    ] = field(
        default_factory=lambda: [
            "Xorg",
            "Xwayland",
            "gnome-shell",
            "nvidia-persistenced",
            "nv-hostengine",
            "nvidia-smi",
        ]
    )
    exempt_memory_mb: Annotated[
        int,
        Meta(ge=0),
        about("Exempt programs of one user with more memory on a GPU than this, in MiB, count again."),
    ] = 1024
    presume_holder: Annotated[
        bool,
        about(
            "On a reserved GPU, use whose user cannot be proven (containers, services) is taken for the"
            " holder's, unless something points to another user."
        ),
    ] = True


class Containers(Struct, frozen=True, kw_only=True):
    """Where more is known of containers on GPUs."""

    docker_socket: Annotated[
        str,
        about(
            "Docker's socket, asked (read only) for the name, labels and user of a container on a GPU, which "
            "hint at who started it; empty: not asked."
        ),
    ] = "/run/docker.sock"


class Allocation(Struct, frozen=True, kw_only=True):
    """Which of the free GPUs are handed out first."""

    policy: Annotated[
        Literal["lru", "mru-per-user"],
        about(
            "lru: those released longest ago; mru-per-user: those the user had last, then as lru."
            " The lowest index decides where that leaves a choice."
        ),
    ] = "lru"


class Run(Struct, frozen=True, kw_only=True):
    """What `canhazgpu run` does unless it is told otherwise."""

    wait: Annotated[bool, about("Wait for GPUs that are not free; `--nonblock` undoes it.")] = False
    grace: Annotated[Duration, about("At its --timeout a run is interrupted, and killed after so long.")] = (
        30.0
    )
    device_ids: Annotated[Literal["index", "uuid"], about("What CUDA_VISIBLE_DEVICES names GPUs by.")] = (
        "index"
    )


class Reserve(Struct, frozen=True, kw_only=True):
    """What `canhazgpu reserve` does unless it is told otherwise."""

    wait: Annotated[bool, about("Wait for GPUs that are not free; `--nonblock` undoes it.")] = False
    duration: Annotated[
        Duration, about("How long a reservation lasts, and how much longer `extend` makes it.", least=1.0)
    ] = 8 * 3600.0


class UserLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one user may have instead of what everybody may: 0 and "0s" stand for no limit."""

    max_gpus: Annotated[int, Meta(ge=0)] | None = None
    max_duration: str | None = None

    def __post_init__(self) -> None:
        """Refuse a text that is no duration."""
        if self.max_duration is not None:
            parse_duration(self.max_duration)


class Limits(Struct, frozen=True, kw_only=True):
    """How much one user may have."""

    max_gpus_per_user: Annotated[
        int, Meta(ge=0), about("The most GPUs one user may hold at a time; 0: no limit.")
    ] = 0
    max_duration: Annotated[
        Duration, about("The longest a reservation may still last, and a run in all; 0s: no limit.")
    ] = 0.0
    changes_per_hour: Annotated[
        int,
        Meta(ge=0),
        about(
            "How often one user may reserve, run, extend, disown and acknowledge: so often at once, and as "
            "often again within an hour; 0: no limit. Giving back is always possible."
        ),
    ] = 3600
    users: Annotated[
        dict[str, UserLimit],
        Meta(extra={"kind": 'a table such as { alice = { max_gpus = 8, max_duration = "48h" } }'}),
        about("Exceptions: users who may have more or less."),
    ] = field(default_factory=dict)


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one host."""

    host: Annotated[
        str, about("This host's name in keys, events and notices; unique among those that share a Redis.")
    ] = field(default_factory=socket.gethostname)
    socket: Annotated[str, about("The Unix socket that commands talk to.")] = "/run/canhazgpu/canhazgpu.sock"
    state_dir: Annotated[str, about("Where the daemon keeps its own state, and Redis its data.")] = (
        "/var/lib/canhazgpu"
    )
    admin_group: Annotated[
        str,
        about(
            "Members of this group may do what root may, and hear what administrators do on their terminals."
            " Empty: root alone may; members of sudo and wheel hear."
        ),
    ] = ""
    redis: Redis = field(default_factory=Redis)
    streams: Streams = field(default_factory=Streams)
    consumers: Consumers = field(default_factory=Consumers)
    gpus: Gpus = field(default_factory=Gpus)
    memory: Memory = field(default_factory=Memory)
    violations: Violations = field(default_factory=Violations)
    containers: Containers = field(default_factory=Containers)
    allocation: Allocation = field(default_factory=Allocation)
    run: Run = field(default_factory=Run)
    reserve: Reserve = field(default_factory=Reserve)
    limits: Limits = field(default_factory=Limits)
    notices: Notices = field(default_factory=Notices)
    notify: Notify = field(default_factory=Notify)
