"""The settings of `canhazgpu pbs`, which reserves the GPUs of the jobs of PBS and Torque."""

from typing import Annotated, Literal

from msgspec import Struct

from canhazgpu.config.fields import Duration, about


class Pbs(Struct, frozen=True, kw_only=True):
    """What the prologue does. The service does not read these settings; the commands read them each time."""

    unreachable: Annotated[
        Literal["allow", "requeue"],
        about(
            "What happens if the service does not answer. allow: the job starts, with a warning in the system"
            " log, and its GPUs are reserved later. requeue: the job goes back to the queue."
        ),
    ] = "allow"
    wait: Annotated[
        Duration,
        about(
            "How long the prologue waits for GPUs that are not free yet, and for a service that does not"
            " answer. Twice this must be less than the alarm of the hook (OpenPBS) or $prologalarm (Torque).",
            least=1.0,
        ),
    ] = 5.0
    home: Annotated[
        str,
        about("Torque's directory on this node, which contains mom_priv and aux. OpenPBS does not need it."),
    ] = "/var/spool/torque"
    jobs_dir: Annotated[
        str,
        about("Directory where the prologue records the jobs of this node. It must be empty after a reboot."),
    ] = "/run/canhazgpu-pbs"
