"""Words of Slurm, docker and nvidia-smi, and what to type here instead. Only read after a mistake."""

from collections.abc import Collection, Sequence

from canhazgpu.events.sanitize import printable

WHO_HOLDS = "`canhazgpu status` shows every GPU and who uses it"
LIVE = "`canhazgpu top` shows every GPU, live"
WATCH = "`canhazgpu status --watch` refreshes the list"
WHO = "`canhazgpu who` lists who holds, uses and waits for GPUs"
MINE = "`canhazgpu status --mine` shows the GPUs that you hold or use"
NO_PAUSE = "`canhazgpu release` ends a reservation, `canhazgpu reserve` makes a new one"
NO_TRANSFER = "release the GPUs; then the other user can reserve them: canhazgpu reserve --gpu-ids 0"
END_IT = "`canhazgpu release` ends it now"
ENDED = "`canhazgpu history` lists reservations that have ended"
HOURS = "`canhazgpu report` adds up GPU-hours by user, GPU and day"
VERSION = "`canhazgpu --version` prints it"
WHO_WAITS = "`canhazgpu queue` shows who is waiting, `canhazgpu status` who has GPUs"
GIVE_BACK = "`canhazgpu release` gives GPUs back, `canhazgpu cancel` leaves the queue"
RUN = "`canhazgpu run --gpus 1 -- COMMAND` runs a command on a GPU"
RESERVE = "`canhazgpu reserve --gpus 1 --duration 4h` reserves a GPU"
BATCH = "`canhazgpu run --gpus 1 --wait -- ./job.sh` waits for a GPU and runs it; there is no batch queue"
DRAIN = "administrators use `canhazgpu admin`; see `canhazgpu admin --help`"
COMMANDS = {
    **dict.fromkeys(
        (
            "ps",
            "sinfo",
            "nvidia-smi",
            "smi",
            "list",
            "ls",
            "show",
            "info",
            "gpus",
            "pbsnodes",
            "qhost",
            "bhosts",
        ),
        WHO_HOLDS,
    ),
    **dict.fromkeys(
        (
            "gpustat",
            "nvitop",
            "nvtop",
            "htop",
            "watch",
            "dmon",
            "monitor",
            "dashboard",
            "sstat",
            "-m",
            "--monitor",
        ),
        LIVE,
    ),
    **dict.fromkeys(
        ("pmon", "processes", "-1", "--once"), "`canhazgpu status --long` shows every GPU and its processes"
    ),
    **dict.fromkeys(("my", "mine", "me"), MINE),
    **dict.fromkeys(("w", "user", "users"), WHO),
    **dict.fromkeys(("squeue", "jobs", "waiting", "qstat", "showq", "sprio", "bjobs", "bqueues"), WHO_WAITS),
    **dict.fromkeys(("scancel", "kill", "stop", "rm", "remove", "delete", "end", "qdel", "bkill"), GIVE_BACK),
    **dict.fromkeys(("sbatch", "submit", "qsub", "bsub"), BATCH),
    **dict.fromkeys(("srun", "exec", "start", "launch", "execute"), RUN),
    **dict.fromkeys(
        ("acquire", "alloc", "allocate", "book", "borrow", "claim", "get", "grab", "lock", "request", "take"),
        RESERVE,
    ),
    **dict.fromkeys(
        ("unreserve", "unlock", "return", "give", "give-back", "drop"), "`canhazgpu release` gives GPUs back"
    ),
    **dict.fromkeys(("renew", "prolong"), "`canhazgpu extend 2h` makes your reservations last longer"),
    **dict.fromkeys(("drain", "undrain", "init", "manage"), DRAIN),
    **dict.fromkeys(("mute", "snooze", "ack"), "`canhazgpu silence ack --duration 1h` mutes your notices"),
    **dict.fromkeys(("-L", "--list-gpus", "-q", "--query-gpu"), WHO_HOLDS),
    **dict.fromkeys(("-i", "--id", "-a", "--all", "--long"), WHO_HOLDS),
    **dict.fromkeys(
        ("-u", "--user", "--mine", "--free", "--json"),
        "write it after a command, as in `canhazgpu status --mine`",
    ),
    **dict.fromkeys(("-g", "--gpus", "-G", "--gpu-ids"), RUN),
    **dict.fromkeys(("-l", "-lms", "--loop", "-w", "--watch"), WATCH),
    **dict.fromkeys(("sreport", "sshare", "usage"), HOURS),
    **dict.fromkeys(("logs", "journal"), "`canhazgpu events` shows what happened"),
    **dict.fromkeys(
        ("completion", "completions"), "`canhazgpu --install-completion` sets up completion for your shell"
    ),
    "salloc": "`canhazgpu reserve --gpus 1 --wait` waits for a GPU and reserves it",
    "free": "`canhazgpu status --free` shows which GPUs are free, `canhazgpu release` gives yours back",
    "wait": "add --wait to `canhazgpu run` or `canhazgpu reserve`",
    **dict.fromkeys(("sacct", "seff", "past", "last"), ENDED),
    **dict.fromkeys(("sview", "smap", "sdiag", "stats"), LIVE),
    **dict.fromkeys(("inspect", "details"), "`canhazgpu status --long` shows everything about each GPU"),
    **dict.fromkeys(("available", "idle"), "`canhazgpu status --free` shows which GPUs are free"),
    **dict.fromkeys(
        ("sattach", "attach"), "`canhazgpu run` keeps its terminal: start it in tmux to come back to it"
    ),
    **dict.fromkeys(("pause", "resume", "restart", "hold", "requeue"), NO_PAUSE),
    **dict.fromkeys(("share", "transfer", "move", "swap"), NO_TRANSFER),
    **dict.fromkeys(
        ("notice", "notices", "warnings"),
        "`canhazgpu violations --mine` lists your use without a reservation",
    ),
    **dict.fromkeys(
        ("appeal", "dispute"), "`canhazgpu violations show ID` says what was seen; ask the administrators"
    ),
    **dict.fromkeys(("login", "logout", "auth"), "canhazgpu needs no login: the kernel says who you are"),
    **dict.fromkeys(
        ("quota", "limits", "sacctmgr"), "administrators set limits; `canhazgpu config show` has them"
    ),
    **dict.fromkeys(("reservation", "held"), "`canhazgpu reservations` lists the current reservations"),
    **dict.fromkeys(("whoami",), MINE),
    **dict.fromkeys(("note", "rename"), "`canhazgpu reserve --note TEXT` makes a reservation with a note"),
    "scontrol": "`canhazgpu status` shows the GPUs, `canhazgpu extend 2h` makes reservations last longer",
    "help": "`canhazgpu --help` lists the commands",
    **dict.fromkeys(("version", "-v", "-V"), VERSION),
}
# What a command without arguments has instead of them.
ARGUMENTS = {
    "reserve": "use --gpus 2 (how many) or --gpu-ids 0,2 (which), and --duration 4h",
    "status": "use --user bob, --mine or --free",
    "history": "use --user bob, --gpu 3, --since 30d or -n 5",
    "events": "use --user bob, --gpu 3, --type violation, --since 1d or -n 20",
    "violations": "use --user bob or --gpu 3, or `canhazgpu violations show ID`",
    "report": "use --days 30, and --by user, gpu, day, hour or host",
    "who": "`canhazgpu status --user bob` shows the GPUs of one user",
    "queue": "it lists all requests",
    "top": "use --interval 5s",
}


def command_hint(word: str) -> str | None:
    """Return what to type instead of a command of another program, or None."""
    return COMMANDS.get(word)


def word_hint(said: str, words: Sequence[str], commands: Collection[str]) -> str | None:
    """Return what to type if a word is missing or one is too many; `said` is the message of the parser.

    `commands` are those that the last command has itself.
    """
    first = words[0]
    if said.startswith("Missing argument"):
        listing = {"violations": first}.get(first, f"{first} list")
        return f"which one? `canhazgpu {listing}` shows the ids"
    if first in ARGUMENTS:
        return f"{first} takes no arguments: {ARGUMENTS[first]}"
    if list(words[:2]) == ["silence", "ack"] or (first == "silence" and words[1:2] and words[1][0].isdigit()):
        return "use an option for the time: canhazgpu silence ack --duration 1h"
    return f"say which: {', '.join(f'{first} {name}' for name in commands)}" if commands else None


def negative_time(words: Collection[str]) -> str | None:
    """Return what to do instead of `extend -1h`, or None."""
    less = next((word for word in words if word[:1] == "-" and word[1:2].isdigit()), None)
    return f"{printable(less)}: a reservation cannot be made shorter; {END_IT}" if less else None
