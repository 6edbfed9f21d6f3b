"""Checks that all channels named in the settings exist.

A named channel may be disabled: the defaults name mail and webhooks, which are disabled until they are
configured.
"""

from collections.abc import Iterator

from canhazgpu.config.integrations.fleet import Fleet
from canhazgpu.config.notices import AUDIENCES, Step
from canhazgpu.config.settings import Redis, Settings
from canhazgpu.events.notices import CHANNELS, OFFENDER
from canhazgpu.events.redis_client.endpoint import FILES, Endpoint

TERMINATE = "terminate"
RESERVED_NAMES = frozenset({*CHANNELS, TERMINATE})  # Names that a plugin cannot have.
LISTS = ("admin_channels", "granted", "expiring", "idle", "released")
NEVER_QUIET = ("wall", "log")  # A user at a terminal is awake, and a log disturbs nobody.
A_STEP_OF_ITS_OWN = f'{TERMINATE} in a step of its own, with channels ["{TERMINATE}"] and to ["{OFFENDER}"]'


def ineffective_keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield keys that have no effect, such as channels that reach nobody, with what was expected."""
    yield from ineffective_redis_keys(settings)
    notices = settings.notices
    for step in notices.steps:
        yield from _step_error(step, settings)
    for key in LISTS:
        for name in getattr(notices, key):
            yield from _unknown(f"notices.{key}", name, settings)
    for name in notices.quiet.channels:
        if name in NEVER_QUIET:
            yield (
                "notices.quiet.channels",
                f"channels that can be delayed, not {name}: quiet hours never apply to wall and log",
            )
        yield from _unknown("notices.quiet.channels", name, settings)
    if settings.notify.email.username and not settings.notify.email.password_file:
        yield "notify.email.username", "notify.email.password_file to be set as well"


def ineffective_redis_keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield keys of a Redis that have no effect in combination with others, with what was expected."""
    redis, fleet = settings.redis, settings.fleet
    yield from _ineffective_files(
        redis, redis.endpoint(), "redis", "the daemon's own Redis does not use this"
    )
    yield from _ineffective_files(fleet, fleet.endpoint(), "fleet", "this host is not in a fleet")
    limits = settings.limits
    if limits.fleet.max_gpus_per_user and not fleet.url:
        yield "limits.fleet.max_gpus_per_user", "fleet.url to be set as well: this host is not in a fleet"
    if any(own.max_gpus_in_fleet for own in limits.users.values()) and not fleet.url:
        yield "limits.users", "fleet.url to be set as well for max_gpus_in_fleet: this host is not in a fleet"


def _ineffective_files(
    named: Redis | Fleet, there: Endpoint, section: str, why: str
) -> Iterator[tuple[str, str]]:
    files = {name: path for name in FILES if (path := getattr(named, name))}
    if files and not named.url:
        yield f"{section}.{min(files)}", f"{section}.url to be set as well: {why}"
        return
    encrypted = [name for name in ("ca_file", "cert_file", "key_file") if name in files]
    if encrypted and not there.is_encrypted:
        yield (
            f"{section}.{encrypted[0]}",
            f"a {section}.url that begins with rediss, because this connection does not use TLS",
        )
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if one in files and other not in files:
            yield f"{section}.{one}", f"{section}.{other} to be set as well"
    if "sentinel_password_file" in files and there.kind != "sentinel":
        yield (
            f"{section}.sentinel_password_file",
            f"a {section}.url with Sentinels, redis+sentinel://HOST:PORT/NAME",
        )


def _step_error(step: Step, settings: Settings) -> Iterator[tuple[str, str]]:
    key = "notices.steps"
    if TERMINATE in step.channels:
        if step.channels != [TERMINATE] or step.to != [OFFENDER]:
            yield key, f"{A_STEP_OF_ITS_OWN}, not {_written(step)}"
        return
    for name in step.channels:
        yield from _unknown(key, name, settings)
    if "wall" in step.channels and not any(one in AUDIENCES for one in step.to):
        yield key, f"offender, holder or admins as recipients of wall, not {_written(step)}"


def _unknown(key: str, name: str, settings: Settings) -> Iterator[tuple[str, str]]:
    family, _, target = name.partition(":")
    if name == TERMINATE:
        yield key, f"channels other than {TERMINATE}, which is allowed only in [[notices.steps]]"
    elif family == "webhook" and target and target not in settings.notify.webhook:
        yield key, f"an existing webhook, not {name}: there is no [notify.webhook.{target}]"
    elif (
        name not in CHANNELS and name not in settings.notify.plugins and not (family == "webhook" and target)
    ):
        known = ", ".join([*CHANNELS, "webhook:NAME", *settings.notify.plugins])
        yield key, f"one of the channels {known}, not {name}"


def _written(step: Step) -> str:
    channels, to = (", ".join(f'"{name}"' for name in names) for names in (step.channels, step.to))
    return f"[{channels}] to [{to}]"
