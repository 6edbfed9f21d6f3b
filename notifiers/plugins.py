"""Custom notifiers: they are found by the name of their entry point and created with their settings."""

import inspect
from collections.abc import Iterator
from typing import Any

from canhazgpu.config.entry_points import NotOffered, load_entry_point
from canhazgpu.config.routing import RESERVED_NAMES
from canhazgpu.config.settings import Settings
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.channel import Channel

GROUP = "canhazgpu.notifiers"
METHODS = ("recipients", "deliver")


class PluginFailed(Exception):
    """A configured plugin cannot be used; the message says which one and why, on one line."""


def plugins(settings: Settings) -> Iterator[Channel]:
    """Yield every notifier of `notify.plugins`, in the order of the file. Raises PluginFailed."""
    for name, own in settings.notify.plugins.items():
        yield _plugin(name, own, settings)


def _plugin(name: str, own: dict[str, Any], settings: Settings) -> Channel:
    if name in RESERVED_NAMES:
        raise _failed(name, "this name is already in use; rename its entry point")
    try:
        channel: Channel = load_entry_point(GROUP, name)(own, settings)
    except NotOffered as error:
        raise _failed(name, str(error)) from error
    except Exception as error:
        raise _failed(name, f"{type(error).__name__}: {error}") from error
    called = getattr(channel, "name", None)
    if called != name:
        raise _failed(name, f"its channel is named {called!r} instead of {name!r}")
    for method in METHODS:
        if not inspect.iscoroutinefunction(getattr(channel, method, None)):
            raise _failed(name, f"its channel has no `async def {method}`")
    return channel


def _failed(name: str, why: str) -> PluginFailed:
    return PluginFailed(printable(f"notify.plugins.{name}: {' '.join(why.split())}", 300))
