"""Whether any administrator would hear of what fails here, when nobody else can be told."""

from canhazgpu.config.settings import Settings
from canhazgpu.events.administrators import Administrators

REMEDY = "set admin_group to a group of theirs, or notify.email.admins to their addresses"


async def unheard(settings: Settings) -> str | None:
    """Return why it may be that no administrator hears of anything, None when somebody will."""
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
        why = f"who is in {groups} cannot be looked up"
    elif settings.admin_group:
        why = f"nobody is in {groups}"
    else:
        why = f"there is no admin_group, and nobody is in {groups}"
    return f"administrators hear only where root logs in: {why}"
