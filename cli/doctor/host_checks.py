"""The checks of `canhazgpu doctor`. Each yields findings; none changes anything."""

import contextlib
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

from canhazgpu.cli.doctor import (
    channel_checks,
    container_checks,
    enforcement_checks,
    gpu_checks,
    scheduler_checks,
    stream_checks,
)
from canhazgpu.cli.doctor.permissions import (
    service_user,
    skip_without_service_rights,
    skipped_check,
)
from canhazgpu.cli.doctor.service_health import health
from canhazgpu.cli.local_times import local
from canhazgpu.client import Refused, Unreachable
from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import TRY_AGAIN, Store, StoreDown
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.service.admin_reachability import REMEDY, why_unreachable
from canhazgpu.service.api.requests import has_time_limit
from canhazgpu.service.identity.hidepid import HIDDEN, hides_others
from canhazgpu.service.identity.hidepid import REMEDY as HIDEPID_REMEDY
from canhazgpu.service.redis_server.durability import weaknesses
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.outage import Outage
from canhazgpu.service.redis_server.server_program import EmbeddedFailed, find_server

Finding = tuple[str, str, str]


def service(settings: Settings) -> Iterator[Finding]:
    """Check that the daemon answers and scans."""
    try:
        said = health(settings.socket)
    except Unreachable as error:
        yield "fail", error.reason, error.remedy
        return
    except Refused as error:
        yield "fail", error.detail, error.remedy
        return
    yield "ok", f"answers on {settings.socket}", ""
    yield "ok", f"keeps the state of host {said['host']}, machine {said['machine']}", ""
    if said.get("stalled"):
        yield "fail", f"reads no GPU: {said['stalled']}", said["remedy"] or "look at the service's log"
        return
    late = said["scan_age_s"] > max(5.0, 3 * settings.gpus.scan_interval)
    if said["journal_weakness"]:
        yield "warn", said["journal_weakness"], "make room for it, or make its directory writable"
    if said.get("journal_damage"):
        yield "warn", said["journal_damage"], "compare `canhazgpu status` with what users expect"
    if said["restoration"]:
        yield _restoration(said["restoration"])
    age = f"last scan {said['scan_age_s']:.1f} s ago"
    yield ("fail", age, "look at the service's log") if late else ("ok", age, "")


def _restoration(done: dict[str, Any]) -> Finding:
    count, at = len(done["restored"]), local(done["at"])
    lost = f"Redis had lost its data; {count} reservations were restored at {at}"
    conflicts = [
        f"GPU {spell_gpu(one['gpu'])} is held by {printable(one['holder'])},"
        f" but was also promised to {printable(one['loser'])}"
        for one in done["conflicts"]
    ]
    return "warn", "; ".join([lost, *conflicts]), "see redis_lost_state in the service's log"


def redis(settings: Settings) -> Iterator[Finding]:
    """Check that there is a Redis, and that it keeps what it acknowledges: the service says so of its own."""
    try:
        said = health(settings.socket)
    except (Unreachable, Refused):
        if not settings.redis.url:
            yield _chosen(settings)
        yield from anyio.run(_redis, settings)
        return
    running = said["redis"]
    whose = f"the service runs its own ({running['program']})" if running["program"] else "it is used"
    yield "ok", f"{running['server']} {running['version']}: {whose}", ""
    if running["damage"]:
        remedy = "the journal has restored live reservations; older events may be missing"
        yield "warn", running["damage"], remedy
    yield from _weak(said["redis_weaknesses"])


def _weak(weaknesses: list[str]) -> list[Finding]:
    return [("warn", weakness, "") for weakness in weaknesses] or [
        ("ok", "persistence and eviction are configured correctly", "")
    ]


def _chosen(settings: Settings) -> Finding:
    try:
        server = find_server(EmbeddedRedis(Path(settings.state_dir)).folder)
    except EmbeddedFailed as error:
        reason, _, remedy = str(error).partition(": ")
        return "fail", reason, remedy
    what = (
        "the service's own, as of its last start"
        if _process_of(settings.socket)
        else "found in the PATH of this command, which the service may not have"
    )
    return "ok", f"{server}: {what} ({server.program})", ""


