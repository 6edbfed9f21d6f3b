"""The routes of the page, and the process that serves them."""

import gzip
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from canhazgpu.cli.web import static_files
from canhazgpu.cli.web.feed import Feed, Service
from canhazgpu.cli.web.guard import Guard
from canhazgpu.cli.web.markup import Element, el
from canhazgpu.cli.web.metrics import Metrics
from canhazgpu.cli.web.pages import layout
from canhazgpu.cli.web.pages.deliveries import deliveries_page
from canhazgpu.cli.web.pages.hosts import host_state, hosts_page
from canhazgpu.cli.web.pages.now import now_page
from canhazgpu.cli.web.pages.report import BY, report_page
from canhazgpu.cli.web.pages.timeline import HOURS, buckets_of, now_ms, reserved, timeline_page, violating
from canhazgpu.cli.web.pages.violations import PERIODS, violation_page, violations_page
from canhazgpu.cli.web.use import Use
from canhazgpu.cli.web.viewer import viewer_of
from canhazgpu.client import Refused, Unreachable
from canhazgpu.config.integrations.web import Web
from canhazgpu.config.settings import Settings

MOST_BROWSERS = 500  # That get events; others can reload.
MOST_CONNECTIONS = 1024
STOP_TIME = 2
NOT_FOUND = 404
WORTH_PACKING = 1000

Maker = Callable[[Request], Awaitable[Element]]


