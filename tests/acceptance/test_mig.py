"""A host with a card that is divided into MIG instances: what people ask for, see, and are told."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.mig import instance

from canhazgpu.client import Client, Refused, reserve
from canhazgpu.client.jupyter.magic import Magic

SHOW = ("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES|$NVIDIA_VISIBLE_DEVICES"')
SMALL, LARGE = "MIG-aaaaaaaa-0", "MIG-bbbbbbbb-1"


def divided(*instances: str) -> str:
    """Return GPU 0 with these instances."""
    return gpu(0, uuid="GPU-card") + "".join(instances)


BOTH = divided(instance(0, "1g.10gb", SMALL), instance(1, "3g.40gb", LARGE))


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host with the divided GPU 0, and GPU 1."""
    made = Daemon(folder)
    made.place(BOTH, gpu(1, uuid="GPU-whole"))
    yield made.start()
    made.stop()


def test_status_has_a_line_for_each_instance(host: Daemon) -> None:
    """A card that is divided has no line of its own; in JSON it is PARTITIONED."""
    assert host.run("status").stdout == (
        "GPU 0:0: AVAILABLE (never reserved) [validated: 0MB used]\n"
        "GPU 0:1: AVAILABLE (never reserved) [validated: 0MB used]\n"
        "GPU 1: AVAILABLE (never reserved) [validated: 0MB used]\n"
    )
    rows = json.loads(host.run("status", "--json").stdout)
    assert [(row["number"], row["status"], row["parent"], row["profile"]) for row in rows] == [
        ("0", "PARTITIONED", None, None),
        ("0:0", "AVAILABLE", 0, "1g.10gb"),
        ("0:1", "AVAILABLE", 0, "3g.40gb"),
        ("1", "AVAILABLE", None, None),
    ]
    assert rows[0]["instances"] == [row["gpu_id"] for row in rows[1:3]]
    assert [line.split()[0] for line in host.run("status", "--long").stdout.splitlines()] == [
        "GPU",
        "0:0",
        "0:1",
        "1",
    ]


def test_a_run_gets_the_uuid_of_its_instance(host: Daemon) -> None:
    """An instance by its name, by its UUID, or by its profile."""
    for words in (["--gpu-ids", "0:1"], ["--gpu-ids", LARGE[:10]], ["--mig", "3g.40gb"]):
        done = host.run("run", "--wait", *words, "--", *SHOW)
        assert (done.stdout, done.returncode) == (f"{LARGE}|{LARGE}\n", 0)
    whole = host.run("run", "--gpus", "1", "--", *SHOW)
    assert whole.stdout == "1|GPU-whole\n"


def test_a_whole_card_is_all_of_its_instances(host: Daemon) -> None:
    """By name only; whoever holds it sees both, and nobody else gets one."""
    held = host.run("reserve", "--gpu-ids", "0", "--json")
    made = json.loads(held.stdout)
    assert made["environment"]["CUDA_VISIBLE_DEVICES"] == f"{SMALL},{LARGE}"
    shown = [line.partition(" by ")[0] for line in host.run("status").stdout.splitlines()]
    assert shown[:2] == ["GPU 0:0: IN USE", "GPU 0:1: IN USE"]
    refused = host.run("reserve", "--gpu-ids", "0:1", "--nonblock")
    assert refused.stderr.startswith("Error: Not available: GPU 0:1 is reserved by ")
    assert host.run("release", "0").stdout == "Released 1 GPU(s): [0]\n"


