"""The channel `wall`: notices on the terminals of the recipient, or with wall(1) on all terminals."""

import contextlib
import os
import signal
import subprocess

import anyio
import msgspec
from anyio import to_thread

from canhazgpu.config.settings import Settings
from canhazgpu.events.linux.administrators import Administrators
from canhazgpu.events.linux.user_lookup import LookUp, look_up
from canhazgpu.events.notices import ADMINS, OFFENDER, Notice
from canhazgpu.notifiers.channels.terminals import LONGEST, outcome, owned_terminals, terminals_of, write
from canhazgpu.notifiers.messages.plain_text import QUESTIONS, lines
from canhazgpu.notifiers.outcome import Outcome

PROGRAMS = ("/usr/bin/wall", "/bin/wall")
PATIENCE = 5.0  # Timeout of wall(1) in seconds, because it waits for blocked terminals.
EVERYONE = "everyone"
CUT = "  … more: canhazgpu status"
LONGEST_LINE = (
    480  # Maximum length of the first line; other lines are never cut, because half a command would be wrong.
)


class Wall:
    """The channel `wall`. It never waits for a terminal, and does not retry."""

    name = "wall"

    def __init__(self, settings: Settings) -> None:
        """Take the audience from the settings."""
        self._everyone = settings.notify.wall.audience == EVERYONE
        self._administrators = Administrators(settings.admin_group)
        self._uids: dict[str, int] = {}  # Administrators are cached, so that a directory is not asked again.
        self._asked: dict[str, LookUp] = {}  # Unfinished look-ups by user.

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the person, everyone, or the administrators of this host; nobody if no user is proven."""
        if notice.channel and notice.to:
            return [notice.to]
        if notice.audience == ADMINS:
            self._uids = {"root": 0} | await self._administrators.logged_in()
            return await to_thread.run_sync(_with_terminals, self._uids)
        if self._everyone and notice.violations and notice.audience == OFFENDER:
            return [EVERYONE]
        return [notice.person] if notice.person else []

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Write to all terminals of each recipient; return one Outcome per terminal."""
        del first
        outcomes: list[Outcome] = []
        for recipient in recipients:
            if recipient == EVERYONE:
                outcomes.append(await _wall(notice))
            else:
                outcomes += await self._notify(notice, recipient)
        return outcomes

    async def _notify(self, notice: Notice, recipient: str) -> list[Outcome]:
        user, _, only = recipient.partition(":")  # A dead letter's recipient may name one terminal.
        uid = self._uids.get(user) if notice.audience == ADMINS else None
        if user == notice.user:
            uid = notice.uid
        if uid is None:
            asked = self._asked.pop(user, None) or look_up(user)
            uid = (await asked.found()).get(user)
            if not asked.ended:
                self._asked[user] = asked  # Next time its answer may be there.
                return [Outcome(user, "retry", "the user database does not answer")]
        if uid is None:
            return [Outcome(user, "nobody", "there is no such user on this host")]
        return await to_thread.run_sync(_write, notice, user, uid, only)


def _with_terminals(uids: dict[str, int]) -> list[str]:
    """Return the users with a terminal of their own; a user's terminal after `su` is not root's."""
    return [name for name, uid in uids.items() if owned_terminals(uid, name)]


def _write(notice: Notice, user: str, uid: int, only: str) -> list[Outcome]:
    text = message(lines(notice))
    terminals = [f"/dev/{only}"] if only else terminals_of(uid, user)
    told = [outcome(user, path, write(path, uid, text)) for path in terminals]
    return told or [Outcome(user, "nobody", "has no terminal")]


def message(text: list[str]) -> bytes:
    """Return the text for a terminal: one bell and whole lines, at most LONGEST bytes.

    If not everything fits, lines are left out from the first one that does not fit. The contact line is kept.
    """
    first, *rest = text or [""]
    first = _beginning(first)
    if _size([first, *rest]) > LONGEST:
        last = [line for line in rest[-1:] if line.startswith(QUESTIONS) and _size([line]) <= LONGEST_LINE]
        body, rest = rest[: len(rest) - len(last)], []
        while body and _size([first, *rest, body[0], CUT, *last]) <= LONGEST:
            rest.append(body.pop(0))
        rest += [CUT, *last]
    return "\r\n".join(["\a", first, *rest, ""]).encode()


def _size(text: list[str]) -> int:
    return len("\r\n".join(["\a", *text, ""]).encode())


def _beginning(line: str) -> str:
    """Return a line, cut so that there is room for others."""
    data = line.encode()
    return line if len(data) <= LONGEST_LINE else data[:LONGEST_LINE].decode(errors="ignore") + "…"


async def _wall(notice: Notice) -> Outcome:
    program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        return Outcome(EVERYONE, "failed", "wall(1) is not installed")
    text = "\n".join(["", *lines(msgspec.structs.replace(notice, audience=ADMINS)), ""]).encode()
    process = await anyio.open_process(
        [program, "-t", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    async with process:
        with anyio.move_on_after(PATIENCE) as limit:
            if process.stdin:
                with contextlib.suppress(anyio.BrokenResourceError):
                    await process.stdin.send(text)
                await process.stdin.aclose()
            await process.wait()
        if limit.cancelled_caught:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return Outcome(EVERYONE, "unproven", f"wall did not end within {PATIENCE:g} s")
    return Outcome(
        EVERYONE, "unproven" if process.returncode == 0 else "failed", f"wall: {process.returncode}"
    )
