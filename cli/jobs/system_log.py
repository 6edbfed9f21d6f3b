"""The messages of `slurm` and `pbs`: a scheduler keeps little of what its scripts print."""

import sys
import syslog

from canhazgpu.events.sanitize import LONGEST_WORDS, printable


def warn(kind: str, text: str) -> None:
    """Write a line to standard error and to the system log."""
    line = printable(" ".join(text.split()), 2 * LONGEST_WORDS)
    sys.stderr.write(f"canhazgpu {kind}: {line}\n")
    syslog.openlog(f"canhazgpu-{kind}", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)
