"""The hardened service under a real systemd: what it does to others works, and jobs survive upgrades."""

import json
import subprocess
from pathlib import Path

import pytest
from support import debian
from support.eventually import until

pytestmark = [pytest.mark.deb, pytest.mark.slow, pytest.mark.timeout(600)]
DYNAMIC = range(61184, 65520)  # The uids that systemd gives to units with DynamicUser=.
CONFIG = """\
[gpus]
provider = "simulated"
scenario = "/etc/canhazgpu/gpus.toml"
scan_interval = "300ms"
[violations]
confirm = "300ms"
[notices]
group_wait = "200ms"
[[notices.steps]]
channels = ["wall", "email"]
to = ["offender"]
[notify.email]
enabled = true
host = "127.0.0.1"
port = 2525
tls = "none"
user_address = "{user}@lab.example"
"""


def _gpus(system: debian.System, *pids: int) -> None:
    lines = "".join(f"[[gpus.processes]]\npid = {pid}\nmemory_mb = 1024\n" for pid in pids)
    new = system.path("/etc/canhazgpu/gpus.new")
    new.write_text(f"[[gpus]]\nindex = 0\n{lines}[[gpus]]\nindex = 1\n")
    new.rename(system.path("/etc/canhazgpu/gpus.toml"))


def _pid(system: debian.System, unit: str) -> int:
    return int(system.shell(f"systemctl show --property=MainPID --value {unit}"))


def _status(system: debian.System) -> str:
    return system.call("canhazgpu", "status", check=False).stdout


@pytest.fixture(scope="module")
def lab(machine: debian.System) -> debian.System:
    """The package installed, with settings, two simulated GPUs and a mail server."""
    machine.path("/root/mail.py").write_text(debian.MAIL_SERVER)
    machine.shell("ip link set lo up 2>/dev/null || true; systemd-run --unit=mail python3 /root/mail.py")
    machine.path("/etc/canhazgpu").mkdir()
    machine.path("/etc/canhazgpu/config.toml").write_text(CONFIG)
    _gpus(machine)
    machine.shell("apt-get install -qq -y /root/canhazgpu.deb")
    return machine


def test_the_service_runs_and_is_hardened(lab: debian.System) -> None:
    """It starts with its installation, and systemd has its unit as it was written."""
    assert lab.shell("systemctl is-active canhazgpu; systemctl is-enabled canhazgpu").split() == [
        "active",
        "enabled",
    ]
    kept = Path(f"/proc/{_host_pid(lab, 'canhazgpu')}/status").read_text()
    (effective,) = (line.split()[1] for line in kept.splitlines() if line.startswith("CapEff"))
    # CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_PTRACE, CAP_MKNOD
    assert int(effective, 16) == 1 << 2 | 1 << 5 | 1 << 19 | 1 << 27


def _host_pid(system: debian.System, unit: str) -> int:
    inner = _pid(system, unit)
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nNSpid:\t{status.parent.name}\t{inner}\n" in text:
            return int(status.parent.name)
    raise AssertionError(unit)


def test_a_person_is_known_by_proc_and_hears_of_it_on_the_terminal_and_by_mail(lab: debian.System) -> None:
    """Reading other users' /proc, writing to their terminal and sending mail need what the unit leaves."""
    lab.shell(
        "systemd-run --unit=job --uid=bob --property=WorkingDirectory=/home/bob "
        "script --quiet --flush --command 'exec sleep 3600' typescript"
    )
    child = f"pgrep --parent {_pid(lab, 'job')}"
    until(lambda: lab.call("sh", "-c", child, check=False).stdout != "", 20)
    _gpus(lab, int(lab.shell(child)))
    until(lambda: "IN USE WITHOUT RESERVATION by user bob" in _status(lab), 30)
    until(lambda: "GPU 0" in lab.path("/home/bob/typescript").read_text(errors="replace"), 30)
    until(lambda: "bob@lab.example" in lab.shell("cat /root/mail 2>/dev/null || true"), 30)
    lab.shell("systemctl stop job")
    _gpus(lab)
    until(lambda: "IN USE" not in _status(lab), 30)


