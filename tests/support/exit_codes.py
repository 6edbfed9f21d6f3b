"""The exit codes that tests expect of a command which canhazgpu itself refuses."""

from collections.abc import Sequence


def code_of(words: Sequence[str], code: int) -> int:
    """Return the code of these words: `run` has one for all failures of canhazgpu."""
    return 125 if words[0] == "run" else code
