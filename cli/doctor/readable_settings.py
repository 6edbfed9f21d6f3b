"""`canhazgpu doctor`: the settings, as far as this user can read them."""

import os

from canhazgpu.cli.doctor.permissions import skipped_check
from canhazgpu.client import socket_path
from canhazgpu.config.load import ConfigError, load
from canhazgpu.config.settings import Settings
from canhazgpu.events.default_paths import CONFIG

Finding = tuple[str, str, str]


def settings() -> tuple[Settings | None, Finding]:
    """Load the settings, or report what is wrong with them.

    If the host's file is closed to this user, the defaults stand in for it.
    """
    closed = not os.environ.get("CANHAZGPU_CONFIG") and os.path.exists(CONFIG)  # noqa: PTH110
    if closed and not os.access(CONFIG, os.R_OK):
        assumed = Settings(socket=socket_path())
        return assumed, skipped_check(assumed, f"{CONFIG} is not readable; the defaults are assumed")
    try:
        loaded = load()
    except ConfigError as error:
        return None, ("fail", str(error), "fix it, then run `canhazgpu config check`")
    named = sorted({origin for origin in loaded.origins.values() if origin != "default"})
    return loaded.settings, ("ok", f"from {', '.join(named)}" if named else "all have their defaults", "")