async def _redis(settings: Settings) -> list[Finding]:
    own = EmbeddedRedis(Path(settings.state_dir))
    endpoint = settings.redis.endpoint(own.url)
    store = Store(endpoint, settings.host)
    outage = Outage(settings.redis.url or own.url, None if settings.redis.url else own)
    try:
        if halt := outage.halt():  # It would be waited for in vain.
            raise StoreDown(halt[0])
        weak = await weaknesses(store)
    except StoreDown as down:
        if not settings.redis.url and "Permission denied" in str(down):
            return [skipped_check(settings, "the settings of the service's Redis")]
        reason, remedy = outage.explain(down)
        if remedy == TRY_AGAIN:
            remedy = "is redis.url correct?" if settings.redis.url else "is the service running?"
        # A server that asks for a client's certificate says so, or resets the connection before that is read.
        if endpoint.is_encrypted and not endpoint.cert_file and "VERIFY_FAILED" not in str(down):
            remedy = "does it require a client certificate? set redis.cert_file and redis.key_file"
        if not settings.redis.url and not _process_of(settings.socket):
            return [
                ("skip", "cannot be checked now: it runs only while the service runs", "start the service")
            ]
        return [skip_without_service_rights(settings, ("fail", reason, remedy))]
    finally:
        await store.close()
    return _weak(weak)


def terminals(settings: Settings) -> Iterator[Finding]:
    """Check that users can be notified on their terminals."""
    if not settings.notify.wall.enabled:
        yield "ok", "the channel is disabled", ""
        return
    as_root = os.geteuid() == 0 or service_user(settings) == "root"
    if as_root or 5 in os.getgroups():  # noqa: PLR2004 - the group tty everywhere
        yield "ok", "other users' terminals can be written to", ""
    else:
        remedy = "run the service as root, or add its user to the group tty"
        yield skip_without_service_rights(
            settings, ("warn", "other users' terminals cannot be written to", remedy)
        )
    with contextlib.suppress(OSError):
        mounts = re.findall(r"^devpts /dev/pts \S+ (\S+)", Path("/proc/mounts").read_text(), re.MULTILINE)
        if mounts and "mode=620" not in mounts[-1]:
            yield "warn", "new terminals do not accept messages", "mount /dev/pts with gid=5,mode=620"
    if settings.notify.wall.audience == "everyone" and not shutil.which("wall"):
        yield "fail", "wall(1) is not installed", "install util-linux (or bsdutils)"


def administrators(settings: Settings) -> Iterator[Finding]:
    """Check that notices to administrators can reach somebody."""
    nobody = anyio.run(why_unreachable, settings)
    yield ("warn", nobody, REMEDY) if nobody else ("ok", "administrators can be notified", "")


def log(settings: Settings) -> Iterator[Finding]:
    """Check that the audit log can be written."""
    if not settings.notify.log.enabled:
        yield "ok", "the channel is disabled", ""
        return
    path = Path(settings.notify.log.path)
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if os.access(place, os.W_OK):
        yield "ok", f"{path} is writable", ""
    else:
        remedy = "make its directory writable for the service's user, or set notify.log.path"
        yield skip_without_service_rights(settings, ("fail", f"{path} is not writable", remedy))


def view(settings: Settings) -> Iterator[Finding]:
    """Check that the service, or this process if it is not running, sees every process of the host."""
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":  # noqa: PTH115 - a name, not a path
        yield "fail", "this is not the host's PID namespace", "run on the host, or with --pid=host"
        return
    hidden = hides_others(_process_of(settings.socket))
    if hidden:
        yield "fail", HIDDEN, HIDEPID_REMEDY
    elif hidden is None:
        yield skipped_check(settings, "what the service sees in /proc")
    else:
        yield "ok", "all processes of the host are visible", ""


def _process_of(path: str) -> int | None:
    """Return the pid of the service behind a socket, or None if nobody answers."""
    with socket.socket(socket.AF_UNIX) as link, contextlib.suppress(OSError):
        link.connect(path)
        pid: int = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid or None
    return None


def limits(settings: Settings) -> Iterator[Finding]:
    """Check that limits can be enforced: only root can end other users' runs."""
    if not has_time_limit(settings):
        yield "ok", "no time limits are set", ""
        return
    with contextlib.suppress(OSError):
        owner = Path(settings.socket).stat().st_uid
        if owner != 0:
            yield (
                "warn",
                "limits.max_duration cannot end runs of users other than the service's own user",
                "run the service as root",
            )
            return
    yield "ok", "time limits of reservations and runs can be enforced", ""


ALL: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "service": service,
    "redis": redis,
    "streams": stream_checks.streams,
    "gpus": gpu_checks.gpus,
    "processes": view,
    "terminals": terminals,
    "admins": administrators,
    "email": channel_checks.email,
    "webhook": channel_checks.webhook,
    "exec": channel_checks.program,
    "plugins": channel_checks.plugins,
    "log": log,
    "limits": limits,
    "devices": enforcement_checks.enforcement,
    "containers": container_checks.containers,
    "schedulers": scheduler_checks.schedulers,
}
