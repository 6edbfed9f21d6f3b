"""Finds what other packages offer by entry point: channels and GPU providers."""

from importlib.metadata import entry_points
from typing import Any


class NotOffered(Exception):
    """No package, or more than one, has the entry point; the message says which."""


def load_entry_point(group: str, name: str) -> Any:
    """Return the object of an entry point. Raises NotOffered, and whatever its import raises."""
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if not found:
        raise NotOffered(f"no installed package has an entry point of this name in {group}")
    if len(found) > 1:
        raise NotOffered(f"several packages have it: {', '.join(sorted(found))}")
    return next(iter(found.values())).load()
