"""Every setting: its key, type, default and meaning. `config/load.py` reads them.

A field's description is its help text; the example file and `config show` are generated from it. Durations
are stored in seconds and paths as text. Secrets are not settings: a setting names the file with the secret.
"""

import socket
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, structs

from canhazgpu.config.channels import Notify
from canhazgpu.config.fields import Duration, about
from canhazgpu.config.integrations.containers import Containers
from canhazgpu.config.integrations.enforcement import Enforcement
from canhazgpu.config.integrations.exporter import Exporter
from canhazgpu.config.integrations.fleet import Fleet
from canhazgpu.config.integrations.kubernetes import Kubernetes
from canhazgpu.config.integrations.pbs import Pbs
from canhazgpu.config.integrations.slurm import Slurm
from canhazgpu.config.integrations.web import Web
from canhazgpu.config.notices import Notices
from canhazgpu.config.report import Report
from canhazgpu.config.streams import Consumers, Streams
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.redis_client.endpoint import Endpoint


class Redis(Struct, frozen=True, kw_only=True):
    """The Redis server that holds the state."""

    url: Annotated[
        str,
        about(
            "URL of Redis: redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://."
            " If empty, the daemon starts its own Redis.",
            secret=True,
        ),
    ] = ""
    password_file: Annotated[
        str, about("File with the password, readable only by the service. The user name is part of the URL.")
    ] = ""
    sentinel_password_file: Annotated[
        str, about("File with the password of the Sentinels, if they need one.")
    ] = ""
    ca_file: Annotated[
        str, about("CA certificates for the server, in PEM. If empty, the host's trusted CAs are used.")
    ] = ""
    cert_file: Annotated[str, about("Client certificate, in PEM.")] = ""
    key_file: Annotated[
        str, about("Key of the client certificate, in PEM, readable only by the service.")
    ] = ""

    def endpoint(self, own: str = "") -> Endpoint:
        """Return the Redis endpoint; `own` is the URL of the embedded server, used when `url` is empty."""
        if not self.url:
            return Endpoint(url=own)
        return Endpoint(**structs.asdict(self))


class Gpus(Struct, frozen=True, kw_only=True):
    """Where GPU readings come from, and how often GPUs are scanned."""

    provider: Annotated[
        str,
        about(
            "Source of GPU readings: nvml (NVIDIA), amdsmi (AMD), nvml+amdsmi (both), simulated, or the name"
            " of a provider from another package. auto means simulated if a scenario is set; otherwise the"
            " drivers of the host decide."
        ),
    ] = "auto"
    options: Annotated[
        dict[str, Any],
        Meta(extra={"kind": "a table [gpus.options]"}),
        about("Settings of a provider from another package."),
    ] = field(default_factory=dict)
    scenario: Annotated[str, about("TOML file for the simulated provider.")] = ""
    scan_interval: Annotated[Duration, about("Maximum time between two scans.", least=0.02)] = 1.0
    missing_timeout: Annotated[
        Duration,
        about(
            "If the driver does not find a GPU for this long, its reservation is released. Use a longer time"
            " than a GPU reset or a driver reload takes.",
            least=1.0,
        ),
    ] = 600.0


class Memory(Struct, frozen=True, kw_only=True):
    """When a GPU counts as in use."""

    threshold_mb: Annotated[
        int, Meta(ge=0), about("A GPU counts as in use if more memory than this is used, in MiB.")
    ] = 100


