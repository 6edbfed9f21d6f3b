"""Reaching the fleet's Redis: whatever it answers, or does not, is one kind of error for the rest."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import NoPermissionError, RedisError

from canhazgpu.events.redis_client.store import unreachable

# What a server answers is not to be trusted: it may be none of Redis.
TROUBLE = (RedisError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
NEEDS_RIGHTS = "`canhazgpu redis acl --host` prints the rights that a host needs"


class FleetDown(Exception):
    """The copy cannot go on now; the message says why. The outcome of the last command is unknown."""


@contextmanager
def fleet_errors() -> Iterator[None]:
    """Raise FleetDown for the errors of the fleet's Redis."""
    try:
        yield
    except NoPermissionError as error:
        raise FleetDown(f"{' '.join(str(error).split())[:200]}: {NEEDS_RIGHTS}") from error
    except TROUBLE as error:
        raise FleetDown(unreachable(error)) from error
