"""What a notice says before it is lines or a page: sentences, commands, uses of GPUs, tables.

Every string in it is ready to be shown: on one line, without anything invisible, bounded.
"""

import msgspec


class Sentence(msgspec.Struct, frozen=True):
    """One or more whole sentences."""

    text: str


class Commands(msgspec.Struct, frozen=True):
    """What to type: rows of purpose and command, under a sentence that may be empty.

    `aside`: nothing that has to be done, only where more is to be seen.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    aside: bool = False


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process on a GPU; `inside` names its container, or is empty."""

    pid: int
    name: str
    memory: str
    inside: str = ""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One violation. `until`, `lasted` and `end` are empty while it lasts, `holder` unless one is wronged."""

    gpu: int
    model: str
    violation: str
    since: str
    memory: str
    holder: str = ""
    processes: tuple[Process, ...] = ()
    more: int = 0  # Processes that are not listed.
    until: str = ""
    lasted: str = ""
    end: str = ""


class Uses(msgspec.Struct, frozen=True):
    """Violations of one notice: all of them last, or all are over."""

    title: str
    rows: tuple[Use, ...]


class Table(msgspec.Struct, frozen=True):
    """Rows of cells; without `columns` the first cell of a row says what the second is."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part = Sentence | Commands | Uses | Table


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A whole notice. `subject` and `headline` say the same; the headline is a sentence to its reader.

    `mood` is bad, good or plain: what is wrong, what is right again, what is just so.
    """

    subject: str
    headline: str
    parts: tuple[Part, ...] = ()
    mood: str = "plain"
