"""The routes that only list: violations, ended reservations, users, GPU-hours, and the fleet."""

from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.routes.fleet import FleetRoutes
from canhazgpu.service.routes.fleet_past import FleetPastRoutes
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.report import ReportRoutes
from canhazgpu.service.routes.reservation_routes.ended_reservations import EndedReservationRoutes
from canhazgpu.service.routes.users import UserRoutes
from canhazgpu.service.routes.violations import ViolationRoutes


def list_routes(  # noqa: PLR0913, PLR0917 - each has a part in it
    settings: Settings,
    store: Store,
    scanner: Scanner,
    group: int | None,
    users: Users,
    last_known: LastKnown,
) -> list[Route]:
    """Return the routes; administrators are root and the members of `group`."""
    fleet = FleetRoutes(settings, group)
    return [
        *ViolationRoutes(store, scanner, group, users).routes(),
        *EndedReservationRoutes(store, scanner, users).routes(),
        *UserRoutes(settings, last_known).routes(),
        *ReportRoutes(settings, store, users).routes(),
        *fleet.routes(),
        *FleetPastRoutes(settings, fleet).routes(),
    ]
