"""The settings that say who is notified, when and why. `config/channels.py` has those of the channels."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.fields import ADDRESS, Duration, about
from canhazgpu.events.durations import parse_duration

AUDIENCES = ("offender", "holder", "admins")
TIME_OF_DAY = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Channels = list[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}(?::[a-z0-9_-]{1,64})?\Z")]]
CHANNEL_KIND = 'a list of channels such as ["wall", "email"]'


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One escalation step: recipients and channels, and the delay `after` the first step was due."""

    channels: Annotated[Channels, Meta(min_length=1)]
    to: Annotated[
        list[Annotated[str, Meta(pattern=rf"^(?:offender|holder|admins|{ADDRESS})\Z")]], Meta(min_length=1)
    ]
    after: str = "0s"

    def __post_init__(self) -> None:
        """Raise ValueError if `after` is not a duration."""
        parse_duration(self.after)

    @property
    def after_ms(self) -> int:
        """The delay in milliseconds."""
        return round(parse_duration(self.after) * 1000)


DEFAULT_STEPS = (
    Step(after="0s", channels=["wall", "log"], to=["offender", "holder"]),
    Step(after="10m", channels=["email"], to=["offender"]),
    Step(after="1h", channels=["email", "webhook"], to=["admins"]),
)


class Quiet(Struct, frozen=True, kw_only=True):
    """When notices are held back. Terminals and the log are never held back."""

    hours: Annotated[
        str,
        Meta(pattern=rf"^(?:{TIME_OF_DAY}-{TIME_OF_DAY})?\Z", extra={"kind": 'hours such as "22:00-07:00"'}),
        about('Hours during which nothing is sent, such as "22:00-07:00". If empty, there are none.'),
    ] = ""
    workdays: Annotated[
        list[Day],
        Meta(extra={"kind": 'a list of days such as ["mon", "tue"]'}),
        about("Days on which notices are sent. If empty, every day."),
    ] = field(default_factory=list)
    holidays: Annotated[
        list[Annotated[str, Meta(pattern=r"^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\Z")]],
        Meta(extra={"kind": 'a list of dates such as ["2026-12-25"]'}),
        about("Additional days on which nothing is sent."),
    ] = field(default_factory=list)
    channels: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Channels that quiet hours apply to; wall and log are not allowed."),
    ] = field(default_factory=lambda: ["email"])
    timezone: Annotated[
        str, about("Time zone of quiet hours, digest and times in notices. If empty, the host's.")
    ] = ""


class Digest(Struct, frozen=True, kw_only=True):
    """A summary for administrators, sent through `notices.admin_channels`."""

    every: Annotated[Literal["off", "daily", "weekly"], about("How often the digest is sent.")] = "off"
    at: Annotated[
        str,
        Meta(pattern=rf"^{TIME_OF_DAY}\Z", extra={"kind": 'a time of day such as "08:00"'}),
        about("Time of day at which it is sent."),
    ] = "08:00"
    weekday: Annotated[Day, about("Day of the weekly digest.")] = "mon"
    repeater: Annotated[
        int,
        Meta(ge=2),
        about("Users with at least this many violations in the digest are listed as repeat offenders."),
    ] = 3


class Terminate(Struct, frozen=True, kw_only=True):
    """The last resort: a step with the channel `terminate` ends processes. It is off by default."""

    enabled: Annotated[bool, about("Allow steps with the channel terminate to end processes.")] = False
    dry_run: Annotated[bool, about("Only report what would be ended; end nothing.")] = True
    after_notices: Annotated[
        int,
        Meta(ge=1),
        about("End processes only after this many notices of the episode have reached the user."),
    ] = 3
    interrupt_grace: Annotated[Duration, about("Time between SIGINT and SIGTERM.", most=45.0)] = 30.0
    terminate_grace: Annotated[Duration, about("Time between SIGTERM and SIGKILL.", most=45.0)] = 30.0
    max_per_hour: Annotated[
        int, Meta(ge=1), about("Maximum number of episodes per hour whose processes are ended.")
    ] = 3


def _by(*names: str) -> list[str]:
    return list(names)


class Notices(Struct, frozen=True, kw_only=True):
    """When and how people are notified."""

    group_wait: Annotated[
        Duration, about("Wait this long before the first notice, so that it can cover more GPUs.")
    ] = 5.0
    group_interval: Annotated[
        Duration, about("Minimum time between two notices about the violations of one user.")
    ] = 300.0
    repeat_interval: Annotated[
        Duration, about("Send the first reminder after this long if the violation continues.", least=1.0)
    ] = 4 * 3600.0
    repeat_factor: Annotated[
        int, Meta(ge=1, le=100), about("Each interval between reminders is this many times the one before.")
    ] = 2
    repeat_longest: Annotated[Duration, about("Maximum interval between two reminders.", least=1.0)] = (
        7 * 86400.0
    )
    resolve_hold: Annotated[
        Duration, about("A violation is resolved when it has not recurred for this long.")
    ] = 120.0
    steps: Annotated[
        list[Step],
        Meta(extra={"kind": "tables [[notices.steps]] with after, channels and to"}),
        about(
            "Escalation: who is notified of a violation, through which channels, and how long after the first"
            " notice was due. If a step reaches nobody, the next one is brought forward. Recipients (to):"
            " offender, holder, admins or an email address."
        ),
    ] = field(default_factory=lambda: list(DEFAULT_STEPS))
    contact: Annotated[
        Annotated[str, Meta(max_length=200)], about("Contact for questions, shown in every notice.")
    ] = ""
    admin_channels: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about(
            "Channels for notices to administrators: failures, users who could not be notified, the digest."
        ),
    ] = field(default_factory=lambda: _by("email", "wall", "webhook"))
    incident_wait: Annotated[
        Duration,
        about("Report a failure that lasts this long, or ten times as long if a channel fails."),
    ] = 60.0
    granted: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Channels for notices that a waiting request got its GPUs."),
    ] = field(default_factory=lambda: _by("wall"))
    expiring: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Channels for notices that a manual reservation is about to expire."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    expiry_warning: Annotated[
        Duration,
        about(
            "How long before the end to send that notice; 0s: never."
            " Reservations of less than twice this time get none."
        ),
    ] = 900.0
    idle: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Channels for notices that reserved GPUs are idle."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    idle_after: Annotated[Duration, about("Send that notice after this long without use; 0s: never.")] = 0.0
    idle_release: Annotated[
        Duration,
        about("Release a manual reservation this long after that notice, if it is still idle; 0s: never."),
    ] = 0.0
    released: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Channels for notices that a reservation was ended by somebody else or by the service."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    booking: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about(
            "Channels for notices about maintenance, and that a booking begins soon, has begun, is late, or"
            " was missed."
        ),
    ] = field(default_factory=lambda: _by("wall", "email"))
    ack_max: Annotated[
        Duration,
        about("How long a user can silence their own violations with `silence ack`; 0s: not at all."),
    ] = 4 * 3600.0
    quiet: Quiet = field(default_factory=Quiet)
    digest: Digest = field(default_factory=Digest)
    terminate: Terminate = field(default_factory=Terminate)
