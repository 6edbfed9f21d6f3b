"""`canhazgpu install`: write the files that a host needs: units, shells, schedulers, containers."""

import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.operations import container_files, monitoring_files, pbs_files, slurm_files
from canhazgpu.cli.operations.host_files import is_roots, shown, write
from canhazgpu.cli.output import examples, fail
from canhazgpu.events.sanitize import printable

UNITS = "/etc/systemd/system"
ROTATIONS = "/etc/logrotate.d"
PROFILES, FISH, ZSH = "/etc/profile.d", "/etc/fish", "/etc/zsh"
PACKAGED = ("/usr/lib/systemd/system", "/lib/systemd/system")
SHIPPED = "/opt/canhazgpu/bin/canhazgpu"  # The program's path in the units of `config/`.
LOG = "/var/log/canhazgpu/violations.log"
HIDDEN = {"ProtectHome=": ("/home", "/root", "/run/user"), "PrivateTmp=": ("/tmp", "/var/tmp")}  # noqa: S108 - named, not used
READ_ONLY = {"ProtectSystem=": ("/usr", "/boot", "/efi", "/etc")}

app = typer.Typer(
    help="Write the files that this host needs for the service (root only).",
    no_args_is_help=False,
    epilog=examples(
        "canhazgpu install systemd",
        "canhazgpu install logrotate",
        "canhazgpu install profile",
        "canhazgpu install slurm",
        "canhazgpu install pbs",
        "canhazgpu install kubernetes",
        "canhazgpu install exporter",
        "canhazgpu install prometheus",
        "canhazgpu install docker",
        "canhazgpu install podman",
    ),
    rich_markup_mode=None,
)
Folder = Annotated[
    str | None, typer.Option("--to", help="Write into this directory.", metavar="DIR", callback=non_empty)
]


@app.command(
    "systemd",
    epilog=examples(
        "canhazgpu install systemd",
        "canhazgpu install systemd --worker",
        "canhazgpu install systemd --web",
    ),
)
def systemd(
    *,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker", help="Also write a unit for `canhazgpu worker`, which then sends the notices."
        ),
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Also write a unit for `canhazgpu web`, which shows this host in a browser."
        ),
    ] = False,
    to: Folder = None,
) -> None:
    """Write the systemd unit of the service with the paths of this installation.

    The unit is written to /etc/systemd/system. An existing file is kept with the suffix .bak.
    """
    program = Path(sysconfig.get_path("scripts"), "canhazgpu")
    config = os.environ.get("CANHAZGPU_CONFIG") or None
    _check_program(program, to)
    for setting, path, reason in _out_of_reach(config):
        sys.stderr.write(
            f"Warning: {setting} is {shown(path)}, but the unit has {reason}: change one of them\n"
        )
    written = {"canhazgpu.service": unit("canhazgpu.service", program, config)}
    if worker:
        for name in ("canhazgpu.service", "canhazgpu-worker.service"):
            written[name] = unit(name, program, config)
        written["canhazgpu.service"] = _without_workers(written["canhazgpu.service"])
    if web:
        written["canhazgpu-web.service"] = unit("canhazgpu-web.service", program, config)
    for name, text in written.items():
        write(Path(to or UNITS, name), text)
    names = " ".join(name.removesuffix(".service") for name in written)
    sys.stdout.write(f"Next: systemctl daemon-reload && systemctl enable --now {names}\n")


@app.command("logrotate", epilog=examples("canhazgpu install logrotate"))
def logrotate(*, to: Folder = None) -> None:
    """Write the logrotate configuration of the audit log to /etc/logrotate.d."""
    path = _settings().notify.log.path
    if any(letter in path for letter in '"\\\n{'):
        fail(f"notify.log.path: logrotate cannot handle the path {printable(path)!r}", REFUSED)
    named = f'"{path}"' if " " in path else path
    write(Path(to or ROTATIONS, "canhazgpu"), shipped("canhazgpu.logrotate").replace(LOG, named))


app.command("slurm", epilog=slurm_files.EPILOG)(slurm_files.slurm)
app.command("pbs", epilog=pbs_files.EPILOG)(pbs_files.pbs)
app.command("prometheus", epilog=monitoring_files.EPILOG)(monitoring_files.prometheus)
app.command("docker", epilog=container_files.DOCKER_EPILOG)(container_files.docker)
app.command("podman", epilog=container_files.PODMAN_EPILOG)(container_files.podman)


@app.command("kubernetes", epilog=examples("canhazgpu install kubernetes"))
def kubernetes(*, to: Folder = None) -> None:
    """Write the systemd unit of the device plugin, which offers the GPUs of this node to pods.

    The unit is written to /etc/systemd/system. An older file is kept with the suffix .bak.
    """
    program = Path(sysconfig.get_path("scripts"), "canhazgpu")
    if importlib.util.find_spec("grpc") is None:
        fail("the plugin needs grpcio and protobuf: pip install 'canhazgpu[kubernetes]'", REFUSED)
    name = "canhazgpu-kubernetes.service"
    _check_program(program, to, name)
    write(Path(to or UNITS, name), unit(name, program, os.environ.get("CANHAZGPU_CONFIG") or None))
    sys.stdout.write("Next: systemctl daemon-reload && systemctl enable --now canhazgpu-kubernetes\n")


