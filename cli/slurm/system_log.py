"""The messages of `canhazgpu slurm`: slurmd keeps nothing of what its scripts print."""

import sys
import syslog

from canhazgpu.events.sanitize import LONGEST_WORDS, printable


def warn(text: str) -> None:
    """Write a line to standard error and to the system log."""
    line = printable(" ".join(text.split()), 2 * LONGEST_WORDS)
    sys.stderr.write(f"canhazgpu slurm: {line}\n")
    syslog.openlog("canhazgpu-slurm", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)
