"""The values that complete an option or an argument, as the service knows them now.

Every function returns values with a short explanation. Without a service, or one that answers in time, there
are none; that is no error. Text from users is made safe to print.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

PATIENCE = 1.0  # Seconds. Whoever presses the tab key waits for this.
FILES = "@files"  # Ends the only candidate if the shell is to complete file names instead.
SHOWN = 60
MOST = 50  # Ids to offer; the newest.
Candidates = list[tuple[str, str]]


def gpus(ctx: Any, incomplete: str) -> Candidates:
    """Return the GPUs that make sense for a command, after those that stand before the last comma."""
    before, comma, _ = incomplete.rpartition(",")
    named = before.split(",")
    found = [(spell_gpu(gpu), about) for gpu, about in _gpus(_path(ctx))]
    return [(before + comma + gpu, about) for gpu, about in found if gpu not in named]


def _gpus(path: list[str]) -> Iterator[tuple[int, str]]:
    if path[-2:-1] != ["admin"] and path[-1] in ("release", "extend", "env", "disown"):
        for one in _get("/v1/reservations/own"):
            held = one["reservation"]
            if path[-1] != "extend" or held["kind"] == "manual":
                yield from ((gpu, held["kind"]) for gpu in held["gpus"])
        return
    state = {"reserve": "AVAILABLE", "run": "AVAILABLE", "undrain": "DRAINED"}.get(path[-1])
    for row in _get("/v1/status?fresh=0"):
        held = row["reservation"]
        about = f"{row['status']} {held['user'] if held else ''}".strip()
        wanted = state in (None, row["status"])
        if path[-2:] == ["admin", "drain"]:
            wanted = row["status"] != "DRAINED"
        if path[-2:] == ["admin", "release"]:
            wanted = bool(held)
        if wanted:
            yield row["gpu_id"], printable(about)


def profiles() -> Candidates:
    """Return the MIG profiles of the host's instances, with how many of each are free."""
    free: dict[str, int] = {}
    for row in _get("/v1/status?fresh=0"):
        if profile := row.get("profile"):  # An older service has none.
            free[profile] = free.get(profile, 0) + (row["status"] == "AVAILABLE")
    return [(profile, f"{count} free") for profile, count in sorted(free.items())]


def users(ctx: Any) -> Candidates:
    """Return the users who are concerned: who waits, who holds GPUs, or who uses them."""
    path = _path(ctx)
    if path[-1] == "cancel":
        waiting = [(one["user"], "waits") for one in _get("/v1/queue")]
        return _distinct([*waiting, *((one["user"], "has booked") for one in _get("/v1/bookings"))])
    rows = _get("/v1/status?fresh=0")
    holders = [(row["reservation"]["user"], "holds GPUs") for row in rows if row["reservation"]]
    if path[-2:] == ["admin", "release"]:
        return _distinct(holders)
    offenders = [(one["user"], "violation") for one in _get("/v1/violations?open=1")]
    return _distinct([*offenders, *holders, *((user, "uses GPUs") for row in rows for user in row["users"])])


def violations() -> Candidates:
    """Return the ids of the newest violations."""
    rows = _get("/v1/violations")[-MOST:]
    return [
        (one["violation"], printable(f"{one['user']} GPU {spell_gpu(one['gpu'])} {one['state']}"))
        for one in rows
    ]


def silences() -> Candidates:
    """Return the ids of the silences that last."""
    return [(one["id"], printable(one["reason"], SHOWN)) for one in _get("/v1/silences")]


def requests(ctx: Any) -> Candidates:
    """Return the ids of one's requests in the queue and bookings, or of those of the user who is named."""
    from canhazgpu.cli.output import own_name  # noqa: PLC0415 - only here
    from canhazgpu.events.durations import spell_length  # noqa: PLC0415

    whose = ctx.params.get("user") or own_name()
    waiting = [(one, "waits for") for one in _get("/v1/queue")]
    booked = [(one, f"in {spell_length(one['begins_in_s'])}:") for one in _get("/v1/bookings")]
    return [
        (one["id"], printable(f"{what} {one['count']} GPU(s) {one['note'] or ''}".strip(), SHOWN))
        for one, what in (*waiting, *booked)
        if one["user"] == whose
    ]


def letters() -> Candidates:
    """Return the ids of the dead letters."""
    return [
        (one["id"], printable(f"{one['channel']} {one['recipient']}", SHOWN))
        for one in _get("/v1/deadletters")
    ]


def groups() -> Candidates:
    """Return the consumer groups of other programs."""
    from canhazgpu.events.consumer.parameters import is_own  # noqa: PLC0415 - heavy

    streams = (_answer("/v1/health") or {}).get("streams") or {}
    found = [one for one in streams.get("groups", ()) if not is_own(one["group"], one["stream"])]
    return _distinct((one["group"], f"reads {one['stream']}") for one in found)


def types() -> Candidates:
    """Return the types of events, and their first words."""
    from canhazgpu.events.envelope import TYPES  # noqa: PLC0415 - heavy

    names = [name.removeprefix("canhazgpu.") for name in TYPES]
    return [(name, "") for name in (*dict.fromkeys(name.partition(".")[0] for name in names), *names)]


def channels(ctx: Any) -> Candidates:
    """Return the channels; webhooks have names of their own, which are in the settings file."""
    if _path(ctx)[-1] == "preview":
        return [("wall", ""), ("email", "")]
    from canhazgpu.events.notices import CHANNELS  # noqa: PLC0415 - heavy

    plain = [(name, "") for name in CHANNELS if name != "webhook"]
    return plain + [(f"webhook:{name}", "") for name in _webhooks()]


def _webhooks() -> Iterable[str]:
    import os  # noqa: PLC0415 - only here

    from canhazgpu.client.connection import BadSettings, read_settings  # noqa: PLC0415
    from canhazgpu.events.default_paths import CONFIG  # noqa: PLC0415

    try:
        found = read_settings(os.environ.get("CANHAZGPU_CONFIG") or CONFIG)["notify"]["webhook"]
        return [name for name, target in found.items() if isinstance(target, dict)]
    except (BadSettings, KeyError, TypeError, AttributeError):
        return []


def shells() -> Candidates:
    """Return the shells for which there is code."""
    return [(name, "") for name in ("bash", "zsh", "fish", "csh")]


def files(incomplete: str) -> Candidates:
    """Leave it to the shell: file names."""
    return [(incomplete + FILES, "")]


def _path(ctx: Any) -> list[str]:
    return str(ctx.command_path).split()


def _distinct(rows: Iterable[tuple[str, str]]) -> Candidates:
    found: dict[str, str] = {}
    for name, about in rows:
        if (
            name == printable(name) and " " not in name
        ):  # What the shell would have to quote is typed by hand.
            found.setdefault(name, about)
    return sorted(found.items())


def _get(path: str) -> list[Any]:
    return list(_answer(path) or ())


def _answer(path: str) -> Any:
    from canhazgpu.client import Client  # noqa: PLC0415 - heavy

    try:
        with _limit(PATIENCE):
            return Client().get(path)
    except Exception:  # noqa: BLE001 - a tab key is no place for an error
        return None


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
