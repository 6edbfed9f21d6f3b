"""Words of Slurm, docker and nvidia-smi, and what to type here instead. Only read after a mistake."""

from collections.abc import Collection

from canhazgpu.events.sanitize import printable

WHO_HOLDS = "`canhazgpu status` shows every GPU and who uses it"
LIVE = "`canhazgpu top` shows every GPU, live"
WATCH = "`canhazgpu status --watch` refreshes the list"
END_IT = "`canhazgpu release` ends it now"
ENDED = "`canhazgpu history` lists reservations that have ended"
HOURS = "`canhazgpu report` adds up GPU-hours by user, GPU and day"
VERSION = "`canhazgpu --version` prints it"
WHO_WAITS = "`canhazgpu queue` shows who waits, `canhazgpu status` who has GPUs"
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
    **dict.fromkeys(("my", "mine", "me"), "`canhazgpu status --mine` shows the GPUs that you hold or use"),
    **dict.fromkeys(("w", "user", "users"), "`canhazgpu who` lists who holds, uses and waits for GPUs"),
    **dict.fromkeys(("squeue", "jobs", "waiting", "qstat", "showq", "sprio"), WHO_WAITS),
    **dict.fromkeys(("scancel", "kill", "stop", "rm", "remove", "delete", "end", "qdel"), GIVE_BACK),
    **dict.fromkeys(("sbatch", "submit", "qsub", "bsub"), BATCH),
    **dict.fromkeys(("srun", "exec", "start", "launch", "execute"), RUN),
    **dict.fromkeys(
        ("acquire", "alloc", "allocate", "book", "claim", "get", "grab", "request", "take"), RESERVE
    ),
    **dict.fromkeys(("unreserve", "return", "give", "drop"), "`canhazgpu release` gives GPUs back"),
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
    **dict.fromkeys(("sacct", "past", "last"), ENDED),
    "scontrol": "`canhazgpu status` shows the GPUs, `canhazgpu extend 2h` makes reservations last longer",
    "help": "`canhazgpu --help` lists the commands",
    **dict.fromkeys(("version", "-v", "-V"), VERSION),
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
        ("--partition", "-p", "--account", "-A", "--qos", "--nodes", "-N", "--ntasks"),
        "only the GPUs of this host are shared",
    ),
    **dict.fromkeys(("--cpus-per-task", "-c", "--mem"), "only GPUs are reserved"),
    **dict.fromkeys(("--pty", "--interactive", "-it", "-ti"), "the command has your terminal"),
    "--rm": "the GPUs are released when the command ends",
    "--detach": "use nohup, tmux or & in your shell",
    **dict.fromkeys(("--output", "-o", "--error", "-e"), "redirect the command, as in > train.log 2>&1"),
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


def argument_hint(command: str) -> str | None:
    """Return what to type instead of an argument of a command that has none, or None."""
    instead = ARGUMENTS.get(command)
    return f"{command} has no arguments: {instead}" if instead else None


def whole_option(option: str, words: Collection[str]) -> str:
    """Return `-it` if the parser stopped at its first letter, else `option`."""
    return next((word for word in words if word in NEEDLESS and word.startswith(option)), option)


def which_hint(command: str) -> str:
    """Return where the ids are listed that a command asks for."""
    listing = {"violations": command}.get(command, f"{command} list")
    return f"which one? `canhazgpu {listing}` shows the ids"


def negative_time(words: Collection[str]) -> str | None:
    """Return what to do instead of `extend -1h`, or None."""
    less = next((word for word in words if word[:1] == "-" and word[1:2].isdigit()), None)
    return f"{printable(less)}: a reservation cannot be made shorter; {END_IT}" if less else None


def option_hint(option: str, own: Collection[str]) -> str | None:
    """Return what to type instead of an option of another program; `own` are those of the command here."""
    if option in NEEDLESS and "--gpus" in own:
        return f"leave it out: {NEEDLESS[option]}"
    here = OPTIONS.get(option)
    return f"use {here}" if here and here.split()[0] in own else None