def test_requests_that_no_instance_fits(host: Daemon) -> None:
    """Too many, an unknown profile, an instance that does not exist, and mistakes are said on one line."""
    few = host.run("reserve", "--mig", "1g.10gb:2")
    assert few.stderr.startswith("Error: 2 MIG instances 1g.10gb were requested, but this host has 1 (")
    assert host.run("reserve", "--gpus", "2").stderr == (
        "Error: 2 GPUs were requested, but this host has 1 that is not divided into MIG instances"
        " (request instances with --mig 1g.10gb or --mig 3g.40gb)\n"
    )
    assert host.run("reserve", "--gpu-ids", "0:7").stderr.startswith(
        "Error: there is no GPU 0:7 on this host"
    )
    wrong = host.run("reserve", "--mig", "small")
    assert "'small' is not a MIG profile: write it like 1g.10gb" in wrong.stderr
    wrong = host.run("run", "--mig", "g.", "--", "true")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (125, 1)
    assert "'g.' is not a MIG profile: write it like 1g.10gb" in wrong.stderr
    other = host.run("reserve", "--mig", "7g.80gb")
    assert other.stderr == (
        "Error: 1 MIG instance 7g.80gb was requested, but this host has 0 (it has 1g.10gb and 3g.40gb)\n"
    )
    both = host.run("reserve", "--mig", "1g.10gb", "--gpus", "2")
    assert (both.returncode, "--mig and --gpus cannot be used together" in both.stderr) == (2, True)
    host.run("reserve", "--mig", "1g.10gb")
    taken = host.run("reserve", "--mig", "1g.10gb", "--nonblock")
    why = "Requested: 1, Available: 0 (1 MIG instance reserved - run"
    assert taken.stderr.startswith(f"Error: Not enough 1g.10gb MIG instances available. {why}")


def test_a_profile_in_upper_case(host: Daemon) -> None:
    """It is the same profile."""
    assert json.loads(host.run("reserve", "--mig", "3G.40GB", "--json").stdout)["gpus"] == [1025]
    assert host.run("run", "--mig", "1G.10gb:1", "--", *SHOW).stdout == f"{SMALL}|{SMALL}\n"


