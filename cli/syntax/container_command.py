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
SUDO = "sudo"
GROUP = "container"
OPTION = "--gpus"
MOST_DIGITS = 18  # Docker refuses longer numbers.
# The options without a value, of `docker run` and `nerdctl run`.
FLAGS = frozenset(
    {
        *("--detach", "--disable-content-trust", "--help", "--init", "--interactive", "--no-healthcheck"),
        *("--oom-kill-disable", "--privileged", "--publish-all", "--quiet", "--read-only", "--rm"),
        *("--sig-proxy", "--tty", "--use-api-socket"),
    }
)
SHORT_FLAGS = "ditPq"
# The options of sudo with a value.
SUDO_VALUES = frozenset(
    {
        *("--auth-type", "--chdir", "--chroot", "--close-from", "--command-timeout", "--group", "--host"),
        *("--login-class", "--other-user", "--prompt", "--role", "--type", "--user"),
    }
)
SUDO_FLAGS = "ABbEeHiKklNnPSsVv"


class TooMany(Exception):
    """A container asks for more GPUs than are reserved; the message says how many."""


def with_variables(command: list[str], environment: dict[str, str]) -> list[str]:
    """Return a command of a container engine for a reservation's environment; others as they are.

    The container gets the variables. Only their names are in the command line, because everybody can read it.
    All GPUs, or a number of them, become as many of the reserved ones. Raises TooMany.
    """
    start = _engine(command)
    engine = command[start].rpartition("/")[2] if start < len(command) else ""
    names = VARIABLES.get(engine, ())
    place = _verb(command, start) if names else None
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
    found: list[str] = []
    place = 0
    while place < len(words) and words[place][:1] == "-":
        name, sign, given = words[place].partition("=")
        length = 1 if sign or not _takes_value(words[place]) else 2
        option = words[place : place + length]
        if name == OPTION and (sign or length == len(option) == 2):  # noqa: PLR2004 - it has a value
            option = _narrowed(option, given if sign else option[1], uuids)
        found += option
        place += length
    return [*found, *words[place:]]


def _narrowed(option: list[str], value: str, uuids: list[str]) -> list[str]:
    """Return the option `--gpus` with reserved GPUs, as many as its value says, unless it names GPUs."""
    fields = value.split(",")
    counts = [field for field in fields if _count(field) is not None]
    is_one = all("=" in field for field in fields)  # Docker's default if there is no number.
    count = _count(counts[0]) if counts else 1 if is_one else None
    if not count or "device=" in value:
        return option
    if count > len(uuids):
        raise TooMany(f"{OPTION} {value}: the container asks for {count} GPUs, but the run has {len(uuids)}")
    chosen = uuids[: count if count > 0 else None]
    device = f"device={','.join(chosen)}"
    reserved = f'"{device}"' if len(chosen) > 1 else device  # It is read as a line of CSV.
    return [f"{OPTION}={','.join([reserved, *(field for field in fields if field not in counts)])}"]


def _count(field: str) -> int | None:
    """Return the number in `2` or `count=2`, -1 for all, as is every negative number, or None."""
    text = field.removeprefix("count=")
    if text == "all":
        return -1
    digits = text[1:] if text[:1] in {"+", "-"} else text
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS
    return max(-1, int(text)) if is_number else None


def _takes_value(word: str) -> bool:
    """Return whether the next word is the value of an option such as `--name` or `-itv`."""
    if word.startswith("--"):
        return word not in FLAGS and word != "--"
    return len(word[1:].lstrip(SHORT_FLAGS)) == 1


def _engine(command: list[str]) -> int:
    """Return the position of the program, which sudo, its options and variables may precede."""
    if command[0].rpartition("/")[2] != SUDO:
        return 0
    place = 1
    while place < len(command):
        word = command[place]
        if word == "--":
            return place + 1
        if word[:1] == "-":
            is_valued = word in SUDO_VALUES if word[:2] == "--" else len(word[1:].lstrip(SUDO_FLAGS)) == 1
            place += 2 if is_valued else 1
        elif "=" in word:
            place += 1
        else:
            break
    return place


def _verb(command: list[str], start: int) -> int | None:
    """Return the position of the verb, which only options, their values and the word `container` precede."""
    for place in range(start + 1, len(command)):
        word, before = command[place], command[place - 1]
        if word in VERBS:
            return place
        is_value = before[:1] == "-" and "=" not in before
        if word[:1] != "-" and not is_value and word != GROUP:
            return None
    return None
