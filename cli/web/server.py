"""The routes of the page, and the process that serves them."""

import gzip
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from canhazgpu.cli.display.calendar import calendar
from canhazgpu.cli.web import static_files
from canhazgpu.cli.web.feed import Feed, Service
from canhazgpu.cli.web.fleet_feed import FleetFeeds
from canhazgpu.cli.web.guard import Guard
from canhazgpu.cli.web.markup import Element, text
from canhazgpu.cli.web.metrics import Metrics
from canhazgpu.cli.web.pages import layout
from canhazgpu.cli.web.pages.bookings import FEED
from canhazgpu.cli.web.pages.deliveries import deliveries_page
from canhazgpu.cli.web.pages.layout import LiveAt
from canhazgpu.cli.web.pages.periods import HOURS
from canhazgpu.cli.web.pages.report import BY, report_page
from canhazgpu.cli.web.pages.timeline import buckets_of, now_ms, reserved, timeline_page, violating
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


class Shown(Struct, frozen=True):
    """The content of a page, and where its changes come from."""

    content: Element
    live: LiveAt | None = None


Maker = Callable[[Request], Awaitable[Element | Shown]]


class Pages:
    """The application."""

    def __init__(
        self, service: Service, feed: Feed, fleet: FleetFeeds, metrics: Metrics, settings: Web
    ) -> None:
        """Show what `feed` and `fleet` know, and ask `service` for the rest."""
        self._service, self._feed, self._fleet = service, feed, fleet
        self._metrics, self._settings = metrics, settings
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
                Route("/hosts/{host}", self._page("Host", self._hosts)),
                Route("/live/hosts", self.live_hosts),
                Route("/live/hosts/{host}", self.live_hosts),
                Route(FEED, self.calendar),
                Route("/metrics", self.metrics),
                Route("/metrics/fleet", self.metrics),
                Route("/static/{name}", self.static),
            ]
        )

    async def now(self, request: Request) -> Response:
        """Return the state now."""
        await self._feed.refresh()
        live = self._feed.live
        shown = Shown(live.content, LiveAt("/live", live.version))
        return self._html(request, "/", "GPUs now", shown)

    async def live(self, request: Request) -> Response:
        """Return what changes after the version `since`, or the last event that the browser got."""
        return self._stream(request, self._feed.live.events)

    async def live_hosts(self, request: Request) -> Response:
        """Return what changes on the page of all hosts, or of one."""
        host = request.path_params.get("host", "")
        try:
            feed = await self._fleet.of(host)
        except (Unreachable, Refused) as trouble:
            return PlainTextResponse(f"{trouble}\n", 503)  # The browser tries again.
        if not self._fleet.is_live(host):
            return PlainTextResponse("Too many hosts are watched.\n", 503)
        return self._stream(request, partial(self._fleet.events, feed))

    def _stream(self, request: Request, events: Callable[[str], AsyncGenerator[bytes]]) -> Response:
        if self._feed.live.watchers + self._fleet.watchers >= MOST_BROWSERS:
            return PlainTextResponse("Too many browsers watch this page.\n", 503)
        known = request.headers.get("last-event-id") or request.query_params.get("since", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events(known), media_type="text/event-stream", headers=headers)

    async def calendar(self, request: Request) -> Response:
        """Return the bookings as a calendar, to which other programs can subscribe."""
        try:
            (rows,), _ = await self._service.get("/v1/bookings")
        except (Unreachable, Refused) as trouble:
            return PlainTextResponse(f"{trouble}\n", 503)
        shown = [{**one, **{name: text(one[name] or "") for name in ("user", "note")}} for one in rows]
        body = calendar(shown, self._feed.state.host).encode()
        return _packed(request, body, "text/calendar", {"cache-control": "no-store"}, 200)

    async def metrics(self, request: Request) -> Response:
        """Return the figures for Prometheus."""
        fleet = request.url.path.endswith("/fleet")
        status, media, body = await self._metrics.answer(request.headers.get("accept", ""), fleet=fleet)
        return _packed(request, body, media, {"cache-control": "no-store"}, status)

    async def static(self, request: Request) -> Response:
        """Return a file of the page."""
        name = request.path_params["name"]
        if name not in static_files.MEDIA:
            return PlainTextResponse("There is no such file.\n", NOT_FOUND)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        body = static_files.content(name)
        if _takes_gzip(request):
            body, headers = static_files.packed(name), {**headers, "content-encoding": "gzip"}
        return Response(body, 200, {**headers, "vary": "accept-encoding"}, static_files.MEDIA[name])

    def _page(self, title: str, make: Maker) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            status = 200
            try:
                made = await make(request)
                shown = made if isinstance(made, Shown) else Shown(made)
            except Unreachable as trouble:
                shown, status = Shown(layout.problem(trouble.reason, trouble.remedy)), 503
            except Refused as refused:
                shown, status = Shown(layout.problem(refused.detail, refused.remedy)), refused.status
            return self._html(request, request.url.path, title, shown, status)

        return page

    def _html(self, request: Request, path: str, title: str, shown: Shown, status: int = 200) -> Response:
        viewer = viewer_of(request, self._settings.user_header)
        body = layout.page(path, title, self._feed.state, shown.content, viewer, shown.live)
        return _packed(request, body.encode(), "text/html", {"cache-control": "no-store"}, status)

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
            "/v1/bookings",
        )
        (gpus, live, ended, violations, bookings), _ = await self._service.get(*paths)
        return timeline_page(
            span,
            now,
            gpus=gpus,
            reservations=reserved(live, ended),
            violations=violating(violations),
            use=use,
            bookings=bookings,
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

    async def _hosts(self, request: Request) -> Shown:
        host = request.path_params.get("host", "")
        live = (await self._fleet.of(host)).live
        path = f"/live/hosts/{quote(host, '')}" if host else "/live/hosts"
        return Shown(live.content, LiveAt(path, live.version) if self._fleet.is_live(host) else None)


def _one_of(request: Request, name: str, known: Any, usual: str | None = None) -> str:
    """Return a word of the query if it is known, else the usual one, or the first."""
    word = request.query_params.get(name, "")
    return word if word in known else usual or str(next(iter(known)))


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def _packed(request: Request, body: bytes, media: str, headers: dict[str, str], status: int) -> Response:
    if len(body) > WORTH_PACKING and _takes_gzip(request):
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
    feed, fleet, stop = Feed(service), FleetFeeds(service), anyio.Event()
    pages = Pages(service, feed, fleet, Metrics(service.socket, settings.exporter.users), settings.web)
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
                fleet.close()
                server.should_exit = True
                stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_on_signal)
        await tasks.start(feed.run)
        await tasks.start(fleet.run)
        ready()
        await server.serve([listener])
        tasks.cancel_scope.cancel()
