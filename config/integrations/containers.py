"""The settings of containers: who started them is looked up, and checked before they get a GPU."""

from typing import Annotated, Literal

from msgspec import Struct

from canhazgpu.config.fields import about


class Containers(Struct, frozen=True, kw_only=True):
    """What `canhazgpu oci` does before a container starts, and where running containers are looked up."""

    mode: Annotated[
        Literal["enforce", "warn", "off"],
        about(
            "What happens to a container on GPUs that its user has not reserved, once `canhazgpu install"
            " docker` or `podman` has been run. enforce: it does not start. warn: it starts, and the service"
            " logs a warning. off: it is not checked."
        ),
    ] = "warn"
    unreachable: Annotated[
        Literal["allow", "refuse"],
        about(
            "What happens to a container with GPUs if the service does not answer. allow: it starts, with a"
            " warning in the system log. refuse: with mode = enforce, it does not start."
        ),
    ] = "allow"
    docker_socket: Annotated[
        str,
        about(
            "Docker's socket, used read-only to look up the name, labels and user of a container, as a hint"
            " about who started it. If empty, Docker is not queried."
        ),
    ] = "/run/docker.sock"
