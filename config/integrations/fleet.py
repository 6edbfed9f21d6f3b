"""The settings of the fleet: the Redis on which all hosts can be seen, and who may read it."""

from typing import Annotated

from msgspec import Struct, field, structs

from canhazgpu.config.fields import Duration, about
from canhazgpu.events.redis_client.endpoint import FILES, Endpoint


class Fleet(Struct, frozen=True, kw_only=True):
    """A Redis that has a copy of the streams and of the state of every host."""

    url: Annotated[
        str,
        about(
            "URL of the fleet's Redis or Valkey, in the syntax of redis.url. The host copies its streams and"
            " its state there, and keeps working without it. If empty, the host is not in a fleet.",
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
    interval: Annotated[
        Duration,
        about(
            "How often the state is copied if no event happens. A host that has not copied it for three times"
            " as long counts as away.",
            least=1.0,
        ),
    ] = 10.0
    readers: Annotated[
        list[str],
        about(
            "Groups whose members may see all hosts with this host's commands, besides administrators."
            " If empty, all users may see them."
        ),
    ] = field(default_factory=list)

    def endpoint(self) -> Endpoint:
        """Return the endpoint of the fleet's Redis."""
        words = structs.asdict(self)
        return Endpoint(url=self.url, **{name: words[name] for name in FILES})
