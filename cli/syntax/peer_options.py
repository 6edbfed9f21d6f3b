"""Options of Slurm, docker and nvidia-smi, and what to type here instead. Only read after a mistake."""

from collections.abc import Collection, Sequence
from itertools import zip_longest

from canhazgpu.events.durations import parse_duration

HERE = "only the GPUs of this host are shared"
QUEUE = "leave it out: queue lists all requests, with their expected start"
BY_ID = "name a request by its id, as `canhazgpu queue` shows it"
UNITS = {"--time": "m", "-t": "m", "--hours": "h"}  # Of a number alone: Slurm means minutes.
# Options that mean something else, or nothing, for one command.
OF_COMMAND = {
    "queue": dict.fromkeys(
        ("-u", "--user", "--me", "--mine", "-l", "--long", "--start", "-a", "--all", "-t", "--states"), QUEUE
    ),
    "history": dict.fromkeys(
        ("--me", "--mine", "--my"), "leave it out: without --user and --gpu, history lists yours"
    ),
    "cancel": {
        **dict.fromkeys(
            ("--me", "--mine"), "leave it out: without --user, cancel applies to your own requests"
        ),
        **dict.fromkeys(("-n", "--name", "-t", "--state", "--jobid", "-j", "--id"), BY_ID),
    },
    "top": dict.fromkeys(("-1", "--once", "-b", "-n"), "`canhazgpu status --long` prints the table once"),
    "status": dict.fromkeys(("-N", "--node", "-p"), f"leave it out: {HERE}"),
}
# What an option is called here, as it is typed.
OPTIONS = {
    **dict.fromkeys(
        ("--time", "-t", "-T", "--time-limit", "--walltime", "--hours", "--ttl", "--for", "--timeout"),
        "--duration 2h",
    ),
    **dict.fromkeys(
        ("--gres", "--gpus-per-node", "--gpus-per-task", "--num-gpus", "--ngpus", "--count"), "--gpus 2"
    ),
    **dict.fromkeys(("--gpu", "--gpu-id", "--device", "--devices", "--id", "--ids", "-i"), "--gpu-ids 0,2"),
    **dict.fromkeys(("--job-name", "-J", "--name", "--comment", "--message", "-m"), "--note TEXT"),
    **dict.fromkeys(("-G", "--gpu-ids"), "--gpu 3"),
    **dict.fromkeys(("--limit", "--lines", "--tail", "--max"), "--number 20"),
    **dict.fromkeys(("-S", "--start", "--starttime"), "--since 7d"),
    **dict.fromkeys(("-E", "--end", "--endtime"), "--until yesterday"),
    **dict.fromkeys(("-d", "--delay"), "--interval 5s"),
    **dict.fromkeys(("--me", "--my"), "--mine"),
    **dict.fromkeys(("--immediate", "-I", "--no-wait"), "--nonblock"),
    **dict.fromkeys(("--loop", "-l", "-w", "--follow"), "--watch"),
    **dict.fromkeys(("--format", "--query-gpu", "--output", "-o"), "--json"),
}
# Options that need no counterpart.
NEEDLESS = {
    **dict.fromkeys(
        ("--partition", "-p", "--account", "-A", "--qos", "--nodes", "-N", "--ntasks", "--ntasks-per-node"),
        HERE,
    ),
    **dict.fromkeys(("--nodelist", "--exclude", "-x", "--constraint", "-C", "--reservation"), HERE),
    **dict.fromkeys(("--cpus-per-task", "-c", "--mem"), "only GPUs are reserved"),
    **dict.fromkeys(("--pty", "--interactive", "-it", "-ti"), "the command has your terminal"),
    **dict.fromkeys(
        ("--label", "-l", "--unbuffered", "--export"), "the command has your terminal and variables"
    ),
    **dict.fromkeys(("--chdir", "-D", "--workdir"), "the command starts in the current directory"),
    **dict.fromkeys(("--volume", "-v", "--mount"), "the command sees the files of the host"),
    "--exclusive": "nobody else gets the GPUs that you reserve",
    **dict.fromkeys(
        ("--dependency", "--array", "-a"), "use && or a loop in your shell; there is no batch queue"
    ),
    **dict.fromkeys(("--requeue", "--hold", "-H"), "there is no batch queue"),
    **dict.fromkeys(("--until", "--deadline"), "use --duration 2h, counted from the start"),
    **dict.fromkeys(
        ("--start", "--begin", "-b"), "`canhazgpu reserve --begin TIME` books GPUs for a later time"
    ),
    **dict.fromkeys(("--mail-type", "--mail-user"), "put && mail(1) after the command"),
    "--wrap": "put the command after --",
    **dict.fromkeys(("--test-only", "--dry-run"), "`canhazgpu status --free` shows what is free"),
    **dict.fromkeys(("--yes", "-y"), "there are no questions to confirm"),
    **dict.fromkeys(("--force", "-f"), "GPUs of others cannot be taken"),
    "--rm": "the GPUs are released when the command ends",
    "--detach": "use nohup, tmux or & in your shell",
    **dict.fromkeys(("--output", "-o", "--error", "-e"), "redirect the command, as in > train.log 2>&1"),
}


def whole_option(option: str, words: Collection[str]) -> str:
    """Return `-it` if the parser stopped at its first letter, else `option`."""
    return next((word for word in words if word in NEEDLESS and word.startswith(option)), option)


def option_hint(option: str, own: Collection[str], words: Sequence[str] = ()) -> str | None:
    """Return what to type instead of an option of another program; `own` are those of the command here.

    `words` are those that were typed, from the command on.
    """
    command = words[0] if words else ""
    if option in OF_COMMAND.get(command, ()):
        return OF_COMMAND[command][option]
    if option in NEEDLESS and "--gpus" in own:
        return f"leave it out: {NEEDLESS[option]}"
    here = OPTIONS.get(option)
    if not here or here.split()[0] not in own:
        return None
    value = _value(option, words)
    unit = UNITS.get(option, "") if value.isascii() and value.isdecimal() else ""
    return f"use {_with_value(here, value + unit)}"


def _value(option: str, words: Sequence[str]) -> str:
    """Return the value that an option was typed with, or an empty text."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else following
    return ""


def _with_value(here: str, value: str) -> str:
    """Return an example of an option here with the value that was typed, if it is one here too."""
    name, _, example = here.partition(" ")
    if name == "--duration" and _is_duration(value):
        example = value if " " not in value else f"'{value}'"
    elif name == "--gpus":  # Slurm's `gpu:2`, `a100:2` or `2`.
        count = value.rpartition(":")[2]
        example = count if count.isascii() and count.isdecimal() and int(count) else example
    return f"{name} {example}".strip()


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text) >= 1
    except ValueError:
        return False