class Pages:
    """The application."""

    def __init__(self, service: Service, feed: Feed, metrics: Metrics, settings: Web) -> None:
        """Show what `feed` knows, and ask `service` for the rest."""
        self._service, self._feed, self._metrics, self._settings = service, feed, metrics, settings
        self._use = Use(service)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.now),
                Route("/live", self.live),
                Route("/timeline", self._page("Timeline", self._timeline)),
                Route("/violations", self._page("Violations", self._violations)),
                Route("/violations/{violation}", self._page("Violation", self._violation)),
                Route("/report", self._page("Report", self._report)),
                Route("/deliveries", self._page("Deliveries", self._deliveries)),
                Route("/hosts", self._page("Hosts", self._hosts)),
                Route("/hosts/{host}", self._page("Host", self._host)),
                Route("/metrics", self.metrics),
                Route("/static/{name}", self.static),
            ]
        )

    async def now(self, request: Request) -> Response:
        """Return the state now."""
        await self._feed.refresh()
        live = self._feed.live
        return self._html(request, "/", "GPUs now", live.content, version=live.version)

    async def live(self, request: Request) -> Response:
        """Return what changes after the version `since`, or the last event that the browser got."""
        if self._feed.live.watchers >= MOST_BROWSERS:
            return PlainTextResponse("Too many browsers watch this page.\n", 503)
        known = request.headers.get("last-event-id") or request.query_params.get("since", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(
            self._feed.live.events(known), media_type="text/event-stream", headers=headers
        )

    async def metrics(self, request: Request) -> Response:
        """Return the figures for Prometheus."""
        status, media, body = await self._metrics.answer(request.headers.get("accept", ""))
        return _packed(request, body, media, {"cache-control": "no-store"}, status)

    async def static(self, request: Request) -> Response:
        """Return a file of the page."""
        name = request.path_params["name"]
        if name not in static_files.MEDIA:
            return PlainTextResponse("There is no such file.\n", NOT_FOUND)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return _packed(request, static_files.content(name), static_files.MEDIA[name], headers, 200)

    def _page(self, title: str, make: Maker) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            status = 200
            try:
                content = await make(request)
            except Unreachable as trouble:
                content, status = layout.problem(trouble.reason, trouble.remedy), 503
            except Refused as refused:
                content, status = layout.problem(refused.detail, refused.remedy), refused.status
            return self._html(request, request.url.path, title, content, status)

        return page

    def _html(  # noqa: PLR0917 - each is a part of the page
        self,
        request: Request,
        path: str,
        title: str,
        content: Element,
        status: int = 200,
        version: str | None = None,
    ) -> Response:
        viewer = viewer_of(request, self._settings.user_header)
        text = layout.page(path, title, self._feed.state, content, viewer, version)
        return _packed(request, text.encode(), "text/html", {"cache-control": "no-store"}, status)

    async def _timeline(self, request: Request) -> Element:
        span = _one_of(request, "span", HOURS)
        now = now_ms()
        use = await self._use.of(buckets_of(span, now), now)
        since = f"{HOURS[span]}h"
        paths = (
            "/v1/status",
            "/v1/reservations",
            f"/v1/reservations/ended?since={since}",
            f"/v1/violations?since={since}",
        )
        (gpus, live, ended, violations), _ = await self._service.get(*paths)
        blocks = reserved(live, ended)
        return timeline_page(
            span, now, gpus=gpus, reservations=blocks, violations=violating(violations), use=use
        )

    async def _violations(self, request: Request) -> Element:
        since = _one_of(request, "since", PERIODS, "7d")
        (rows,), _ = await self._service.get(f"/v1/violations?since={since}")
        return violations_page(rows, since)

    async def _violation(self, request: Request) -> Element:
        (found,), _ = await self._service.get(f"/v1/violations/{quote(request.path_params['violation'], '')}")
        return violation_page(found)

    async def _report(self, request: Request) -> Element:
        since, by = _one_of(request, "since", PERIODS, "7d"), _one_of(request, "by", BY)
        zone = quote(viewer_of(request, "").zone_name, "")
        (found,), _ = await self._service.get(f"/v1/report?since={since}&by={by}&zone={zone}")
        return report_page(found, since, by)

    async def _deliveries(self, request: Request) -> Element:
        since = _one_of(request, "since", PERIODS, "1d")
        (rows,), _ = await self._service.get(f"/v1/deliveries?since={since}")
        return deliveries_page(rows, since)

    async def _hosts(self, request: Request) -> Element:
        del request
        hosts = await self._service.lines("/v1/fleet/status")
        return hosts_page(hosts, await self._service.lines("/v1/fleet/queue"))

    async def _host(self, request: Request) -> Element:
        asked = f"?host={quote(request.path_params['host'], '')}"
        (host,) = await self._service.lines(f"/v1/fleet/status{asked}")
        (waiting,) = await self._service.lines(f"/v1/fleet/queue{asked}")
        state = host_state(host, waiting["queue"])
        return el("div", el("h2", state.host), now_page(state, None))


def _one_of(request: Request, name: str, known: Any, usual: str | None = None) -> str:
    """Return a word of the query if it is known, else the usual one, or the first."""
    word = request.query_params.get(name, "")
    return word if word in known else usual or str(next(iter(known)))


def _packed(request: Request, body: bytes, media: str, headers: dict[str, str], status: int) -> Response:
    if len(body) > WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = gzip.compress(body, 5, mtime=0), {**headers, "content-encoding": "gzip"}
    return Response(body, status, {**headers, "vary": "accept-encoding, cookie"}, media)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to its caller and does not wake up ten times per second."""

    def __init__(self, config: uvicorn.Config, stop: anyio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle no signals."""
        yield

    async def main_loop(self) -> None:
        """Wait for the request to stop."""
        await self._stop.wait()


async def serve(
    settings: Settings, listener: socket.socket, service: Service, ready: Callable[[], None]
) -> None:
    """Serve the page on a bound socket until SIGTERM or SIGINT; call `ready` when it answers."""
    feed, stop = Feed(service), anyio.Event()
    pages = Pages(service, feed, Metrics(service.socket, settings.exporter.users), settings.web)
    # No browser connects to a socket file by itself: the names are the proxy's affair.
    address = "" if listener.family == socket.AF_UNIX else str(listener.getsockname()[0])
    app = Guard(pages.application(), address, settings.web.hosts)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_TIME,
    )
    server = _Server(config, stop)

    async def stop_on_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                feed.live.close()
                server.should_exit = True
                stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_on_signal)
        await tasks.start(feed.run)
        ready()
        await server.serve([listener])
        tasks.cancel_scope.cancel()
