"""Makes `docker run` in `canhazgpu run` pass on what proves whose container it is."""

from __future__ import annotations

RESERVATION, TOKEN = "CANHAZGPU_RESERVATION", "CANHAZGPU_TOKEN"
# Docker starts containers as root for anybody. Podman starts them as its user, which the kernel proves.
VARIABLES = {
    "docker": (RESERVATION, TOKEN),
    "nerdctl": (RESERVATION, TOKEN),
    "podman": (RESERVATION,),
}
VERBS = ("run", "create")
GROUP = "container"


def with_variables(command: list[str], environment: dict[str, str]) -> list[str]:
    """Return a command of a container engine so that the container gets these variables; others as they are.

    Only the names are in the command line, because everybody can read it.
    """
    names = VARIABLES.get(command[0].rpartition("/")[2], ())
    place = _verb(command) if names else None
    if place is None:
        return command
    more = [word for name in names if name in environment for word in ("--env", name)]
    return [*command[: place + 1], *more, *command[place + 1 :]]


def _verb(command: list[str]) -> int | None:
    """Return the position of the verb, which only options, their values and the word `container` precede."""
    for place in range(1, len(command)):
        word, before = command[place], command[place - 1]
        if word in VERBS:
            return place
        is_value = before[:1] == "-" and "=" not in before
        if word[:1] != "-" and not is_value and word != GROUP:
            return None
    return None
