"""The systemd units: hardened as far as the work allows, and nothing for systemd to complain about."""

import subprocess
from pathlib import Path

import pytest
from support.programs import need

from canhazgpu.cli.operations import install

MOST = 30  # Tenths of what `systemd-analyze security` calls exposure.
NAMES = ("canhazgpu.service", "canhazgpu-worker.service")
PLUGIN = "canhazgpu-kubernetes.service"
EXPORTER = "canhazgpu-exporter.service"
WEB = "canhazgpu-web.service"
# What would keep the service from its work: see the comments in the units.
HARMFUL = {
    "PrivateDevices": "NVML opens /dev/nvidia*",
    "DeviceAllow": "NVML opens /dev/nvidia*, whose numbers are known only when it runs",
    "DevicePolicy": "NVML opens /dev/nvidia*",
    "ProtectClock": "it allows no device but the clock, as DeviceAllow= would",
    "ProtectProc": "the service has to see the processes of everybody",
    "ProcSubset": "/proc/sys, /proc/stat and others are read",
    "PrivateUsers": "the uids of others would all be nobody",
    "PrivateNetwork": "mail and webhooks are sent",
    "IPAddressDeny": "mail and webhooks are sent",
    "ProtectHostname": "a new name of the host would not be seen",
}


def _settings(name: str, folder: Path) -> dict[str, str]:
    """Return the directives of a unit whose program is a file that exists."""
    text = install.unit(name, Path("/bin/true"))
    (folder / name).write_text(text)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("name", [*NAMES, EXPORTER, WEB])
def test_a_unit_is_hardened(tmp_path: Path, name: str) -> None:
    """`systemd-analyze security` says at most 3.0; above it exits with 1."""
    need("systemd-analyze")
    _settings(name, tmp_path)
    words = [
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={MOST}",
        str(tmp_path / name),
    ]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]
    assert "Overall exposure level" in judged.stdout


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` is silent; what it says of the units of this machine does not count."""
    need("systemd-analyze")
    for name in (*NAMES, PLUGIN, EXPORTER, WEB):
        _settings(name, tmp_path)
    verified = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "canhazgpu" in line]
    assert (verified.returncode, said) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_keeps_what_the_service_needs(tmp_path: Path, name: str) -> None:
    """Terminals, signals to others and /proc go on working; nothing is on that would end that."""
    settings = _settings(name, tmp_path)
    assert {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_KILL"} <= set(
        settings["CapabilityBoundingSet"].split()
    )
    assert settings["SupplementaryGroups"] == "tty"
    assert set(settings["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert {directive: reason for directive, reason in HARMFUL.items() if directive in settings} == {}


def test_the_copy_of_the_journal_outlives_a_stop(tmp_path: Path) -> None:
    """The unit preserves the runtime directory, else a rolled back state directory would not be noticed."""
    assert _settings("canhazgpu.service", tmp_path)["RuntimeDirectoryPreserve"] == "yes"


def test_the_units_differ_only_in_what_they_do() -> None:
    """Both are hardened alike: no directive was changed in one of them and forgotten in the other."""
    first, second = (
        {
            line
            for line in install.unit(name, Path("/bin/true")).splitlines()
            if line.startswith(("Protect", "Private", "Restrict", "Lock", "SystemCall", "NoNew", "UMask"))
        }
        for name in NAMES
    )
    assert first == second


def test_the_exporter_has_no_rights(tmp_path: Path) -> None:
    """It runs as a user that exists only for it, without a capability, and can write nowhere."""
    found = _settings(EXPORTER, tmp_path)
    assert found["DynamicUser"] == "yes"
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ""
    assert found["ProtectSystem"] == "strict"
    assert [name for name in found if name.endswith(("Paths", "Directory", "Groups"))] == [
        "ProtectControlGroups"
    ]


def test_the_device_plugin_stays_in_the_mount_namespace_of_the_host(tmp_path: Path) -> None:
    """The unit has no directive that starts it in another one, where its root would not count."""
    found = _settings(PLUGIN, tmp_path)
    private = ("Protect", "Private", "Mount", "BindPaths", "Temporary", "Root")
    assert [name for name in found if name.startswith(private) or name.endswith(("Paths", "Directory"))] == []
    assert found["CapabilityBoundingSet"] == ""