def test_a_run_of_another_user_is_ended_when_its_time_is_up(lab: debian.System) -> None:
    """Signals to the processes of others need CAP_KILL."""
    command = "canhazgpu run --gpus 1 --timeout 2s -- sleep 3600"
    done = lab.call(
        "systemd-run", "--uid=bob", "--wait", "--pipe", "--quiet", "sh", "-c", command, check=False
    )
    assert done.returncode not in (0, 1, 2, 3), done.stderr
    assert "AVAILABLE" in _status(lab).splitlines()[0]


def test_the_sandbox_allows_what_the_driver_and_docker_need(lab: debian.System) -> None:
    """A device is made as nvidia-modprobe does it; Docker's socket and the secrets of others are reached."""
    unit = lab.path("/lib/systemd/system/canhazgpu.service").read_text()
    words = (
        "Capability",
        "Supplementary",
        "NoNew",
        "Protect",
        "Private",
        "Restrict",
        "Lock",
        "SystemCall",
        "UMask",
    )
    properties = [f"--property={line}" for line in unit.splitlines() if line.startswith(words)]
    lab.shell(
        "groupadd -f docker; install -d -m 700 -o bob /srv/bob;"
        " install -m 600 -o bob /dev/null /srv/bob/secret"
    )
    code = """
import ctypes, os, socket, stat
link = socket.socket(socket.AF_UNIX)
link.connect("/run/docker.sock")
open("/srv/bob/secret").read()
os.mknod("/dev/nvidia-test", stat.S_IFCHR | 0o666, os.makedev(195, 250))
os.chmod("/dev/nvidia-test", 0o666)
os.chown("/dev/nvidia-test", 0, 0)
os.setuid(0)
os.unlink("/dev/nvidia-test")
ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)()
open("/dev/null", "w").close()
for name in ("exe", "root", "ns/pid"):
    os.readlink(f"/proc/{os.environ['BOBS']}/{name}")
open(f"/proc/{os.environ['BOBS']}/environ").read()
try:
    open("/usr/denied", "w")
except OSError as error:
    print("read-only:", error.errno)
try:
    os.setgroups([])
except OSError as error:
    print("no setgroups:", error.errno)
"""
    lab.path("/root/probe.py").write_text(code)
    server = (
        "import socket, time; listener = socket.socket(socket.AF_UNIX);"
        " listener.bind('/run/docker.sock'); listener.listen(); time.sleep(900)"
    )
    lab.call("systemd-run", "--unit=docker", "python3", "-c", server)
    until(
        lambda: (
            lab.path("/run").exists()
            and lab.call("test", "-S", "/run/docker.sock", check=False).returncode == 0
        ),
        20,
    )
    lab.shell(
        "chgrp docker /run/docker.sock; chmod 660 /run/docker.sock;"
        " systemd-run --unit=bobs --uid=bob sleep 900"
    )
    lab.shell("cp /root/probe.py /srv/probe.py; chmod 644 /srv/probe.py")
    probe = lab.call(
        "systemd-run",
        "--wait",
        "--pipe",
        "--quiet",
        *properties,
        f"--setenv=BOBS={_pid(lab, 'bobs')}",
        "/usr/bin/python3",
        "/srv/probe.py",
    )
    assert probe.stdout.splitlines() == ["read-only: 30", "no setgroups: 1"]
    lab.shell("systemctl stop docker bobs")


def test_an_upgrade_restarts_the_service_and_keeps_jobs_and_reservations(
    lab: debian.System, newer: Path
) -> None:
    """The job goes on, both reservations are there, and the service is another process of the new version."""
    lab.shell("systemd-run --unit=train --uid=bob canhazgpu run --gpus 1 -- sleep 3600")
    lab.shell("runuser -u alice -- canhazgpu reserve --gpus 1 --duration 1h")
    job, service = _pid(lab, "train"), _pid(lab, "canhazgpu")

    def held() -> list[str]:
        listed = json.loads(lab.shell("canhazgpu status --json"))
        return sorted(str(one["reservation"]["user"]) for one in listed if one["reservation"])

    until(lambda: held() == ["alice", "bob"], 20)
    lab.path("/root/newer.deb").write_bytes(newer.read_bytes())
    lab.shell("apt-get install -qq -y /root/newer.deb")
    assert "9.9.9-1" in lab.shell("dpkg-query --show canhazgpu")
    assert _pid(lab, "canhazgpu") not in (0, service)
    assert held() == ["alice", "bob"]
    assert _pid(lab, "train") == job
    lab.shell("systemctl stop train; runuser -u alice -- canhazgpu release")


