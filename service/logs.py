"""The log of this process on standard error: a JSON object per line, or text if it is a terminal.

The journal is told the priority of each line too.
"""

import json
import os
import sys
from typing import Any

from canhazgpu.events.sanitize import printable

# structlog looks for rich, to print errors to a terminal. The log is JSON; rich costs 4 MB and 40 ms.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

LONGEST_LINE = 1000  # Characters of a line of a traceback.
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # Those of syslog(3).


def configure() -> None:
    """Set up structlog for this process."""
    rendered = _text if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _with_priority(rendered) if _is_journal() else rendered,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _text(logger: Any, method: str, event: Any) -> str:
    """Return an event for a terminal, which nothing in it can control: time, level, name and facts."""
    del logger, method
    first = [event.pop(name, "") for name in ("timestamp", "level", "event")]
    trace = event.pop("exception", "").splitlines()
    facts = [f"{key}={json.dumps(value, default=str)}" for key, value in event.items()]
    return "\n".join([" ".join([*first, *facts]), *(printable(line, LONGEST_LINE) for line in trace)])


def _with_priority(rendered: Any) -> Any:
    def prefixed(logger: Any, method: str, event: Any) -> str:
        """Return a line that begins with its priority, see sd-daemon(3)."""
        return f"<{PRIORITIES.get(event['level'], PRIORITIES['info'])}>{rendered(logger, method, event)}"

    return prefixed


def _is_journal() -> bool:
    """Tell whether standard error is the journal: $JOURNAL_STREAM names its device and inode."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
