"""What every request has to pass, and what every answer carries: nothing from elsewhere runs on the page.

A page of another site could let its own name point to this host's loopback address, and so read what is meant
for this host. Therefore the name that a browser asks for is checked.
"""

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from canhazgpu.cli.web.static_files import style_source
from canhazgpu.cli.web.viewer import is_loopback
from canhazgpu.events.sanitize import printable

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def headers() -> dict[str, str]:
    """Return the headers of every answer."""
    name = "content-security-policy"
    return {**HEADERS, name: f"{HEADERS[name]}; style-src {style_source()}"}


class Guard:
    """Passes requests under a known name to an application."""

    def __init__(self, app: Any, address: str, hosts: Iterable[str]) -> None:
        """Guard `app`, which is served on `address`; `hosts` are more names of it."""
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in headers().items()]
        local = is_loopback(address)
        self._hosts = {*LOCAL_NAMES, *map(str.lower, hosts)} if local or hosts else set[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        request = Request(scope)
        app = self._app
        name = _name(request.headers.get("host", ""))
        if self._hosts and name not in self._hosts:
            said = f"This page is not served under the name {printable(name)}: add it to web.hosts.\n"
            app = PlainTextResponse(said, 421)
        await app(scope, receive, guarded)


def _name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
