"""Every setting: its key, type, default and meaning. Reading them is `config/load.py`'s work.

A field's description is its help; the shipped example and `config show` are made from it. A
duration is kept in seconds, a path as text, a secret never: only the file that holds it is named.
"""

import socket
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from canhazgpu.events.durations import parse_duration

# Addresses as a mail's header takes them without quoting; empty where there need be none.
ADDRESS = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
Address = Annotated[str, Meta(pattern=f"^{ADDRESS}\\Z")]
Duration = Annotated[float, Meta(ge=0, extra={"duration": True})]


def _about(text: str, **extra: object) -> Meta:
    return Meta(description=text, extra=extra or None)


class Redis(Struct, frozen=True, kw_only=True):
    """Where state is kept."""

    url: Annotated[
        str,
        _about("Redis to use: redis://, rediss:// or unix://; empty: the daemon runs its own.", secret=True),
    ] = ""


class Gpus(Struct, frozen=True, kw_only=True):
    """Which GPUs, and how often they are looked at."""

    provider: Annotated[
        Literal["auto", "nvml", "simulated"],
        _about("Where readings come from; auto: simulated when a scenario is set, else nvml."),
    ] = "auto"
    scenario: Annotated[str, _about("TOML file that the simulated provider reads.")] = ""
    scan_interval: Annotated[Duration, _about("The longest time between two scans.", least=0.02)] = 1.0


class Memory(Struct, frozen=True, kw_only=True):
    """When a GPU counts as in use."""

    threshold_mb: Annotated[
        int, Meta(ge=0), _about("A GPU with more memory in use than this, in MiB, is in use.")
    ] = 100


class Violations(Struct, frozen=True, kw_only=True):
    """When use without a reservation becomes a violation."""

    confirm: Annotated[
        Duration, _about("Use must be seen in two scans at least this far apart before anyone is told.")
    ] = 2.0
    exempt_users: Annotated[list[str], _about("Users whose processes are never a violation.")] = field(
        default_factory=list
    )
    exempt_processes: Annotated[
        list[str], _about("Names of processes that never make a GPU count as in use.")
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


class Allocation(Struct, frozen=True, kw_only=True):
    """Which of the free GPUs are handed out first."""

    policy: Annotated[
        Literal["lru", "mru-per-user"],
        _about(
            "lru: those released longest ago; mru-per-user: those the user had last, then as lru."
            " The lowest index decides where that leaves a choice."
        ),
    ] = "lru"


class Run(Struct, frozen=True, kw_only=True):
    """What `canhazgpu run` does unless it is told otherwise."""

    wait: Annotated[bool, _about("Wait for GPUs that are not free; `--nonblock` undoes it.")] = False
    grace: Annotated[Duration, _about("At its --timeout a run is interrupted, and killed after so long.")] = (
        30.0
    )
    device_ids: Annotated[Literal["index", "uuid"], _about("What CUDA_VISIBLE_DEVICES names GPUs by.")] = (
        "index"
    )


class Reserve(Struct, frozen=True, kw_only=True):
    """What `canhazgpu reserve` does unless it is told otherwise."""

    wait: Annotated[bool, _about("Wait for GPUs that are not free; `--nonblock` undoes it.")] = False
    duration: Annotated[
        Duration, _about("How long a reservation lasts, and how much longer `extend` makes it.", least=1.0)
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
        int, Meta(ge=0), _about("The most GPUs one user may hold at a time; 0: no limit.")
    ] = 0
    max_duration: Annotated[
        Duration, _about("The longest a reservation may still last, and a run in all; 0s: no limit.")
    ] = 0.0
    users: Annotated[
        dict[str, UserLimit],
        Meta(extra={"kind": 'a table such as { alice = { max_gpus = 8, max_duration = "48h" } }'}),
        _about("Exceptions: users who may have more or less."),
    ] = field(default_factory=dict)


class Notices(Struct, frozen=True, kw_only=True):
    """When people are told."""

    group_wait: Annotated[
        Duration, _about("Wait this long before the first notice, to put more GPUs into it.")
    ] = 5.0
    repeat_interval: Annotated[
        Duration, _about("Remind after this long while a violation lasts.", least=1.0)
    ] = 4 * 3600.0


class Log(Struct, frozen=True, kw_only=True):
    """The audit log: one JSON line per violation fact."""

    enabled: Annotated[bool, _about("Write the audit log.")] = True
    path: Annotated[str, _about("The audit log's file.")] = "/var/log/canhazgpu/violations.log"


class Wall(Struct, frozen=True, kw_only=True):
    """Messages on terminals."""

    enabled: Annotated[bool, _about("Write to terminals.")] = True
    audience: Annotated[
        Literal["offender", "everyone"],
        _about("offender: the person's own terminals; everyone: all terminals, by wall(1)."),
    ] = "offender"


class Email(Struct, frozen=True, kw_only=True):
    """Mail to the person and to administrators."""

    enabled: Annotated[bool, _about("Send mail.")] = False
    host: Annotated[str, _about("The mail server.")] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535), _about("Its port.")] = 25
    tls: Annotated[
        Literal["none", "starttls", "tls"],
        _about("How the connection is encrypted; none: on this host only."),
    ] = "none"
    username: Annotated[str, _about("Log in as this user; empty: do not log in.")] = ""
    password_file: Annotated[str, _about("File that holds the password, readable by the service only.")] = ""
    sender: Annotated[
        str,
        Meta(pattern=rf"^(?:{ADDRESS})?\Z", extra={"kind": "a mail address"}),
        _about("The From address; empty: canhazgpu@ and this host's name."),
    ] = ""
    user_address: Annotated[
        str,
        Meta(
            pattern=r"^(?:[A-Za-z0-9._+-]*\{user\}[A-Za-z0-9._+-]*@[A-Za-z0-9._-]+)?\Z",
            extra={"kind": 'a mail address with "{user}" in it'},
        ),
        _about('The address of a user, such as "{user}@example.com"; empty: users get no mail.'),
    ] = ""
    admins: Annotated[
        list[Address],
        Meta(extra={"kind": "a list of mail addresses"}),
        _about("Addresses of the administrators."),
    ] = field(default_factory=list)


class Notify(Struct, frozen=True, kw_only=True):
    """The channels."""

    log: Log = field(default_factory=Log)
    wall: Wall = field(default_factory=Wall)
    email: Email = field(default_factory=Email)


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one host."""

    host: Annotated[str, _about("This host's name in keys, events and notices.")] = field(
        default_factory=socket.gethostname
    )
    socket: Annotated[str, _about("The Unix socket that commands talk to.")] = "/run/canhazgpu/canhazgpu.sock"
    state_dir: Annotated[str, _about("Where the daemon keeps its own state, and Redis its data.")] = (
        "/var/lib/canhazgpu"
    )
    admin_group: Annotated[str, _about("Members of this group may do what root may; empty: root alone.")] = ""
    redis: Redis = field(default_factory=Redis)
    gpus: Gpus = field(default_factory=Gpus)
    memory: Memory = field(default_factory=Memory)
    violations: Violations = field(default_factory=Violations)
    allocation: Allocation = field(default_factory=Allocation)
    run: Run = field(default_factory=Run)
    reserve: Reserve = field(default_factory=Reserve)
    limits: Limits = field(default_factory=Limits)
    notices: Notices = field(default_factory=Notices)
    notify: Notify = field(default_factory=Notify)
