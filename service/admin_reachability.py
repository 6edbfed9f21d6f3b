"""Checks whether notices to administrators can reach anybody."""

from canhazgpu.config.settings import Settings
from canhazgpu.events.linux.administrators import Administrators

REMEDY = "set admin_group to their group, or notify.email.admins to their addresses"


async def why_unreachable(settings: Settings) -> str | None:
    """Return why notices may reach no administrator, or None if they reach somebody."""
    notify, named = settings.notify, settings.notices.admin_channels
    on = [one for one in notify.on if one in named or one.partition(":")[0] in named]
    if [one for one in on if one not in ("wall", "log") and (one != "email" or notify.email.admins)]:
        return None
    if "wall" not in on:
        return "no channel in notices.admin_channels reaches administrators"
    asked = Administrators(settings.admin_group)
    members, whole = await asked.members()
    if members:
        return None
    groups = " or ".join(asked.groups)
    if not whole:
        why = f"the members of {groups} cannot be looked up"
    elif settings.admin_group:
        why = f"nobody is in {groups}"
    else:
        why = f"admin_group is not set, and nobody is in {groups}"
    return f"notices to administrators appear only where root is logged in: {why}"
