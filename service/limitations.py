"""Logs at the start what the service cannot do on this host, or not as safely as it should."""

import os

import structlog

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.admin_reachability import REMEDY, why_unreachable
from canhazgpu.service.api.requests import has_time_limit
from canhazgpu.service.identity.hidepid import HIDDEN, hides_others
from canhazgpu.service.identity.hidepid import REMEDY as HIDEPID_REMEDY
from canhazgpu.service.redis_server.durability import weaknesses


async def log_limitations(settings: Settings, store: Store) -> None:
    """Log each limitation with its reason and, if there is one, its remedy."""
    log = structlog.get_logger()
    if os.geteuid() != 0:
        log.warning("limited", reason="not root: writing to other users' terminals needs the group tty")
        if has_time_limit(settings):
            reason = "not root: other users' runs are not ended at limits.max_duration"
            log.warning("limited", reason=reason)
    if hides_others():
        reason = f"{HIDDEN}: it is not known who uses a GPU, and `run` is refused for other users"
        log.warning("limited", reason=reason, remedy=HIDEPID_REMEDY)
    nobody = await why_unreachable(settings)
    if nobody:
        log.warning("limited", reason=nobody, remedy=REMEDY)
    if settings.redis.url:
        try:
            for weakness in await weaknesses(store):
                log.warning("redis_weak", reason=weakness)
        except StoreDown as down:
            store.report_down(down)
