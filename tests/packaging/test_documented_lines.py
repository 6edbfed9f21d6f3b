"""Every command line of README.md and docs/*.md, typed as it stands on a fresh Debian with simulated GPUs."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import debian
from support.command_lines import Line, all_lines
from support.documented_lines import (
    ADMINISTRATORS,
    AFTER,
    BEFORE,
    BEFORE_IN,
    BY_ROOT,
    CHECKOUT,
    CODES,
    ENDLESS,
    EXEMPT,
    FOR_A_SHELL,
    HOME,
    INSTALL,
    REST,
    ROOT,
    SERVES,
    SITUATIONS,
    TRIAL_SOCKET,
    Situation,
    without_comment,
)
from support.eventually import until

pytestmark = [pytest.mark.deb, pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parents[2]
WHEELS = HERE / "build" / "wheels"
TOOLS = [
    "fish",
    "zsh",
    "tcsh",
    "jq",
    "curl",
    "redis-tools",
    "sudo",
    "tini",
    "make",
    "python3-venv",
    "python3-pip",
]
UNWANTED = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
CONFIG = """\
host = "gpu-host-1"
admin_group = "gpu-admins"
gpus.provider = "simulated"
gpus.scenario = "/srv/gpus.toml"
gpus.scan_interval = "300ms"
violations.confirm = "300ms"
notices.group_wait = "200ms"
[notify.email]
enabled = true
host = "127.0.0.1"
port = 2525
tls = "none"
user_address = "{user}@lab.example"
"""
GPUS = "".join(f"[[gpus]]\nindex = {index}\nmemory_used_mb = 45\n" for index in range(8))
USED = 'processes = [{ pid = 4242, user = "bob", name = "python3", memory_mb = 1024 }]\n'
ALSO_USED = 'processes = [{ pid = 4343, user = "alice", name = "python3", memory_mb = 1024 }]\n'
# What curl and a shell do not mind.
WRONG = re.compile(r"Traceback|urn:canhazgpu:problem")
# How the demonstration that goes on says that it is ended.
ENDED_BY = re.compile(r"^ +(kill \d.* rm -r .*)$", re.MULTILINE)
# Programs that the lines start, and what root types before some lines.
PROGRAMS = {
    "/usr/local/bin/server": "#!/bin/sh\nexit 0\n",
    # With the arguments of the page, and no container: tests/containers has those.
    "/usr/local/bin/docker": "#!/bin/sh\n"
    """case "$*" in\n"""
    """'run --gpus "device='$CUDA_VISIBLE_DEVICES'" -e CANHAZGPU_RESERVATION IMAGE') ;;\n"""
    """'run --env CANHAZGPU_RESERVATION --env CANHAZGPU_TOKEN"""
    """ --gpus=device='$NVIDIA_VISIBLE_DEVICES' IMAGE') ;;\n"""
    """*) echo "docker $*"; exit 1 ;;\nesac\n""",
    "/usr/local/bin/mail": "#!/bin/sh\ncat >> /root/mails\n",
    "/srv/use": "#!/bin/sh\ncp /srv/used.toml /srv/new && mv /srv/new /srv/gpus.toml\n"
    "timeout 30 sh -c 'until canhazgpu violations --open --json | grep -q alice; do :; done'\n",
    "/srv/idle": "#!/bin/sh\ncp /srv/idle.toml /srv/new && mv /srv/new /srv/gpus.toml\n"
    "timeout 30 sh -c 'until [ $(canhazgpu status | grep -c AVAILABLE) = 8 ]; do :; done'\n",
    **{f"{HOME}/{name}.sh": "#!/bin/sh\nexit 0\n" for name in ("evaluate", "prepare", "train")},
    f"{HOME}/train.py": "",
}


