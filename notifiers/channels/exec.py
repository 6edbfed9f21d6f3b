"""The channel `exec`: passes each notice as JSON to a configured program on its standard input."""

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import format_duration
from canhazgpu.events.notices import Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.channels.site_program import KEPT_LAST, ProgramResult, run
from canhazgpu.notifiers.outcome import Outcome

RECIPIENT = "program"  # The program decides whom to notify.
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


class Exec:
    """The channel `exec`. Exit status 0 means delivered; 75 and a timeout are retried; all else is failed.

    A timeout is retried because its cause is usually the network. A program that has done its work before
    the timeout can recognise the notice by its id.
    """

    name = "exec"

    def __init__(self, settings: Settings) -> None:
        """Take the program from the settings."""
        self._command = settings.notify.exec.command
        self._seconds = settings.notify.exec.timeout

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the name of the program, the recipient of all notices."""
        del notice
        return [RECIPIENT]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Run the program once; if it fails, its last output is the detail."""
        del first
        environment = {"CANHAZGPU_NOTICE": notice.notice, "CANHAZGPU_KIND": notice.kind}
        text = msgspec.json.encode(notice) + b"\n"
        try:
            verdict = self._verdict(await run(self._command, environment, self._seconds, text))
        except (OSError, ValueError) as error:  # The settings are wrong, not the notice, so retry.
            reason = error.strerror if isinstance(error, OSError) else None
            verdict = "retry", f"it cannot be started: {reason or type(error).__name__}"
        return [Outcome(one, *verdict) for one in recipients]

    def _verdict(self, ended: ProgramResult) -> tuple[str, str]:
        if ended.status == 0:
            return "delivered", ""
        said = printable(b" ".join(ended.last.split()), KEPT_LAST)
        if ended.status is None:
            what = f"not finished within {format_duration(self._seconds)}"
        elif ended.status < 0:
            what = f"ended by signal {-ended.status}"
        else:
            what = f"exit status {ended.status}"
        later = ended.status in (None, TRY_LATER)
        return "retry" if later else "failed", f"{what}: {said}" if said else what