def test_reserve_in_python(host: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the profile, also for each call of a function, and by the name of an instance."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    client = Client(f"{host.folder}/s")
    with reserve(mig="1G.10GB", client=client) as held:
        assert (held.gpus, os.environ["CUDA_VISIBLE_DEVICES"]) == ([1024], SMALL)

    @reserve(mig="3g.40gb:1", client=client)
    def seen() -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert seen() == LARGE
    with reserve(gpu_ids=["0:1"], client=client) as held:
        assert held.gpus == [1025]
    with pytest.raises(Refused, match=r"2 MIG instances 3g\.40gb were requested"):
        reserve(mig="3g.40gb:2", client=client).__enter__()


def test_a_kernel_that_has_a_whole_gpu_can_reserve_an_instance(
    host: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%canhazgpu reserve --mig` is not answered with the GPU of the run that started the kernel."""
    granted = json.loads(host.run("reserve", "--gpu-ids", "1", "--json").stdout)
    for name, value in {**granted["environment"], "CANHAZGPU_SOCKET": f"{host.folder}/s"}.items():
        monkeypatch.setenv(name, value)
    assert Magic._is_enough([])  # noqa: SLF001 - the rest needs a kernel
    assert capsys.readouterr().out == "This kernel has GPU 1, which you have reserved\n"
    assert not Magic._is_enough(["--mig", "3g.40gb"])  # noqa: SLF001


def test_a_host_whose_cards_are_not_divided(host: Daemon) -> None:
    """It has no profile."""
    host.place(gpu(0, uuid="GPU-card"), gpu(1, uuid="GPU-whole"))
    until(lambda: "GPU 0: AVAILABLE" in host.status())
    assert host.run("reserve", "--mig", "1g.10gb:2").stderr == (
        "Error: 2 MIG instances 1g.10gb were requested, but this host has 0 (none of its GPUs is divided into"
        " MIG instances)\n"
    )


def test_a_host_whose_cards_are_all_divided(host: Daemon) -> None:
    """The refusal says so, and how instances are requested."""
    host.place(BOTH + gpu(1, uuid="GPU-whole") + instance(0, "7g.80gb", "MIG-cccccccc-2"))
    until(lambda: "GPU 1:0" in host.status())
    refused = host.run("run", "--", "true")
    assert refused.stderr == (
        "Error: usage: 1 GPU was requested, but this host has 0 that are not divided into MIG instances"
        " (request instances with --mig 1g.10gb or --mig 3g.40gb or --mig 7g.80gb)\n"
    )


def test_a_violation_names_the_instance(host: Daemon) -> None:
    """Use of an instance without a reservation has its line, and the event and the list say 0:1."""
    used = use(12345, 1024, "bob", "python3")
    host.place(
        divided(instance(0, "1g.10gb", SMALL), instance(1, "3g.40gb", LARGE, used)), gpu(1, uuid="GPU-whole")
    )
    line = "GPU 0:1: IN USE WITHOUT RESERVATION by user bob - 1024MB used by PID 12345 (python3)"
    until(lambda: line in host.status())
    until(lambda: "0:1" in host.run("violations").stdout)


def test_an_instance_that_is_gone_ends_its_reservation(host: Daemon) -> None:
    """The holder's reservation ends, and a new instance is free."""
    host.run("reserve", "--gpu-ids", "0:1", "--duration", "1h")
    host.place(
        divided(instance(0, "1g.10gb", SMALL), instance(2, "2g.20gb", "MIG-new")), gpu(1, uuid="GPU-whole")
    )
    until(lambda: "GPU 0:1" not in host.status())
    assert "GPU 0:2: AVAILABLE" in host.status()
    assert "GPU vanished" in host.run("history").stdout


def check(host: Daemon, visible: str) -> tuple[int, str]:
    """Check a program that sees these GPUs; return the exit code, and what is said."""
    done = subprocess.run(
        [*COMMAND, "check"],
        env={**host.environment, "CUDA_VISIBLE_DEVICES": visible},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_check_knows_instances(host: Daemon) -> None:
    """CUDA_VISIBLE_DEVICES with an instance is about this instance; with the card, about all of them."""
    host.run("reserve", "--gpu-ids", "0:1")
    assert check(host, LARGE)[0] == 0
    code, said = check(host, SMALL)
    assert (code, "GPU 0:0 is not reserved" in said) == (4, True)
    code, said = check(host, "GPU-card")
    assert (code, "GPU 0:0 is not reserved" in said) == (4, True)


def test_a_run_in_the_reservation_of_a_whole_card(host: Daemon) -> None:
    """It stays on the card's instances, also if it asks for a number of GPUs, and another GPU stays free."""
    inner = [*COMMAND, "run", "--gpus", "1", "--", *SHOW]
    assert host.run("run", "--gpu-ids", "0", "--", *inner).stdout == f"{SMALL}|{SMALL}\n"
    until(lambda: host.status().count("AVAILABLE") == 3)
    host.run("reserve", "--gpu-ids", "0")
    assert host.run("run", "--gpus", "1", "--", *SHOW).stdout == f"{SMALL}|{SMALL}\n"


def test_a_run_in_the_reservation_of_an_instance(host: Daemon) -> None:
    """It stays on the instance, and is refused if it asks for more; no other GPU is taken."""
    inner = [*COMMAND, "run", "--gpus", "1", "--", *SHOW]
    assert host.run("run", "--mig", "3g.40gb", "--", *inner).stdout == f"{LARGE}|{LARGE}\n"
    inner[len(COMMAND) + 2] = "2"
    refused = host.run("run", "--wait", "--mig", "3g.40gb", "--", *inner)
    assert "2 GPUs were requested within reservation" in refused.stderr
    assert "which has 1 GPU(s): [0:1]" in refused.stderr


def test_env_of_a_whole_card(host: Daemon) -> None:
    """The card is named like one that is not divided."""
    host.run("reserve", "--gpu-ids", "0")
    for words in (["0"], ["--gpu-ids", "0"], []):
        done = host.run("env", *words)
        assert (done.returncode, f"{SMALL},{LARGE}" in done.stdout) == (0, True), done.stderr


def test_a_card_without_instances_says_what_to_do(host: Daemon) -> None:
    """Nothing in the line is escaped."""
    host.place(gpu(0, uuid="GPU-card") + "mig = []\n", gpu(1, uuid="GPU-whole"))
    until(lambda: "create instances with" in host.status())
    assert "\\x20" not in host.status()
