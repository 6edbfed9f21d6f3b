"""The settings of who hears what, and when. How each channel works is in `config/channels.py`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.kinds import ADDRESS, Duration, about
from canhazgpu.events.durations import parse_duration

AUDIENCES = ("offender", "holder", "admins")
TIME_OF_DAY = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Channels = list[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}(?::[a-z0-9_-]{1,64})?\Z")]]
CHANNEL_KIND = 'a list of channels such as ["wall", "email"]'


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of telling: so long `after` the first one was due, by these channels, to these people."""

    channels: Annotated[Channels, Meta(min_length=1)]
    to: Annotated[
        list[Annotated[str, Meta(pattern=rf"^(?:offender|holder|admins|{ADDRESS})\Z")]], Meta(min_length=1)
    ]
    after: str = "0s"

    def __post_init__(self) -> None:
        """Refuse a text that is no duration."""
        parse_duration(self.after)

    @property
    def after_ms(self) -> int:
        """The same in milliseconds."""
        return round(parse_duration(self.after) * 1000)


DEFAULT_STEPS = (
    Step(after="0s", channels=["wall", "log"], to=["offender", "holder"]),
    Step(after="10m", channels=["email"], to=["offender"]),
    Step(after="1h", channels=["email", "webhook"], to=["admins"]),
)


class Quiet(Struct, frozen=True, kw_only=True):
    """When channels that can wait do wait; terminals never do."""

    hours: Annotated[
        str,
        Meta(pattern=rf"^(?:{TIME_OF_DAY}-{TIME_OF_DAY})?\Z", extra={"kind": 'hours such as "22:00-07:00"'}),
        about('Between these hours nothing is sent, such as "22:00-07:00"; empty: never quiet.'),
    ] = ""
    workdays: Annotated[
        list[Day],
        Meta(extra={"kind": 'a list of days such as ["mon", "tue"]'}),
        about("On other days nothing is sent; empty: every day is one."),
    ] = field(default_factory=list)
    holidays: Annotated[
        list[Annotated[str, Meta(pattern=r"^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\Z")]],
        Meta(extra={"kind": 'a list of dates such as ["2026-12-25"]'}),
        about("Days on which nothing is sent either."),
    ] = field(default_factory=list)
    channels: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("The channels that wait meanwhile; wall and log never do."),
    ] = field(default_factory=lambda: ["email"])
    timezone: Annotated[str, about("The time zone of these hours and of the digest; empty: the host's.")] = ""


class Digest(Struct, frozen=True, kw_only=True):
    """A summary for administrators, by `notices.admin_channels`."""

    every: Annotated[Literal["off", "daily", "weekly"], about("How often it is sent.")] = "off"
    at: Annotated[
        str,
        Meta(pattern=rf"^{TIME_OF_DAY}\Z", extra={"kind": 'a time of day such as "08:00"'}),
        about("When."),
    ] = "08:00"
    weekday: Annotated[Day, about("On which day, when it is weekly.")] = "mon"
    repeater: Annotated[
        int, Meta(ge=2), about("Who had so many violations within it is named as a repeater.")
    ] = 3


class Terminate(Struct, frozen=True, kw_only=True):
    """The last resort: a step with the channel `terminate` ends processes. Off unless enabled."""

    enabled: Annotated[bool, about("Let a step with the channel terminate do anything at all.")] = False
    dry_run: Annotated[bool, about("Only say what would be ended.")] = True
    after_notices: Annotated[
        int, Meta(ge=1), about("Only who was reached by so many notices of this episode before.")
    ] = 3
    interrupt_grace: Annotated[Duration, about("Between SIGINT and SIGTERM.", most=45.0)] = 30.0
    terminate_grace: Annotated[Duration, about("Between SIGTERM and SIGKILL.", most=45.0)] = 30.0
    max_per_hour: Annotated[int, Meta(ge=1), about("At most so many episodes are ended in an hour.")] = 3


def _by(*names: str) -> list[str]:
    return list(names)


class Notices(Struct, frozen=True, kw_only=True):
    """When people are told."""

    group_wait: Annotated[
        Duration, about("Wait this long before the first notice, to put more GPUs into it.")
    ] = 5.0
    group_interval: Annotated[
        Duration, about("At least so long between two notices about one user's violations.")
    ] = 300.0
    repeat_interval: Annotated[
        Duration, about("Remind after this long while a violation lasts.", least=1.0)
    ] = 4 * 3600.0
    repeat_factor: Annotated[
        int, Meta(ge=1, le=100), about("Each pause between reminders is so many times the one before.")
    ] = 2
    repeat_longest: Annotated[Duration, about("The longest pause between two reminders.", least=1.0)] = (
        7 * 86400.0
    )
    resolve_hold: Annotated[Duration, about("A violation is over when it has not come back for so long.")] = (
        120.0
    )
    steps: Annotated[
        list[Step],
        Meta(extra={"kind": "tables [[notices.steps]] with after, channels and to"}),
        about(
            "Who is told of a violation, by which channels, how long after the first notice was due. A step"
            " that reaches nobody brings the next one forward. to: offender, holder, admins or an address."
        ),
    ] = field(default_factory=lambda: list(DEFAULT_STEPS))
    contact: Annotated[
        Annotated[str, Meta(max_length=200)], about("Whom people may ask; it stands in every notice.")
    ] = ""
    admin_channels: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("How administrators are told of what failed, of whom nobody reached, and the digest."),
    ] = field(default_factory=lambda: _by("email", "wall", "webhook"))
    incident_wait: Annotated[
        Duration, about("What failed is told when it has not recovered for so long; channels: ten times it.")
    ] = 60.0
    granted: Annotated[
        Channels, Meta(extra={"kind": CHANNEL_KIND}), about("Tell who waited that their GPUs are theirs.")
    ] = field(default_factory=lambda: _by("wall"))
    expiring: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Tell the holder before a reservation made by hand expires."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    expiry_warning: Annotated[
        Duration, about("So long before; 0s: never. One shorter than twice this is not announced.")
    ] = 900.0
    idle: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Tell the holder that they use none of their GPUs."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    idle_after: Annotated[Duration, about("After so long without use; 0s: never.")] = 0.0
    idle_release: Annotated[
        Duration,
        about("So long after that notice a reservation made by hand is released, if idle still; 0s: never."),
    ] = 0.0
    released: Annotated[
        Channels,
        Meta(extra={"kind": CHANNEL_KIND}),
        about("Tell the holder that somebody else, or the service, ended their reservation."),
    ] = field(default_factory=lambda: _by("wall", "email"))
    ack_max: Annotated[
        Duration, about("The longest a user may silence their own violations, once; 0s: not at all.")
    ] = 4 * 3600.0
    quiet: Quiet = field(default_factory=Quiet)
    digest: Digest = field(default_factory=Digest)
    terminate: Terminate = field(default_factory=Terminate)