class Violations(Struct, frozen=True, kw_only=True):
    """When use without a reservation becomes a violation."""

    confirm: Annotated[
        Duration,
        about("Use must be seen in two scans at least this far apart before it counts as a violation."),
    ] = 2.0
    exempt_users: Annotated[list[str], about("Users whose processes are never violations.")] = field(
        default_factory=list
    )
    exempt_processes: Annotated[
        list[str],
        about(
            "Programs, by file name or path, whose use of a GPU is ignored, provided that only root could"
            " have installed them."
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
        about("Exempt programs of one user are not ignored if they use more than this on a GPU, in MiB."),
    ] = 1024
    presume_holder: Annotated[
        bool,
        about(
            "On a reserved GPU, if it cannot be proven who owns a process (containers, services), assume that"
            " it belongs to the holder, unless a hint points to another user."
        ),
    ] = True


class Allocation(Struct, frozen=True, kw_only=True):
    """Which GPUs are allocated."""

    policy: Annotated[
        Literal["lru", "mru-per-user"],
        about(
            "lru: the least recently released GPUs first. mru-per-user: the GPUs that the user had last, then"
            " the same order as lru. Ties are broken by the lowest index."
        ),
    ] = "lru"
    vendor: Annotated[
        Literal["nvidia", "amd"],
        about("On a host with GPUs of both vendors: which ones a request without --vendor gets."),
    ] = "nvidia"


class Run(Struct, frozen=True, kw_only=True):
    """Defaults of `canhazgpu run`."""

    wait: Annotated[bool, about("Wait if not enough GPUs are free; `--nonblock` overrides this.")] = False
    grace: Annotated[Duration, about("Time between SIGINT and SIGKILL when a run reaches its --timeout.")] = (
        30.0
    )
    device_ids: Annotated[
        Literal["index", "uuid"],
        about(
            "How CUDA_VISIBLE_DEVICES names the GPUs: index or uuid. With enforcement.devices: always uuid."
        ),
    ] = "index"


class Reserve(Struct, frozen=True, kw_only=True):
    """Defaults of `canhazgpu reserve`."""

    wait: Annotated[bool, about("Wait if not enough GPUs are free; `--nonblock` overrides this.")] = False
    duration: Annotated[
        Duration, about("Default duration of a reservation, and of an extension by `extend`.", least=1.0)
    ] = 8 * 3600.0


class Bookings(Struct, frozen=True, kw_only=True):
    """What users can book with `canhazgpu reserve --begin`."""

    max_ahead: Annotated[
        Duration, about("How far ahead a booking can begin; 0s: bookings are not possible.")
    ] = 30 * 86400.0
    remind: Annotated[
        Duration, about("How long before the start of a booking to remind its user; 0s: never.")
    ] = 900.0
    no_show: Annotated[
        Duration,
        about("Release a booking's GPUs this long after its begin if none of them was used; 0s: never."),
    ] = 3600.0
    max_duration: Annotated[Duration, about("How long a booking can be; 0s: no limit.")] = 7 * 86400.0
    max_per_user: Annotated[
        int, Meta(ge=0), about("How many bookings of one user can be open at a time; 0: no limit.")
    ] = 20
    max_gpu_hours: Annotated[
        int, Meta(ge=0), about("How many GPU-hours the bookings of one user can have in total; 0: no limit.")
    ] = 0


class UserLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one user that replace the general ones: 0 and "0s" mean no limit."""

    max_gpus: Annotated[int, Meta(ge=0)] | None = None
    max_gpus_in_fleet: Annotated[int, Meta(ge=0)] | None = None
    max_duration: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if `max_duration` is not a duration."""
        if self.max_duration is not None:
            parse_duration(self.max_duration)


class FleetLimits(Struct, frozen=True, kw_only=True):
    """Limits per user that count the hosts of the fleet together."""

    max_gpus_per_user: Annotated[
        int,
        Meta(ge=0),
        about(
            "Maximum number of GPUs that one user can hold on all hosts of the fleet at a time; 0: no limit."
            " What other hosts say is a few seconds old. If it cannot be read, this host counts its own GPUs."
        ),
    ] = 0
    ignore_hosts: Annotated[
        list[str], about("Hosts of the fleet whose GPUs are not counted, such as one that is not trusted.")
    ] = field(default_factory=list)


class Limits(Struct, frozen=True, kw_only=True):
    """Limits per user."""

    max_gpus_per_user: Annotated[
        int, Meta(ge=0), about("Maximum number of GPUs that one user can hold at a time; 0: no limit.")
    ] = 0
    max_duration: Annotated[
        Duration,
        about("Maximum remaining time of a reservation, and maximum total time of a run; 0s: no limit."),
    ] = 0.0
    changes_per_hour: Annotated[
        int,
        Meta(ge=0),
        about(
            "How many changes (reserve, run, extend, disown, acknowledge) one user may make per hour, even"
            " all at once; 0: no limit. Releasing is always possible."
        ),
    ] = 1000
    users: Annotated[
        dict[str, UserLimit],
        Meta(extra={"kind": 'a table such as { alice = { max_gpus = 8, max_duration = "48h" } }'}),
        about("Users with limits of their own."),
    ] = field(default_factory=dict)
    fleet: FleetLimits = field(default_factory=FleetLimits)


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one host."""

    host: Annotated[
        str, about("Name of this host in keys, events and notices; unique among hosts that share a Redis.")
    ] = field(default_factory=socket.gethostname)
    socket: Annotated[str, about("Unix socket of the service, which commands connect to.")] = (
        "/run/canhazgpu/canhazgpu.sock"
    )
    state_dir: Annotated[str, about("Directory for the state of the daemon and of its own Redis.")] = (
        "/var/lib/canhazgpu"
    )
    admin_group: Annotated[
        str,
        about(
            "Members of this group are administrators, like root, and get their notices on terminals."
            " If empty, only root is an administrator, and members of sudo and wheel get the notices."
        ),
    ] = ""
    redis: Redis = field(default_factory=Redis)
    fleet: Fleet = field(default_factory=Fleet)
    streams: Streams = field(default_factory=Streams)
    consumers: Consumers = field(default_factory=Consumers)
    gpus: Gpus = field(default_factory=Gpus)
    memory: Memory = field(default_factory=Memory)
    violations: Violations = field(default_factory=Violations)
    containers: Containers = field(default_factory=Containers)
    allocation: Allocation = field(default_factory=Allocation)
    run: Run = field(default_factory=Run)
    reserve: Reserve = field(default_factory=Reserve)
    bookings: Bookings = field(default_factory=Bookings)
    limits: Limits = field(default_factory=Limits)
    report: Report = field(default_factory=Report)
    slurm: Slurm = field(default_factory=Slurm)
    pbs: Pbs = field(default_factory=Pbs)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    exporter: Exporter = field(default_factory=Exporter)
    enforcement: Enforcement = field(default_factory=Enforcement)
    web: Web = field(default_factory=Web)
    notices: Notices = field(default_factory=Notices)
    notify: Notify = field(default_factory=Notify)
