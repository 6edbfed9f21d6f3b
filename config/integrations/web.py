"""The settings of `canhazgpu web`, which shows this host in a browser."""

from typing import Annotated

from msgspec import Meta, Struct, field

from canhazgpu.config.fields import about

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}\Z")]


class Web(Struct, frozen=True, kw_only=True):
    """Where the page is served, and for whom. `canhazgpu web` reads these settings; the service does not."""

    listen: Annotated[
        str,
        about(
            "Address of the page, such as 127.0.0.1:8036, [::1]:8036 or unix:/run/canhazgpu-web/web.sock."
            " Everybody who can connect to it can read the page."
        ),
    ] = "127.0.0.1:8036"
    user_header: Annotated[
        HeaderName,
        about(
            "Header in which a proxy names the user, such as X-Remote-User; the page then marks what is"
            " theirs. It is ignored unless the proxy connects from this host."
        ),
    ] = ""
    hosts: Annotated[
        list[str],
        about(
            "Names under which browsers may ask for the page, if a proxy passes them on. On a loopback"
            " address, all other names except localhost are refused."
        ),
    ] = field(default_factory=list)
