"""Why the service's socket cannot be reached, and what to do about it: for each reason its own remedy."""

import errno
import os
import stat

from canhazgpu.events.default_paths import LOG

LONGEST_SOCKET = 107  # Bytes of a Unix socket's path.
START_IT = "start it with `canhazgpu serve` (or `systemctl start canhazgpu`)"
OTHER_PATH = "name its socket in $CANHAZGPU_SOCKET or the settings"


def explain(path: str, error: Exception) -> tuple[str, str]:
    """Return why the socket at `path` cannot be used, and the remedy."""
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, OSError) and len(os.fsencode(path)) > LONGEST_SOCKET:
        return why, f"the path of a socket can have at most {LONGEST_SOCKET} bytes: use a shorter one"
    match getattr(error, "errno", None):
        case errno.ENOENT:
            remedy = f"if it is not running, {START_IT}; if it is, set $CANHAZGPU_SOCKET to its socket"
        case errno.ECONNREFUSED if _is_other(path):
            why, remedy = "it is not a socket", f"remove it and {START_IT}, or {OTHER_PATH}"
        case errno.ECONNREFUSED:
            why, remedy = f"{why}: nothing is listening there", f"the service has ended: {START_IT}; {LOG}"
        case errno.ENOTDIR:
            remedy = f"part of the path is a file: {OTHER_PATH}"
        case errno.EACCES | errno.EPERM:
            remedy = _permission(path)
        case errno.EAGAIN:
            why = "too many clients are waiting for it"
            remedy = "check whether it is stopped: `systemctl status canhazgpu`"
        case _:
            remedy = LOG
    return why, remedy


def _is_other(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - pathlib would cost time
    except OSError:
        return False


def _permission(path: str) -> str:
    """Return what an administrator has to allow: the first folder that is closed, or else the socket."""
    folder = ""
    for name in os.path.dirname(os.path.abspath(path)).split("/"):  # noqa: PTH100, PTH120
        folder = f"{folder}{name}/"
        if not os.access(folder, os.X_OK):
            what = f"you do not have permission to enter {folder}"
            return f"{what}: ask an administrator to run `chmod o+x {folder}`"
    what = "you do not have permission to write to the socket"
    return f"{what}: ask an administrator to run `chmod 0666 {path}`"
