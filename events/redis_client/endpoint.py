"""The address of Redis and how to log in: a single server, Sentinel, or Cluster.

A password file is read again for every connection. The password never appears in a URL, log or argument.
"""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

FORMS = (
    "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH,"
    " redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT"
)
SENTINEL_PORT, REDIS_PORT = 26379, 6379
MOST_PORT = 65535
FILES = ("password_file", "sentinel_password_file", "ca_file", "cert_file", "key_file")

Address = tuple[str, int]


class BadUrl(ValueError):
    """A URL is not a valid Redis URL; the message says what was expected, without repeating the URL."""


class Password(CredentialProvider):
    """A password in a file, which may change at any time."""

    def __init__(self, path: str, username: str | None) -> None:
        """Store the path; the file is read when a connection is opened."""
        self._path, self._username = path, username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return user and password, or the password alone."""
        try:
            password = Path(self._path).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise RedisConnectionError(f"its password file {self._path}: {reason}") from error
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same as `get_credentials`, because reading a small file does not block."""
        return self.get_credentials()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The address and credentials of one Redis. The files are those of the settings `redis.*`."""

    url: str
    password_file: str = ""
    sentinel_password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def kind(self) -> str:
        """One of sentinel, cluster, or "" for a single server."""
        return urlsplit(self.url).scheme.partition("+")[2]

    @property
    def has_password(self) -> bool:
        """Whether there is a password in the URL."""
        parts = urlsplit(self.url)
        return parts.password is not None or "password=" in parts.query

    @property
    def is_encrypted(self) -> bool:
        """Whether connections use TLS."""
        return urlsplit(self.url).scheme.startswith("rediss")

    @property
    def seeds(self) -> tuple[Address, ...]:
        """The Sentinels, or the Cluster nodes to ask first."""
        default = SENTINEL_PORT if self.kind == "sentinel" else REDIS_PORT
        return _addresses(urlsplit(self.url).netloc.rpartition("@")[2], default)

    @property
    def master(self) -> str:
        """The name under which the Sentinels know the master."""
        return urlsplit(self.url).path.strip("/").partition("/")[0]

    def options(self) -> dict[str, Any]:
        """Return the options of data connections without the address: TLS, login, database."""
        parts = urlsplit(self.url)
        database = parts.path.strip("/").partition("/")[2]
        return {**self._login(parts), **self._tls(), "db": int(database or 0)}

    def sentinel_options(self) -> dict[str, Any]:
        """Return the options of connections to Sentinels."""
        login: dict[str, Any] = {}
        if self.sentinel_password_file:
            login["credential_provider"] = Password(self.sentinel_password_file, None)
        return {**login, **self._tls()}

    def plain(self) -> tuple[str, dict[str, Any]]:
        """Return the URL of a single server, and the further options of its connections."""
        if not self.password_file:
            return self.url, self._tls()
        parts = urlsplit(self.url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return urlunsplit(bare), {**self._login(parts), **self._tls()}

    def _login(self, parts: SplitResult) -> dict[str, Any]:
        username = unquote(parts.username) if parts.username else None
        if self.password_file:
            return {"credential_provider": Password(self.password_file, username)}
        password = unquote(parts.password) if parts.password else None
        return {"username": username, "password": password}

    def _tls(self) -> dict[str, Any]:
        if not self.is_encrypted:
            return {}
        names = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        wanted = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        return {**wanted, **{name: path for name, path in names.items() if path}}

    def unreadable(self) -> str | None:
        """Return which file cannot be read and why, or None if all are readable."""
        for name in FILES:
            path = getattr(self, name)
            try:
                if path:
                    Path(path).read_bytes()
            except OSError as error:
                return f"redis.{name}: {path}: {error.strerror or error}"
        return None


def check(url: str) -> None:
    """Raise BadUrl if `url` is not a valid Redis URL."""
    try:
        parts = urlsplit(url)
        kind = parts.scheme.partition("+")[2]
        if kind:
            hosts = _addresses(parts.netloc.rpartition("@")[2], REDIS_PORT)
            path = parts.path.strip("/").split("/")
            good = bool(hosts) and _path_is_good(kind, path)
        else:
            _ = parts.port  # Raises if it is not a number or out of range.
            good = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname)
    except ValueError:
        good = False
    if not good or parts.scheme.partition("+")[0] not in ("redis", "rediss", *(() if kind else ("unix",))):
        raise BadUrl(FORMS)


def _path_is_good(kind: str, path: list[str]) -> bool:
    if kind == "cluster":
        return path == [""]
    named = kind == "sentinel" and bool(path[0])
    return named and (len(path) == 1 or (len(path) == 2 and path[1].isdecimal()))  # noqa: PLR2004


def _addresses(text: str, default: int) -> tuple[Address, ...]:
    return tuple(_address(one, default) for one in text.split(",")) if text else ()


def _address(text: str, default: int) -> Address:
    parts = urlsplit(f"//{text}")
    port = default if parts.port is None else parts.port
    if not parts.hostname or not 0 < port <= MOST_PORT:
        raise BadUrl(FORMS)
    return parts.hostname, port
