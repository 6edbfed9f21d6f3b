"""The exit codes of all commands. Help texts and docs/users.md have the same table; a test compares them.

`run` ends with the code of its command. So that the two cannot be confused, it reports its own failures with
one code, as docker and timeout(1) do, and names their kind in the message.
"""

DONE, REFUSED, USAGE, UNREACHABLE, NOT_RESERVED = 0, 1, 2, 3, 4
RUN_FAILED, NOT_EXECUTABLE, NOT_FOUND, INTERRUPTED = 125, 126, 127, 130

MEANINGS = {
    DONE: "done",
    REFUSED: "refused or failed, for instance because not enough GPUs are free",
    USAGE: "incorrect usage, or a settings file that cannot be used",
    UNREACHABLE: "the service cannot be reached",
    NOT_RESERVED: "check: the program would use a GPU that you have not reserved",
    INTERRUPTED: "interrupted with Ctrl-C",
}
RUN_MEANINGS = {
    RUN_FAILED: "canhazgpu refused or failed; the command was not started",
    NOT_EXECUTABLE: "the command cannot be executed; nothing stays reserved",
    NOT_FOUND: "the command was not found; nothing was reserved",
    128: "a signal ended the command or the wait; its number is added to 128 (130: Ctrl-C)",
}
# A refusal needs no name: its sentence is the reason.
KINDS = {USAGE: "usage", UNREACHABLE: "no service", NOT_RESERVED: "not reserved"}
_RUN: list[bool] = []


class CommandEnded(Exception):
    """The command has ended; what there was to say has been said."""

    def __init__(self, code: int) -> None:
        """Store the exit code."""
        super().__init__(code)
        self.code = code


def use_run_codes() -> None:
    """Report failures of this process as those of `run`, because it is to become a command."""
    _RUN[:] = [True]


def exit_code_for(code: int) -> int:
    """Return the code to exit with for a failure with this code."""
    return RUN_FAILED if _RUN and code in (REFUSED, USAGE, UNREACHABLE, NOT_RESERVED) else code


def error_line(message: str, code: int, kind: str = "") -> str:
    """Return the line for a failure; that of `run` begins with its kind."""
    kind = (kind or KINDS.get(code, "")) if _RUN else ""
    return f"Error: {f'{kind}: ' if kind else ''}{' '.join(message.split())}\n"


def paragraph(meanings: dict[int, str], first: str = "Exit codes:") -> str:
    """Return a table of codes for the end of a help text."""
    return "\n\n\b\n" + "\n".join([first, *(f"  {code:<5}{text}" for code, text in meanings.items())])
