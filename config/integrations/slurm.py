"""The settings of `canhazgpu slurm`, which reserves the GPUs of Slurm's jobs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.fields import Duration, about

DeviceFile = Annotated[str, Meta(pattern="^(/dev/nvidia[0-9]{1,6}|[0-9]{1,4}:[0-9]{1,4})$")]


class Slurm(Struct, frozen=True, kw_only=True):
    """What the prolog does. The service does not read these settings; the commands read them each time."""

    unreachable: Annotated[
        Literal["allow", "drain"],
        about(
            "What happens if the service does not answer. allow: the job starts, with a warning in its"
            " AdminComment and in the system log, and its GPUs are reserved later. drain: the prolog fails,"
            " so Slurm drains the node and requeues the job in a held state."
        ),
    ] = "allow"
    wait: Annotated[
        Duration,
        about(
            "How long the prolog waits for GPUs that are not free yet, and for a service that does not"
            " answer. It must be shorter than MessageTimeout in slurm.conf.",
            least=1.0,
        ),
    ] = 5.0
    devices: Annotated[
        list[DeviceFile],
        about(
            "Device files in the order of gres.conf, if gres.conf does not list all GPUs. The number 0 in"
            " SLURM_JOB_GPUS means the first of them. If empty, the number N means /dev/nvidiaN."
        ),
    ] = field(default_factory=list)
    jobs_dir: Annotated[
        str,
        about("Directory where the prolog records the jobs of this node. It must be empty after a reboot."),
    ] = "/run/canhazgpu-slurm"