def _wheels() -> None:
    """Fetch what the installations of the pages need: the booted system has no network."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["service"], *extras["embedded"][1:]]
    more = [
        "setuptools>=77",
        "pip",
        "pipx",
        "uv",
        "async-timeout",
    ]  # Debian's 3.11.2 needs the last for redis.
    known, asked = WHEELS / "asked", "\n".join([*wanted, *more])
    if known.exists() and known.read_text() == asked:
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", str(WHEELS)]
    done = subprocess.run([*pip, *wanted, *more], capture_output=True, text=True, check=False)
    if done.returncode:
        debian.skip(f"pip cannot download: {done.stderr.splitlines()[-1:]}")
    known.write_text(asked)


def _furnish(system: debian.System) -> None:
    """Lay the checkouts, the programs, the wheels and the settings that a site would have written."""
    _wheels()
    shutil.copytree(WHEELS, system.path("/srv/wheels"))
    system.path("/etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
    system.path("/etc/uv").mkdir()
    system.path("/etc/uv/uv.toml").write_text('no-index = true\nfind-links = ["/srv/wheels"]\n')
    system.shell(
        "for user in alice bob; do useradd --create-home --shell /bin/bash $user; done; groupadd gpu-admins;"
        " echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice;"
        " python3 -m venv /srv/tools; /srv/tools/bin/pip install -q pipx uv;"
        " ln -s /srv/tools/bin/pipx /srv/tools/bin/uv /usr/local/bin/"
    )
    for checkout in (CHECKOUT, "/root/canhazgpu"):
        shutil.copytree(HERE, system.path(checkout), ignore=UNWANTED)
    for name, text in PROGRAMS.items():
        system.path(name).write_text(text)
        system.path(name).chmod(0o755)
    spool = system.path("/root/canhazgpu-spool")
    spool.mkdir()
    page = (HERE / "docs" / "notifiers.md").read_text()
    for name, code in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        (spool / name).write_text(code)
    trial = system.path("/srv/trial")
    trial.mkdir()
    for name, text in zip(("lab.toml", "gpus.toml"), _trial(), strict=True):
        (trial / name).write_text(text)
    system.path("/srv/config.toml").write_text(CONFIG)
    used = GPUS.replace("index = 7\n", f"index = 7\n{USED}")
    system.path("/srv/gpus.toml").write_text(used)
    system.path("/srv/idle.toml").write_text(GPUS)
    system.path("/srv/used.toml").write_text(used.replace("index = 6\n", f"index = 6\n{ALSO_USED}"))
    system.path("/srv/mail.py").write_text(debian.MAIL_SERVER)
    system.shell(
        f"cd {CHECKOUT}; python3 -m venv .venv; .venv/bin/pip install -q '.[embedded]';"
        " touch .venv/.installed; chown -R alice: /home/alice; chmod 755 /srv /srv/use"
    )


def _trial() -> tuple[str, str]:
    """Return the settings and the GPUs of the trial, from the page."""
    page = (HERE / ADMINISTRATORS).read_text().partition("## Try it")[2].partition("Start the service")[0]
    blocks = ([line[4:] for line in part.splitlines() if line[:4] == " " * 4] for part in page.split("\n\n"))
    settings, *gpus = ("\n".join(block) + "\n" for block in blocks if block)
    return settings, "".join(gpus)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[debian.System]:
    """A booted Debian with alice and bob, two checkouts and a mail server, but without canhazgpu."""
    system = debian.unpacked(tmp_path_factory.mktemp("fresh") / "root", "bookworm", *debian.INIT, *TOOLS)
    _furnish(system)
    built = system.path("/root/canhazgpu/build/deb")
    built.mkdir(parents=True)
    shutil.copy(package, built)
    with debian.booted(system):
        system.shell("ip link set lo up 2>/dev/null || true; systemd-run -q --unit=mail python3 /srv/mail.py")
        system.shell("cp -r /srv/trial /tmp/trial; chown -R alice: /tmp/trial")
        yield system


def _typed(system: debian.System, user: str, folder: str, code: str, shell: str = "bash") -> tuple[int, str]:
    """Type a line or a script; return its exit code and what it printed."""
    home = "/root" if user == ROOT else HOME
    flags = ["-f"] if shell in ("tcsh", "zsh") else []
    # One more command, as at a prompt: else the shell becomes the command, and is no longer there to be seen.
    words = [shell, *flags, "-c", f"{code}\nexit ${'?' if shell in ('bash', 'zsh') else 'status'}"]
    if ENDLESS.search(code):
        words = ["timeout", "--signal=INT", "--kill-after=5", "2", *words]
    venv = f"VIRTUAL_ENV={CHECKOUT}/.venv PATH={CHECKOUT}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    told = venv.split() if code.startswith("pip ") and user != ROOT else []
    done = system.call(
        "runuser",
        "-u",
        user,
        "--",
        "env",
        "-C",
        folder,
        f"HOME={home}",
        f"USER={user}",
        *told,
        *words,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _shells(line: str) -> list[str]:
    """Return the shells in which a line is code."""
    if line.startswith("set code (") or line.endswith("| source"):
        return ["fish"]
    if line.startswith("set code ="):
        return ["tcsh"]
    return ["bash", "zsh"] if line.startswith(("code=", "eval ")) else ["bash"]


def _filled_in(system: debian.System, line: str) -> str:
    """Return a line with what stands for something of one's own."""
    line = line.replace("--after ID", "--after 0-0").replace("-- COMMAND", "-- true")
    line = line.replace("YOUR_PACKAGE", "/root/canhazgpu-spool")
    if found := re.search(r"violations show (ID|v\d+-\d+)", line):
        rows = json.loads(system.shell("canhazgpu violations --json"))
        line = line.replace(found[1], str(rows[0]["violation"]))
    return line


def _execute(system: debian.System, line: Line, situation: Situation) -> None:
    """Type one line as it stands, in each shell that it is for; it ends as the page says."""
    code = _filled_in(system, line.text)
    user = ROOT if line.text in BY_ROOT else situation.user
    for shell in _shells(code):
        before = BEFORE_IN.get((line.page, line.heading, line.text)) or BEFORE.get(line.text, "")
        system.shell(REST if FOR_A_SHELL.match(code) else before)
        if SERVES.search(code):
            words = (
                f"systemd-run -q --collect --unit=endless --uid={user} --working-directory={situation.folder}"
            )
            system.call(*words.split(), "bash", "-c", code)
            until(lambda: system.call("test", "-S", TRIAL_SOCKET, check=False).returncode == 0, 20)
            continue
        ended, printed = _typed(system, user, situation.folder, code, shell)
        good = {0, 124, 130} if ENDLESS.search(code) else {CODES.get(line.text, 0)}
        assert ended in good, f"{line.page}, {line.heading}: {code}\n{shell} ends with {ended}:\n{printed}"
        assert not WRONG.search(printed), printed
        if ended_by := ENDED_BY.search(printed):
            system.shell(ended_by[1])
        system.shell(AFTER.get(line.text, ""))


def _under(place: tuple[str, str]) -> list[Line]:
    return [
        line
        for line in all_lines()
        if (line.page, line.heading) == place
        and not line.is_name
        and without_comment(line.text) not in EXEMPT
    ]


@pytest.mark.parametrize("place", SITUATIONS, ids=":".join)
def test_the_lines_under_a_heading(fresh: debian.System, place: tuple[str, str]) -> None:
    """Each ends with 0 or as its page says, after those above it; the first heading installs the service."""
    situation = SITUATIONS[place]
    fresh.shell(situation.before)
    if situation.installs:
        for line in _under(INSTALL):
            _execute(fresh, line, SITUATIONS[INSTALL])
    for line in _under(place):
        _execute(fresh, line, situation)
    fresh.shell(situation.after)
