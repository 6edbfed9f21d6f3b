"""The content of a notice before it is rendered as text or HTML: sentences, commands, uses of GPUs, tables.

Every string in it is safe to print: one line, bounded, without control characters.
"""

import msgspec


class Sentence(msgspec.Struct, frozen=True):
    """One or more complete sentences."""

    text: str


class Commands(msgspec.Struct, frozen=True):
    """Suggested commands: rows of purpose and command, under a title that may be empty.

    `aside`: the commands only show more information; none of them has to be run.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    aside: bool = False


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process on a GPU. `inside` is the name of its container, or empty."""

    pid: int
    name: str
    memory: str
    inside: str = ""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One violation. `until`, `lasted` and `end` are empty while it is open; `holder` if there is none.

    `memory` is empty if it is not reported.
    """

    gpu: str
    model: str
    violation: str
    since: str
    memory: str
    holder: str = ""
    processes: tuple[Process, ...] = ()
    more: int = 0  # Number of processes that are not listed.
    until: str = ""
    lasted: str = ""
    end: str = ""


class Uses(msgspec.Struct, frozen=True):
    """The violations of one notice: all open, or all ended."""

    title: str
    rows: tuple[Use, ...]


class Table(msgspec.Struct, frozen=True):
    """Rows of cells. Without `columns`, the first cell of each row is a label for the second."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part = Sentence | Commands | Uses | Table


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a whole notice. The headline is the subject as a sentence addressed to the reader.

    `mood` is bad (something is wrong), good (it is resolved) or plain (neither).
    """

    subject: str
    headline: str
    parts: tuple[Part, ...] = ()
    mood: str = "plain"
