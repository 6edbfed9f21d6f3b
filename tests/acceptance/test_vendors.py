"""Hosts with AMD GPUs, alone or beside NVIDIA's: requests, the queue, variables, checks and what is said."""

import json
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.amd import Say
from support.daemon import COMMAND, Daemon, until
from support.vendors import UUIDS, amd, mixed_host
from support.waiters import QueueHost

SHOW = ("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES:$ROCR_VISIBLE_DEVICES:$HIP_VISIBLE_DEVICES"')


def rows(host: Daemon) -> list[dict[str, Any]]:
    """Return the GPUs of a host."""
    found: list[dict[str, Any]] = json.loads(host.run("status", "--json").stdout)
    return found


@pytest.fixture
def mixed(folder: Path) -> Iterator[QueueHost]:
    """A host with NVIDIA's GPUs 0 and 1, and AMD's 2 and 3."""
    with mixed_host(folder) as host:
        yield host


@pytest.fixture
def only_amd(folder: Path) -> Iterator[Daemon]:
    """A host with two AMD GPUs."""
    host = Daemon(folder)
    host.place(amd(0, 0), amd(1, 1))
    yield host.start()
    host.stop()


def test_a_run_gets_one_vendor_and_sees_nothing_of_the_other(mixed: QueueHost) -> None:
    """A run on a host with both gets the vendor that it asks for, or NVIDIA's, and says so."""
    plain = mixed.run("run", "--gpus", "2", "--", *SHOW)
    assert (plain.stdout, plain.stderr) == (
        "0,1::\n",
        "These are NVIDIA GPUs; --vendor amd chooses the others\n",
    )
    wanted = mixed.run("run", "--gpus", "2", "--vendor", "amd", "--", *SHOW)
    assert (wanted.stdout, wanted.stderr) == (f":{UUIDS[0]},{UUIDS[1]}:0,1\n", "")
    named = mixed.run("run", "--gpu-ids", "3", "--wait", "--", *SHOW)  # Until the run before is over.
    assert named.stdout == f":{UUIDS[1]}:0\n"  # It says that it waits, if it does.


def test_what_cannot_be_had_is_refused_with_the_vendor(mixed: QueueHost) -> None:
    """Too many GPUs of a vendor, GPUs of both, and a wrong name are refused on one line."""
    many = mixed.run("reserve", "--gpus", "3", "--vendor", "AMD")
    assert many.stderr.startswith("Error: 3 AMD GPUs were requested, but this host has 2")
    both = mixed.run("reserve", "--gpu-ids", "1,2")
    assert both.stderr == (
        "Error: a reservation has GPUs of one vendor, not GPU 1 of NVIDIA and GPU 2 of AMD"
        " (reserve them separately)\n"
    )
    assert mixed.run("reserve", "--gpu-ids", "all").stderr.startswith("Error: a reservation has GPUs of one")
    wrong = mixed.run("reserve", "--vendor", "intel")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "'intel' is not one of nvidia, amd" in wrong.stderr
    assert mixed.run("reserve", "--gpu-ids", "all", "--vendor", "amd").returncode == 0
    full = mixed.run("reserve", "--vendor", "amd")
    assert full.stderr == (
        "Error: Not enough AMD GPUs available. Requested: 1, Available: 0 (2 GPUs reserved - run"
        " 'canhazgpu status' for details)\n"
    )


def test_the_queue_keeps_the_vendor(mixed: QueueHost) -> None:
    """A request that waits for AMD's GPUs keeps none of NVIDIA's from others, and has a forecast."""
    assert mixed.run("reserve", "--gpus", "2", "--vendor", "amd", "--duration", "4h").returncode == 0
    waits = mixed.stand("run", "--new", "--gpus", "1", "--vendor", "amd", "--wait", "--", *SHOW)
    (row,) = mixed.queue()
    assert (row["vendor"], row["expected"] is not None) == ("amd", True)
    assert row["reason"].startswith("needs 1 of 2 AMD GPUs: 2 reserved")
    other = mixed.run("run", "--new", "--gpus", "2", "--vendor", "nvidia", "--", *SHOW)
    assert other.stdout == "0,1::\n"
    assert len(mixed.queue()) == 1
    mixed.run("release")
    assert waits.stdout
    assert select.select([waits.stdout], [], [], 100)[0]
    assert waits.stdout.readline() in {f":{uuid}:0\n" for uuid in UUIDS}


def test_the_setting_chooses_for_those_who_do_not(mixed: QueueHost) -> None:
    """With `allocation.vendor = "amd"`, a request without a vendor gets AMD's GPUs."""
    mixed.stop()
    config = mixed.folder / "config.toml"
    config.write_text('allocation.vendor = "amd"\n' + config.read_text())
    mixed.start()
    done = mixed.run("run", "--", *SHOW)
    assert (done.stdout, done.stderr) == (
        f":{UUIDS[0]}:0\n",
        "These are AMD GPUs; --vendor nvidia chooses the others\n",
    )


def test_shell_code_of_one_and_of_several_reservations(mixed: QueueHost) -> None:
    """`reserve` and `env` print the variables of ROCm, and those of several reservations together."""
    code = mixed.run("reserve", "--vendor", "amd", "--shell", "bash").stdout.splitlines()
    assert [line for line in code if "CANHAZGPU" not in line] == [
        "export CUDA_VISIBLE_DEVICES=''",
        "export CUDA_DEVICE_ORDER=PCI_BUS_ID",
        f"export ROCR_VISIBLE_DEVICES={UUIDS[0]}",
        "export HIP_VISIBLE_DEVICES=0",
    ]
    mixed.run("reserve", "--vendor", "amd")
    mixed.run("reserve", "--gpu-ids", "1")
    together = mixed.run("env", "--shell", "bash").stdout.splitlines()
    assert "export CUDA_VISIBLE_DEVICES=1" in together
    assert f"export ROCR_VISIBLE_DEVICES={UUIDS[0]},{UUIDS[1]}" in together
    assert "export HIP_VISIBLE_DEVICES=0,1" in together
    assert (
        f"export ROCR_VISIBLE_DEVICES={UUIDS[1]}" in mixed.run("env", UUIDS[1][:8], "--shell", "bash").stdout
    )


def test_a_run_uses_a_held_reservation_only_of_its_vendor(mixed: QueueHost) -> None:
    """A run that asks for a vendor does not use a reservation of the other one."""
    mixed.run("reserve", "--gpu-ids", "0")
    assert mixed.run("run", "--vendor", "amd", "--", *SHOW).stdout == f":{UUIDS[0]}:0\n"
    held = mixed.run("run", "--vendor", "nvidia", "--", *SHOW)
    assert (held.stdout, "Using 1 GPU(s): [0]" in held.stderr) == ("0::\n", True)


def test_check_knows_the_variables_of_both(mixed: QueueHost) -> None:
    """`check` says of each vendor's GPUs whether they are reserved, by the rules of its runtime."""
    code = mixed.run("reserve", "--vendor", "amd", "--shell", "bash").stdout
    script = f"{code}\n{' '.join(COMMAND)} check"
    mine = subprocess.run(
        ["sh", "-c", script], env=mixed.environment, capture_output=True, text=True, check=False
    )
    assert (mine.returncode, mine.stdout.startswith("GPU 2 is reserved by you for ")) == (0, True)
    variables = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "HIP_VISIBLE_DEVICES": "1"}
    done = subprocess.run(
        [*COMMAND, "check"],
        env=mixed.environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("GPU 1 is not reserved, GPU 3 is not reserved: ") or done.stdout.startswith(
        "GPUs 1,3 are not reserved: "
    )
    assert done.returncode == 4


def test_a_host_with_only_amd_needs_no_option(only_amd: Daemon) -> None:
    """Where there is nothing else, AMD's GPUs are what is reserved, and CUDA's variable counts as HIP's."""
    done = only_amd.run("run", "--gpu-ids", "1", "--", *SHOW)
    assert (done.stdout, done.stderr) == (f"0:{UUIDS[1]}:0\n", "")
    wrong = only_amd.run("reserve", "--vendor", "nvidia")
    assert wrong.stderr == "Error: this host has no NVIDIA GPU (`canhazgpu status` lists them)\n"
    short = only_amd.run("reserve", "--gpus", "2", "--short")
    assert short.stdout == f"{','.join(UUIDS)}\n"


def test_a_service_on_amd_smi(amd_host: Daemon, say_amd: Say) -> None:
    """A service reads AMD's library; doctor, status and a run show what it says."""
    me = subprocess.Popen(["sleep", "600"])
    try:
        first = "gpu 0000:03:00.0 MI300X 196592 283\nunique 1a2b3c4d5e6f7788\nbusy 0\nhotspot 41\n"
        second = "gpu 0000:83:00.0 MI300X 196592 283\nunique 99aabbccddeeff00\nbusy 0\nhotspot 42\n"
        say_amd(first + second)
        amd_host.start()
        until(lambda: amd_host.status().count("AVAILABLE") == 2, 20)
        assert amd_host.run("run", "--gpu-ids", "1", "--", *SHOW).stdout == f"0:{UUIDS[1]}:0\n"
        say_amd(f"{first}proc {me.pid} {5000 * 1024 * 1024} {5000 * 1024 * 1024}\n{second}")
        until(lambda: rows(amd_host)[0]["status"] == "UNRESERVED", 20)
        facts = rows(amd_host)
        assert (facts[0]["vendor"], facts[0]["memory_mb"], facts[1]["temperature_c"]) == ("amd", 5000, 42)
        assert "amdsmi: 2 GPUs" in amd_host.run("doctor").stdout
        say_amd(f"{first}lists 10\n{second}")
        until(lambda: rows(amd_host)[0]["status"] == "UNKNOWN", 20)
        assert rows(amd_host)[0]["reason"] == "Permission Denied"
    finally:
        me.kill()
        me.wait()


def test_the_json_of_a_status_and_of_the_queue_has_the_vendor(mixed: QueueHost) -> None:
    """Programs find the vendor of each GPU."""
    assert [row["vendor"] for row in rows(mixed)] == ["nvidia", "nvidia", "amd", "amd"]


def test_python_reserves_of_one_vendor(mixed: QueueHost) -> None:
    """`reserve(vendor="amd")` reserves AMD's GPUs and sets the variables of ROCm."""
    program = (
        "import os\nfrom canhazgpu.client import reserve\n"
        "with reserve(2, vendor='amd') as r: print(r.gpus, os.environ['ROCR_VISIBLE_DEVICES'])\n"
        "print('ROCR_VISIBLE_DEVICES' in os.environ)\n"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", program], env=mixed.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"[2, 3] {','.join(UUIDS)}\nFalse\n"
