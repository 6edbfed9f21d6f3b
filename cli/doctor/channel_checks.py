"""`canhazgpu doctor`: checks of the channels that leave the host. They never send a notice."""

import os
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from canhazgpu.cli.doctor.permissions import skip_without_service_rights
from canhazgpu.config.channels import Email, Webhook
from canhazgpu.config.settings import Settings

Finding = tuple[str, str, str]
OFF: Finding = ("ok", "the channel is disabled", "")
PATIENCE = 5.0
LOCAL = ("localhost", "127.0.0.1", "::1")
READABLE = "make it readable for the service's user"


def email(settings: Settings) -> Iterator[Finding]:
    """Check that users have addresses, and that the mail server answers and accepts the login."""
    mail = settings.notify.email
    if not mail.enabled:
        yield OFF
        return
    if not (mail.user_address or mail.addresses or mail.gecos or mail.address_command):
        remedy = 'set notify.email.user_address, for example "{user}@example.com", or addresses, gecos or'
        yield "warn", "users have no email address", f"{remedy} address_command"
    if mail.address_command:
        yield skip_without_service_rights(settings, _executable(mail.address_command[0]))
    if not mail.admins:
        yield "warn", "administrators have no email address", "set notify.email.admins"
    if mail.tls == "none" and mail.host not in LOCAL:
        yield "warn", f"mail to {mail.host} is not encrypted", "set notify.email.tls to starttls or tls"
    unreadable = _unreadable(mail.password_file, mail.ca_file)
    for path in unreadable:
        yield skip_without_service_rights(settings, ("fail", f"{path} cannot be read", READABLE))
    if not unreadable:
        yield _server(mail)


def _unreadable(*paths: str) -> list[str]:
    return [path for path in paths if path and not os.access(path, os.R_OK)]


def _server(mail: Email) -> Finding:
    where = f"{mail.host}:{mail.port}"
    try:
        _visit(mail)
    except smtplib.SMTPNotSupportedError as error:
        remedy = "set notify.email.tls to what the server offers; leave username empty if it has no login"
        return "fail", f"{where}: {error}", remedy
    except smtplib.SMTPAuthenticationError as error:
        remedy = "check notify.email.username and password_file"
        return "fail", f"{where} rejects the login ({error.smtp_code})", remedy
    except ssl.SSLCertVerificationError as error:
        remedy = "set notify.email.ca_file, and set host to a name in the certificate"
        return "fail", f"{where}: {error.verify_message}", remedy
    except (OSError, smtplib.SMTPException) as error:
        return "fail", f"{where}: {error}", "check that it is running, and notify.email.host, port and tls"
    except UnicodeDecodeError:
        return "fail", f"{mail.password_file} is not UTF-8 text", "it must contain only the password"
    return "ok", f"{where} answers", ""


def _visit(mail: Email) -> None:
    """Connect like the channel, log in, and disconnect."""
    trust = ssl.create_default_context()
    if mail.ca_file:
        trust.load_verify_locations(mail.ca_file)
    if mail.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mail.host, mail.port, timeout=PATIENCE, context=trust)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=PATIENCE)
    with server:
        server.ehlo()
        if mail.tls == "starttls":
            server.starttls(context=trust)
        if mail.username:
            server.login(mail.username, Path(mail.password_file).read_text(encoding="utf-8").strip())


def webhook(settings: Settings) -> Iterator[Finding]:
    """Check that each target accepts connections and its files are readable. URLs are not shown."""
    if not settings.notify.webhook:
        yield OFF
    for name, target in settings.notify.webhook.items():
        unreadable = _unreadable(target.url_file, target.secret_file)
        for path in unreadable:
            yield skip_without_service_rights(settings, ("fail", f"{name}: {path} cannot be read", READABLE))
        if not unreadable:
            yield _target(name, target)


def _target(name: str, target: Webhook) -> Finding:
    try:
        url = urlsplit(target.url or Path(target.url_file).read_text(encoding="utf-8").strip())
        port = url.port or (443 if url.scheme == "https" else 80)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError
    except ValueError:
        return "fail", f"{name}: its URL is not valid", "it must start with http:// or https:// and a host"
    secure = url.scheme == "https"
    try:
        with socket.create_connection((url.hostname, port), PATIENCE) as connection:
            if secure:
                trust = ssl.create_default_context()
                trust.wrap_socket(connection, server_hostname=url.hostname).close()
    except ssl.SSLCertVerificationError:
        return "fail", f"{name}: its certificate is not trusted", "install its CA certificate on this host"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__
        return "warn", f"{name}: {reason}", "ignore this if the service uses a proxy"
    if not secure and url.hostname not in LOCAL:
        return "warn", f"{name} answers, but is not encrypted", "use a URL that starts with https://"
    return "ok", f"{name} answers", ""


def program(settings: Settings) -> Iterator[Finding]:
    """Check that the configured program can be started."""
    command = settings.notify.exec.command
    if command:
        yield skip_without_service_rights(settings, _executable(command[0]))
    else:
        yield OFF


def _executable(path: str) -> Finding:
    if os.access(path, os.X_OK) and Path(path).is_file():
        return "ok", f"{path} can be started", ""
    return (
        "fail",
        f"{path} cannot be started",
        "check that it exists and is executable for the service's user",
    )


def plugins(settings: Settings) -> Iterator[Finding]:
    """Check that each plugin is installed and can be created."""
    from canhazgpu.notifiers import plugins as found  # noqa: PLC0415 - a function here has this name

    if not settings.notify.plugins:
        yield "ok", "none are configured", ""
        return
    try:
        names = [channel.name for channel in found.plugins(settings)]
    except found.PluginFailed as failed:
        yield "fail", str(failed), "install its package next to canhazgpu; see docs/notifiers.md"
    else:
        yield "ok", f"{', '.join(names)} work", ""