@app.command("exporter", epilog=examples("canhazgpu install exporter"))
def exporter(*, to: Folder = None) -> None:
    """Write the systemd unit of the exporter, which serves this host's metrics to Prometheus.

    The unit is written to /etc/systemd/system. An older file is kept with the suffix .bak.
    """
    program = Path(sysconfig.get_path("scripts"), "canhazgpu")
    if importlib.util.find_spec("prometheus_client") is None:
        fail("the exporter needs prometheus-client: pip install 'canhazgpu[exporter]'", REFUSED)
    name = "canhazgpu-exporter.service"
    _check_program(program, to, name)
    write(Path(to or UNITS, name), unit(name, program, os.environ.get("CANHAZGPU_CONFIG") or None))
    sys.stdout.write("Next: systemctl daemon-reload && systemctl enable --now canhazgpu-exporter\n")


@app.command("profile", epilog=examples("canhazgpu install profile", "canhazgpu install profile --to ."))
def profile(*, to: Folder = None) -> None:
    """Hide the GPUs from login shells until their users have reserved some, and define `chg-use` there.

    Writes /etc/profile.d/canhazgpu.sh, and /etc/fish/conf.d/canhazgpu.fish if fish is installed. To undo it,
    remove these files.
    """
    write(Path(to or PROFILES, "canhazgpu.sh"), shipped("canhazgpu.sh"))
    if to or Path(FISH).is_dir():
        write(Path(to or f"{FISH}/conf.d", "canhazgpu.fish"), shipped("canhazgpu.fish"))
    if Path(ZSH).is_dir():
        source = f"emulate sh -c '. {Path(to or PROFILES).absolute()}/canhazgpu.sh'"
        sys.stdout.write(f'Next, for zsh, unless it reads /etc/profile: echo "{source}" >> {ZSH}/zprofile\n')


def unit(name: str, program: Path, config: str | None = None) -> str:
    """Return the text of a unit of `config/` that runs `program`, with the settings file `config`."""
    lines = []
    for line in shipped(name).splitlines():
        if line.startswith("ExecStart="):
            if config:
                lines.append(f"Environment={_quoted(f'CANHAZGPU_CONFIG={Path(config).absolute()}')}")
            lines.append(line.replace(SHIPPED, str(program)))
        elif not line.startswith("Documentation="):  # The pages may not be where man(1) looks.
            lines.append(line)
    return "\n".join(lines) + "\n"


def _without_workers(text: str) -> str:
    return (
        "\n".join(
            f"{line} --no-workers" if line.startswith("ExecStart=") else line for line in text.splitlines()
        )
        + "\n"
    )


def _quoted(word: str) -> str:
    """Return a variable and its value so that systemd reads it as it is."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if escaped == word and not set(word) & set(" \t'") else f'"{escaped}"'


def shipped(name: str) -> str:
    """Return the text of a file of `config/`."""
    return files("canhazgpu.config").joinpath(name).read_text()


def _check_program(program: Path, to: str | None, name: str = "canhazgpu.service") -> None:
    """Exit if the unit could not run this installation, or if others than root could change it."""
    packaged = next((folder for folder in PACKAGED if Path(folder, name).exists()), None)
    if packaged and to is None:
        fail(
            f"the unit in {packaged} belongs to the package: change it with `systemctl edit canhazgpu`",
            REFUSED,
        )
    remedy = "install it for the host: python3 -m venv /opt/canhazgpu"
    if not program.is_file():
        fail(f"{shown(program)} does not exist: {remedy}", REFUSED)
    if not re.fullmatch(r"[\w./+@-]+", str(program), re.ASCII):
        fail(f"a unit cannot name {shown(program)}: {remedy}", REFUSED)
    if importlib.util.find_spec("uvicorn") is None:
        fail("the packages of the service are not installed: pip install 'canhazgpu[service]'", REFUSED)
    for path in (program, Path(sys.prefix), Path(sys.base_prefix)):
        reason = _reason(str(path), HIDDEN)
        if reason:
            fail(f"this installation is in {shown(path)}, which {reason} hides: {remedy}", REFUSED)
        changed = next((one for one in (path, *path.parents) if not is_roots(one)), None)
        if changed:
            fail(
                f"users other than root can change {shown(changed)}, which the service runs: {remedy}",
                REFUSED,
            )


def _out_of_reach(config: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield setting, path and directive for each path that the hardened unit keeps the service from."""
    settings = _settings()
    writable = {
        "socket": settings.socket,
        "state_dir": settings.state_dir,
        "notify.log.path": settings.notify.log.path,
    }
    for name, path in writable.items():
        reason = _reason(path, HIDDEN | READ_ONLY)
        if reason:
            yield name, path, reason
    if config:
        reason = _reason(str(Path(config).absolute()), HIDDEN)
        if reason:
            yield "the settings file", config, reason


def _reason(path: str, directives: dict[str, tuple[str, ...]]) -> str | None:
    for directive, folders in directives.items():
        if any(Path(path).is_relative_to(folder) for folder in folders):
            return directive
    return None


def _settings() -> Any:
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        return load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