def test_the_pages_and_the_rotation_are_the_system_s(lab: debian.System) -> None:
    """`man canhazgpu run`, `whatis` and logrotate find them."""
    assert "canhazgpu-run (1)" in lab.shell("mandb -q; whatis canhazgpu-run")
    assert "CANHAZGPU-RUN(1)" in lab.shell("man canhazgpu run | cat")
    rotated = lab.call("logrotate", "--debug", "/etc/logrotate.d/canhazgpu")
    assert "error:" not in rotated.stderr
    assert "/var/log/canhazgpu/violations.log" in rotated.stderr


def test_what_a_program_sees_under_systemd_run(lab: debian.System) -> None:
    """All GPUs, and with --scope those of the shell, as docs/integrations/shells.md says."""
    row = "| `systemd-run` | all | `systemd-run --scope` keeps the GPUs of the shell;"
    assert f"\n{row}" in (debian.ROOT / "docs" / "integrations" / "shells.md").read_text()
    lab.path("/root/probe").write_text("""#!/bin/sh\necho "<${CUDA_VISIBLE_DEVICES-all}>"\n""")
    lab.shell("chmod +x /root/probe; canhazgpu install profile")

    def seen(start: str) -> list[str]:
        line = f"chg-use --gpu-ids 1 2>/dev/null; {start} /root/probe; {start} canhazgpu run -- /root/probe"
        return lab.call("bash", "-l", "-c", f"{line}; canhazgpu release").stdout.splitlines()[:2]

    assert lab.call("bash", "-l", "-c", "/root/probe").stdout == "<>\n"
    assert seen("systemd-run --wait --pipe --quiet") == ["<all>", "<1>"]
    assert seen("systemd-run --scope --quiet") == ["<1>", "<1>"]
    lab.shell("rm -f /etc/profile.d/canhazgpu.sh /etc/fish/conf.d/canhazgpu.fish")


def test_the_page_is_served_on_a_file_that_its_unit_has_a_directory_for(lab: debian.System) -> None:
    """The unit's user has no rights, other users reach the page, and stopping it removes the directory."""
    config = lab.path("/etc/canhazgpu/config.toml")
    kept = config.read_text()
    config.write_text(f'{kept}[web]\nlisten = "unix:/run/canhazgpu-web/web.sock"\n')
    lab.path("/srv/get.py").write_text("""
import socket
link = socket.socket(socket.AF_UNIX)
link.connect("/run/canhazgpu-web/web.sock")
link.sendall(b"GET / HTTP/1.0\\r\\nHost: gpus.example.com\\r\\n\\r\\n")
print(link.makefile().read())
""")
    lab.shell("systemctl start canhazgpu-web")
    until(lambda: lab.call("test", "-S", "/run/canhazgpu-web/web.sock", check=False).returncode == 0, 30)
    uid, mode = lab.shell("stat --format='%u %a' /run/canhazgpu-web/web.sock").split()
    assert (int(uid) in DYNAMIC, mode) == (True, "666")
    assert "2 GPUs: 2 available" in lab.shell("runuser -u alice -- python3 /srv/get.py")
    lab.shell("systemctl stop canhazgpu-web; test ! -e /run/canhazgpu-web")
    config.write_text(kept)


def test_purge_stops_the_service_and_leaves_nothing(lab: debian.System) -> None:
    """Neither a process nor a unit nor state."""
    lab.shell("apt-get purge -qq -y canhazgpu")
    assert lab.call("systemctl", "is-active", "canhazgpu", check=False).stdout.strip() == "inactive"
    left = lab.shell("find /etc /usr /lib /var/lib /var/log /run -xdev -iname '*canhazgpu*' 2>/dev/null")
    assert left == ""
    assert subprocess.run(["pgrep", "-f", f"{lab.folder}/usr/lib/canhazgpu"], check=False).returncode == 1
