"""The settings of enforcement: a GPU that a user has not reserved cannot be opened."""

from typing import Annotated, Literal

from msgspec import Struct, field

from canhazgpu.config.fields import about


class Enforcement(Struct, frozen=True, kw_only=True):
    """Whether the service owns the permissions of the GPUs' device files, and who can open all of them."""

    devices: Annotated[
        bool,
        about(
            "Only the holder of a GPU can open its device file. The service must run as root."
            " CUDA_VISIBLE_DEVICES then contains UUIDs, because indices depend on which files can be opened."
        ),
    ] = False
    on_stop: Annotated[
        Literal["keep", "restore"],
        about(
            "What happens when the service stops. keep: the files stay as they are, so that a"
            " restart opens nothing. restore: the files get their former permissions."
        ),
    ] = "keep"
    users: Annotated[
        list[str],
        about(
            "Users who can open every GPU, such as those of system services. Those in"
            " violations.exempt_users can, too."
        ),
    ] = field(default_factory=lambda: ["nvidia-persistenced"])
    groups: Annotated[
        list[str],
        about("Groups whose members can open every GPU. Members of admin_group can, too."),
    ] = field(default_factory=list)
    directory: Annotated[
        str, about("Directory of the device files nvidia0, nvidia1 and so on. Change it only for tests.")
    ] = "/dev"
    driver_params: Annotated[
        str, about("File with the parameters of the driver, which `canhazgpu doctor` reads.")
    ] = "/proc/driver/nvidia/params"
