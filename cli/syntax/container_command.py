"""Makes `docker run` in `canhazgpu run` use the reserved GPUs, and pass on whose container it is."""

from __future__ import annotations

RESERVATION, TOKEN, GPUS = "CANHAZGPU_RESERVATION", "CANHAZGPU_TOKEN", "NVIDIA_VISIBLE_DEVICES"
# Docker starts containers as root for anybody. Podman starts them as its user, which the kernel proves.
VARIABLES = {
    "docker": (RESERVATION, TOKEN),
    "nerdctl": (RESERVATION, TOKEN),
    "podman": (RESERVATION,),
}
VERBS = ("run", "create")
GROUP = "container"
OPTION = "--gpus"
# The options without a value, of `docker run` and `nerdctl run`.
FLAGS = frozenset(
    {
        *("--detach", "--disable-content-trust", "--help", "--init", "--interactive", "--no-healthcheck"),
        *("--oom-kill-disable", "--privileged", "--publish-all", "--quiet", "--read-only", "--rm"),
        *("--sig-proxy", "--tty", "--use-api-socket"),
    }
)
SHORT_FLAGS = "ditPq"


def with_variables(command: list[str], environment: dict[str, str]) -> list[str]:
    """Return a command of a container engine for a reservation's environment; others as they are.

    The container gets the variables. Only their names are in the command line, because everybody can read it.
    All GPUs, or as many as are reserved, become the reserved ones.
    """
    engine = command[0].rpartition("/")[2]
    names = VARIABLES.get(engine, ())
    place = _verb(command) if names else None
    if place is None:
        return command
    more = [word for name in names if name in environment for word in ("--env", name)]
    rest = command[place + 1 :]
    uuids = [uuid for uuid in environment.get(GPUS, "").split(",") if uuid]
    if uuids and TOKEN in names:
        rest = _with_gpus(rest, uuids)
    return [*command[: place + 1], *more, *rest]


def _with_gpus(words: list[str], uuids: list[str]) -> list[str]:
    """Return the words after the verb; what follows the image is the container's own."""
    device = f"device={','.join(uuids)}"
    reserved = f'"{device}"' if len(uuids) > 1 else device  # It is read as a line of CSV.
    meant = {"all", "-1", str(len(uuids))}
    found: list[str] = []
    place = 0
    while place < len(words) and words[place][:1] == "-":
        name, sign, given = words[place].partition("=")
        length = 1 if sign or not _takes_value(words[place]) else 2
        option = words[place : place + length]
        if name == OPTION:
            value = given if sign else option[-1]
            fields = value.split(",")
            kept = [field for field in fields if field.removeprefix("count=") not in meant]
            if kept != fields and "device=" not in value:
                option = [f"{OPTION}={','.join([reserved, *kept])}"]
        found += option
        place += length
    return [*found, *words[place:]]


def _takes_value(word: str) -> bool:
    """Return whether the next word is the value of an option such as `--name` or `-itv`."""
    if word.startswith("--"):
        return word not in FLAGS and word != "--"
    valued = word[1:].lstrip(SHORT_FLAGS)
    return len(valued) == 1


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
