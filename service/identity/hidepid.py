"""Checks whether /proc hides the processes of other users (mount option hidepid) from a process."""

from pathlib import Path

CAP_SYS_PTRACE = 19
OFF, PTRACEABLE = frozenset({"0", "off"}), frozenset({"4", "ptraceable"})
ROOT_GROUP = 0  # The group that sees everything, unless the option gid names another one.
HIDDEN = "/proc hides the processes of other users from the service (hidepid)"
REMEDY = "run the service as root, with CAP_SYS_PTRACE, or in the group that /proc is mounted with as gid="


def hides_others(pid: int | None = None) -> bool | None:
    """Return whether processes of other users are hidden from this process, or from `pid`; None: unknown."""
    folder = Path("/proc", "self" if pid is None else str(pid))
    try:
        options = _options(folder)
        mode = options.get("hidepid", "off")
        if mode in OFF:
            return False
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        if int(status["CapEff"], 16) >> CAP_SYS_PTRACE & 1:
            return False
        groups = {int(one) for one in (*status["Gid"].split()[-1:], *status["Groups"].split())}
        return mode in PTRACEABLE or int(options.get("gid", ROOT_GROUP)) not in groups
    except (OSError, KeyError, ValueError):
        return None


def _options(folder: Path) -> dict[str, str]:
    """Return the options of the last mount on /proc, as seen by that process, or else by this one."""
    try:
        mounts = (folder / "mounts").read_text("utf-8", "replace")
    except OSError:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace")
    rows = [line.split(" ") for line in mounts.splitlines()]
    texts = [row[3] for row in rows if row[1:3] == ["/proc", "proc"]]
    return dict(option.partition("=")[::2] for option in texts[-1].split(",")) if texts else {}
