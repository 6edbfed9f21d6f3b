"""JupyterHub: reserves a GPU for each user's server before it starts, and releases it when the server stops.

Copy this into jupyterhub_config.py. It is for spawners that start the servers on this host as users of this
host, such as LocalProcessSpawner and SystemdSpawner, and for a hub that runs as root. The reservation belongs
to the user, because the command that reserves runs as that user.
"""

import asyncio
import json
import os
import pwd

GPUS = "1"
# After this time, the server keeps running without a reservation; users can `canhazgpu extend`.
DURATION = "8h"
CANHAZGPU = "canhazgpu"  # A path, if the hub's PATH does not have it.
# Not the hub's own environment: its secrets could be read in the command, which runs as the user.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name in {"PATH", "CANHAZGPU_CONFIG"}}


async def canhazgpu(user, *words):
    """Return what the command prints when it runs as this user; raise its error as an HTTP error."""
    account = pwd.getpwnam(user)
    command = await asyncio.create_subprocess_exec(
        CANHAZGPU,
        *words,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, said = await command.communicate()
    if command.returncode:
        from tornado.web import HTTPError

        reason = said.decode(errors="replace").strip().removeprefix("Error: ")
        error = HTTPError(503, reason)
        error.jupyterhub_message = f"No GPU was reserved: {reason}"  # The user sees this on the page.
        raise error
    return output.decode()


async def reserve_gpus(spawner):
    """Reserve for the user, and give the server the variables."""
    name = spawner.user.name
    await release_gpus(spawner)  # Left over from a server that the hub did not see stop.
    note = f"JupyterHub {spawner.name}".strip()
    words = ["reserve", "--json", "--gpus", GPUS, "--duration", DURATION, "--note", note]
    spawner.environment.update(json.loads(await canhazgpu(name, *words))["environment"])


async def release_gpus(spawner):
    """Release what was reserved for this server, and nothing else that the user holds."""
    name = spawner.user.name
    note = f"JupyterHub {spawner.name}".strip()
    held = json.loads(await canhazgpu(name, "env", "--json"))
    gpus = [str(gpu) for one in held if one["note"] == note for gpu in one["gpus"]]
    if gpus:
        await canhazgpu(name, "release", ",".join(gpus))


c = get_config()  # noqa: F821 - JupyterHub defines it
c.Spawner.pre_spawn_hook = reserve_gpus
c.Spawner.post_stop_hook = release_gpus
