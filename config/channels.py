"""The settings of the channels: how each reaches people. Who hears what is in `config/notices.py`."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.kinds import ADDRESS, Address, Duration, about
from canhazgpu.events.durations import parse_duration

NAME = r"^[a-z0-9_-]{1,64}\Z"
BODIES = ("json", "slack", "mattermost", "discord", "ntfy")


class Log(Struct, frozen=True, kw_only=True):
    """The audit log: one JSON line per violation fact."""

    enabled: Annotated[bool, about("Write the audit log.")] = True
    path: Annotated[str, about("The audit log's file.")] = "/var/log/canhazgpu/violations.log"


class Wall(Struct, frozen=True, kw_only=True):
    """Messages on terminals."""

    enabled: Annotated[bool, about("Write to terminals.")] = True
    audience: Annotated[
        Literal["offender", "everyone"],
        about("offender: the terminals of the one a notice is for; everyone: all terminals, by wall(1)."),
    ] = "offender"


class Email(Struct, frozen=True, kw_only=True):
    """Mail to the person and to administrators."""

    enabled: Annotated[bool, about("Send mail.")] = False
    host: Annotated[str, about("The mail server.")] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535), about("Its port.")] = 25
    tls: Annotated[
        Literal["none", "starttls", "tls"],
        about("How the connection is encrypted; none: on this host only."),
    ] = "none"
    ca_file: Annotated[str, about("Certificates to trust beside the host's, in PEM.")] = ""
    username: Annotated[str, about("Log in as this user; empty: do not log in.")] = ""
    password_file: Annotated[str, about("File that holds the password, readable by the service only.")] = ""
    sender: Annotated[
        str,
        Meta(pattern=rf"^(?:{ADDRESS})?\Z", extra={"kind": "a mail address"}),
        about("The From address; empty: canhazgpu@ and this host's name."),
    ] = ""
    user_address: Annotated[
        str,
        Meta(
            pattern=r"^(?:[A-Za-z0-9._+-]*\{user\}[A-Za-z0-9._+-]*@[A-Za-z0-9._-]+)?\Z",
            extra={"kind": 'a mail address with "{user}" in it'},
        ),
        about('The address of a user, such as "{user}@example.com"; empty: found otherwise, or none.'),
    ] = ""
    addresses: Annotated[
        dict[str, Address],
        Meta(extra={"kind": 'a table such as { bob = "robert@example.com" }'}),
        about("Addresses of single users; they win over every other way to find one."),
    ] = field(default_factory=dict)
    gecos: Annotated[
        bool, about("Look for an address in the user's comment field of the system's user database.")
    ] = False
    address_command: Annotated[
        list[str],
        about(
            "Program that prints the address of the user named by its last argument, for LDAP and the like;"
            " its path is absolute. Asked when neither table nor comment field has one."
        ),
    ] = field(default_factory=list)
    admins: Annotated[
        list[Address],
        Meta(extra={"kind": "a list of mail addresses"}),
        about("Addresses of the administrators."),
    ] = field(default_factory=list)


class Webhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One place that notices are posted to. The address may hold a secret: `url_file` keeps it in a file.

    `body`: json is the notice as in docs/asyncapi.json, signed when there is a `secret_file`.
    """

    url: Annotated[str, Meta(pattern=r"^(?:https?://\S+)?\Z")] = ""
    url_file: str = ""
    secret_file: str = ""
    body: Literal["json", "slack", "mattermost", "discord", "ntfy"] = "json"
    timeout: str = "10s"

    def __post_init__(self) -> None:
        """Refuse what has no address, two, or a timeout that is no duration."""
        if bool(self.url) == bool(self.url_file):
            raise ValueError("one of url and url_file is needed")
        if not 0 < parse_duration(self.timeout) <= 60:  # noqa: PLR2004 - a delivery must end
            raise ValueError("timeout is to be at most 60s")


class Exec(Struct, frozen=True, kw_only=True):
    """A program of the site's own, with each notice as JSON on its standard input."""

    command: Annotated[
        list[str], about("The program and its arguments; empty: off. Its path is absolute.")
    ] = field(default_factory=list)
    timeout: Annotated[
        Duration, about("It is ended when it takes longer; at most 100s.", least=0.1, most=100.0)
    ] = 10.0


class Notify(Struct, frozen=True, kw_only=True):
    """The channels."""

    dry_run: Annotated[bool, about("Send nothing: log what would have been sent, and to whom.")] = False
    webhook: Annotated[
        dict[Annotated[str, Meta(pattern=NAME)], Webhook],
        Meta(extra={"kind": "tables [notify.webhook.NAME] with url or url_file", "secret": True}),
        about(
            "Places to post to, each a channel webhook:NAME; webhook alone stands for all of them."
            " Keys: url or url_file, secret_file, body (json, slack, mattermost, discord, ntfy), timeout."
        ),
    ] = field(default_factory=dict)
    plugins: Annotated[
        dict[Annotated[str, Meta(pattern=NAME)], dict[str, Any]],
        Meta(extra={"kind": "tables [notify.plugins.NAME]"}),
        about("Notifiers of the site's own, by the name of their entry point, each with its own settings."),
    ] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    wall: Wall = field(default_factory=Wall)
    email: Email = field(default_factory=Email)
    exec: Exec = field(default_factory=Exec)

    @property
    def on(self) -> tuple[str, ...]:
        """The names of the channels that are on."""
        flags = {"wall": self.wall.enabled, "email": self.email.enabled, "log": self.log.enabled}
        names = [name for name, on in flags.items() if on]
        names += ["exec"] if self.exec.command else []
        return (*names, *(f"webhook:{name}" for name in self.webhook), *self.plugins)
