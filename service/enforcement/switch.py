"""Starts the ownership of the device files if the settings say so. Otherwise nothing of it is imported."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from canhazgpu.config.settings import Settings

if TYPE_CHECKING:
    from canhazgpu.service.enforcement.enforcement import Enforcement
    from canhazgpu.service.identity.user_names import Users


def open_enforcement(settings: Settings, users: "Users", group: int | None) -> "Enforcement | None":
    """Return what owns the device files, or None; files that were owned before get their permissions back.

    `group`: the gid of the administrators' group.
    """
    if settings.enforcement.devices:
        from canhazgpu.service.enforcement.enforcement import Enforcement  # noqa: PLC0415

        return Enforcement(settings, users, group)
    if any(Path(settings.state_dir).glob("device-files.*")):
        from canhazgpu.service.enforcement.restoration import give_back  # noqa: PLC0415

        give_back(settings)
    return None


def connect(enforcement: Any, reconciler: Any, scanner: Any, journal: Any) -> None:
    """Connect the enforcement to what it follows."""
    enforcement.journal_state = lambda: reconciler.journal_state
    enforcement.seen = lambda: scanner.seen
    enforcement.stale, journal.follow = reconciler.note, enforcement.follow
    scanner.checks.append(enforcement.check)
