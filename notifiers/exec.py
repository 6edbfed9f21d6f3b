"""Notices to a program of the site's own, each as JSON on its standard input."""

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import format_duration
from canhazgpu.events.notices import Notice
from canhazgpu.events.text import printable
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.notifiers.program import KEPT_LAST, Ended, run

RECIPIENT = "program"  # Whom the program tells is its own business.
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


class Exec:
    """The channel `exec`. Exit status 0 is delivered, 75 and a hang are tried again, all else is failed.

    A hang is tried again because what hangs is most often a network; a program that may have done its
    work before it hung knows the notice by its id.
    """

    name = "exec"

    def __init__(self, settings: Settings) -> None:
        """Take the program from the settings."""
        self._command = settings.notify.exec.command
        self._seconds = settings.notify.exec.timeout

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the program, which gets every notice of this channel."""
        del notice
        return [RECIPIENT]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Run the program once; what it printed last is the detail when it fails."""
        del first
        environment = {"CANHAZGPU_NOTICE": notice.notice, "CANHAZGPU_KIND": notice.kind}
        text = msgspec.json.encode(notice) + b"\n"
        try:
            verdict = self._verdict(await run(self._command, environment, self._seconds, text))
        except (OSError, ValueError) as error:  # The settings are wrong, not the notice: it waits.
            reason = error.strerror if isinstance(error, OSError) else None
            verdict = "retry", f"it cannot be started: {reason or type(error).__name__}"
        return [Outcome(one, *verdict) for one in recipients]

    def _verdict(self, ended: Ended) -> tuple[str, str]:
        if ended.status == 0:
            return "delivered", ""
        said = printable(b" ".join(ended.last.split()), KEPT_LAST)
        if ended.status is None:
            what = f"no end within {format_duration(self._seconds)}"
        elif ended.status < 0:
            what = f"ended by signal {-ended.status}"
        else:
            what = f"exit status {ended.status}"
        later = ended.status in (None, TRY_LATER)
        return "retry" if later else "failed", f"{what}: {said}" if said else what
