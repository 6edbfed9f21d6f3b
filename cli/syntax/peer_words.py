"""Words of Slurm, docker and nvidia-smi, and what to type here instead. Only read after a mistake."""

from collections.abc import Collection

WHO_HOLDS = "`canhazgpu status` shows every GPU and who uses it"
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
    **dict.fromkeys(("gpustat", "nvitop", "nvtop", "htop", "watch"), "`canhazgpu top` shows every GPU, live"),
    **dict.fromkeys(("squeue", "jobs", "waiting", "qstat", "showq"), WHO_WAITS),
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
    **dict.fromkeys(("-l", "--loop"), "`canhazgpu status --watch` refreshes the list"),
    "sreport": "`canhazgpu report` adds up GPU-hours by user, GPU and day",
    "salloc": "`canhazgpu reserve --gpus 1 --wait` waits for a GPU and reserves it",
    "free": "`canhazgpu status --free` shows which GPUs are free, `canhazgpu release` gives yours back",
    "wait": "add --wait to `canhazgpu run` or `canhazgpu reserve`",
    **dict.fromkeys(("sacct", "past"), "`canhazgpu history` lists reservations that have ended"),
    "scontrol": "`canhazgpu status` shows the GPUs, `canhazgpu extend 2h` makes reservations last longer",
    "help": "`canhazgpu --help` lists the commands",
    "version": "`canhazgpu --version` prints it",
}
# What an option is called here, as it is typed.
OPTIONS = {
    **dict.fromkeys(
        ("--time", "-T", "--time-limit", "--walltime", "--hours", "--ttl", "--for", "--timeout"),
        "--duration 2h",
    ),
    **dict.fromkeys(
        ("--gres", "--gpus-per-node", "--gpus-per-task", "--num-gpus", "--ngpus", "--count"), "--gpus 2"
    ),
    **dict.fromkeys(("--gpu", "--gpu-id", "--device", "--devices", "--id", "--ids", "-i"), "--gpu-ids 0,2"),
    **dict.fromkeys(("--job-name", "-J", "--name", "--comment", "--message", "-m"), "--note TEXT"),
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
    **dict.fromkeys(("--pty", "--interactive", "-it"), "the command has your terminal"),
    **dict.fromkeys(("--output", "-o", "--error", "-e"), "redirect the command, as in > train.log 2>&1"),
}


def command_hint(word: str) -> str | None:
    """Return what to type instead of a command of another program, or None."""
    return COMMANDS.get(word)


def option_hint(option: str, own: Collection[str]) -> str | None:
    """Return what to type instead of an option of another program; `own` are those of the command here."""
    if option in NEEDLESS and "--gpus" in own:
        return f"leave it out: {NEEDLESS[option]}"
    here = OPTIONS.get(option)
    return f"use {here}" if here and here.split()[0] in own else None
