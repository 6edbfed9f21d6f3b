"""The settings of the channels. `config/notices.py` says who is notified through them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.fields import ADDRESS, Address, Duration, about
from canhazgpu.events.durations import parse_duration

NAME = r"^[a-z0-9_-]{1,64}\Z"
BODIES = ("json", "slack", "mattermost", "discord", "ntfy")


class Log(Struct, frozen=True, kw_only=True):
    """The audit log: one line of JSON per violation event."""

    enabled: Annotated[bool, about("Write the audit log.")] = True
    path: Annotated[str, about("Path of the audit log.")] = "/var/log/canhazgpu/violations.log"


class Wall(Struct, frozen=True, kw_only=True):
    """Messages on terminals."""

    enabled: Annotated[bool, about("Write to terminals.")] = True
    audience: Annotated[
        Literal["offender", "everyone"],
        about(
            "offender: only terminals of the recipient; everyone: notices to offenders go to all terminals,"
            " with wall(1)."
        ),
    ] = "offender"


class Email(Struct, frozen=True, kw_only=True):
    """Mail to users and administrators."""

    enabled: Annotated[bool, about("Send mail.")] = False
    host: Annotated[str, about("Mail server.")] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535), about("Port of the mail server.")] = 25
    tls: Annotated[
        Literal["none", "starttls", "tls"],
        about("Encryption of the connection. Use none only for a mail server on this host."),
    ] = "none"
    ca_file: Annotated[str, about("Additional CA certificates to trust, in PEM.")] = ""
    username: Annotated[str, about("User name for the login. If empty, there is no login.")] = ""
    password_file: Annotated[str, about("File with the password, readable only by the service.")] = ""
    sender: Annotated[
        str,
        Meta(pattern=rf"^(?:{ADDRESS})?\Z", extra={"kind": "an email address"}),
        about("From address. If empty, canhazgpu@ and the name of this host."),
    ] = ""
    user_address: Annotated[
        str,
        Meta(
            pattern=r"^(?:[A-Za-z0-9._+-]*\{user\}[A-Za-z0-9._+-]*@[A-Za-z0-9._-]+)?\Z",
            extra={"kind": 'an email address with "{user}" in it'},
        ),
        about('Pattern for the address of a user, such as "{user}@example.com".'),
    ] = ""
    addresses: Annotated[
        dict[str, Address],
        Meta(extra={"kind": 'a table such as { bob = "robert@example.com" }'}),
        about("Addresses of individual users. They take precedence over all other ways to find an address."),
    ] = field(default_factory=dict)
    gecos: Annotated[
        bool, about("Look for an email address in the comment (GECOS) field of the user database.")
    ] = False
    address_command: Annotated[
        list[str],
        about(
            "Program, with an absolute path, that prints the address of the user given as its last argument,"
            " for example from LDAP. It is run if neither the table nor the comment field has an address."
        ),
    ] = field(default_factory=list)
    admins: Annotated[
        list[Address],
        Meta(extra={"kind": "a list of email addresses"}),
        about("Mail addresses of the administrators."),
    ] = field(default_factory=list)


class Webhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One URL that notices are posted to. If the URL contains a secret, put it in a file and set `url_file`.

    `body`: json is the notice as in docs/asyncapi.json. It is signed if `secret_file` is set.
    """

    url: Annotated[str, Meta(pattern=r"^(?:https?://\S+)?\Z")] = ""
    url_file: str = ""
    secret_file: str = ""
    body: Literal["json", "slack", "mattermost", "discord", "ntfy"] = "json"
    timeout: str = "10s"

    def __post_init__(self) -> None:
        """Raise ValueError unless there is exactly one URL and a timeout of at most 60 s."""
        if bool(self.url) == bool(self.url_file):
            raise ValueError("set exactly one of url and url_file")
        if not 0 < parse_duration(self.timeout) <= 60:  # noqa: PLR2004 - a delivery must end
            raise ValueError("timeout must be at most 60s")


class Exec(Struct, frozen=True, kw_only=True):
    """A custom program that gets each notice as JSON on its standard input."""

    command: Annotated[
        list[str],
        about("The program, with an absolute path, and its arguments. If empty, the channel is off."),
    ] = field(default_factory=list)
    timeout: Annotated[
        Duration, about("The program is killed if it takes longer; at most 100s.", least=0.1, most=100.0)
    ] = 10.0


class Notify(Struct, frozen=True, kw_only=True):
    """The channels."""

    dry_run: Annotated[bool, about("Send nothing; log what would have been sent, and to whom.")] = False
    webhook: Annotated[
        dict[Annotated[str, Meta(pattern=NAME)], Webhook],
        Meta(extra={"kind": "tables [notify.webhook.NAME] with url or url_file", "secret": True}),
        about(
            "URLs to post notices to. Each one is a channel, webhook:NAME; the channel webhook means all of"
            " them. Keys: url or url_file, secret_file, body (json, slack, mattermost, discord, ntfy),"
            " timeout."
        ),
    ] = field(default_factory=dict)
    plugins: Annotated[
        dict[Annotated[str, Meta(pattern=NAME)], dict[str, Any]],
        Meta(extra={"kind": "tables [notify.plugins.NAME]"}),
        about("Settings of custom notifiers, by the name of their entry point."),
    ] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    wall: Wall = field(default_factory=Wall)
    email: Email = field(default_factory=Email)
    exec: Exec = field(default_factory=Exec)

    @property
    def on(self) -> tuple[str, ...]:
        """The names of the enabled channels."""
        flags = {"wall": self.wall.enabled, "email": self.email.enabled, "log": self.log.enabled}
        names = [name for name, on in flags.items() if on]
        names += ["exec"] if self.exec.command else []
        return (*names, *(f"webhook:{name}" for name in self.webhook), *self.plugins)
