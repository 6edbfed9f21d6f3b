"""Notices about MIG instances name them, and suggest commands that fit."""

import msgspec
import pytest

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.messages.plain_text import lines
from canhazgpu.notifiers.messages.sample_notices import samples

SAMPLES = {one.name: one.notice for one in samples()}
A100 = "NVIDIA A100 MIG"


def text(notice: Notice) -> str:
    """Return all lines of a notice."""
    return "\n".join(lines(notice))


def of_instances(name: str, *found: tuple[int, str]) -> Notice:
    """Return a sample about violations on these instances: an index, and a name."""
    notice = SAMPLES[name]
    violations = tuple(
        msgspec.structs.replace(one, gpu=index, gpu_name=model)
        for one, (index, model) in zip(notice.violations * 2, found, strict=False)
    )
    return msgspec.structs.replace(notice, violations=violations[: len(found)])


@pytest.mark.parametrize(
    ("found", "named", "command"),
    [
        ([(1025, f"{A100} 3g.40gb")], "GPU 0:1", "canhazgpu run --mig 3g.40gb -- COMMAND"),
        (
            [(1025, f"{A100} 1g.10gb"), (2048, f"{A100} 1g.10gb")],
            "GPUs 0:1 and 1:0",
            "canhazgpu run --mig 1g.10gb:2 -- COMMAND",
        ),
        (
            [(1025, f"{A100} 1g.10gb"), (2048, f"{A100} 3g.40gb")],
            "GPUs 0:1 and 1:0",
            "canhazgpu run --gpu-ids 0:1,1:0 -- COMMAND",
        ),
        ([(1025, f"{A100} instance")], "GPU 0:1", "canhazgpu run --gpu-ids 0:1 -- COMMAND"),
        ([(3, "NVIDIA A100")], "GPU 3", "canhazgpu run --gpus 1 -- COMMAND"),
    ],
)
def test_the_command_for_the_next_time(found: list[tuple[int, str]], named: str, command: str) -> None:
    """It asks for instances of the same profile, or for these if they have several."""
    said = text(of_instances("opened-offender", *found))
    assert f"you have been using {named} without a reservation" in said
    assert f"Next time: {command}\n" in said


def test_other_instances_for_the_holder() -> None:
    """They are of the same profile; if that is not known, none are suggested."""
    said = text(of_instances("opened-holder", (1025, f"{A100} 3g.40gb")))
    assert "To use other GPUs meanwhile: canhazgpu reserve --mig 3g.40gb --duration 4h" in said
    assert "To use other GPUs" not in text(of_instances("opened-holder", (1025, "")))


def about(name: str, *gpus: int, **facts: object) -> str:
    """Return a sample about a reservation of these GPUs."""
    notice = SAMPLES[name]
    assert notice.reservation
    held = msgspec.structs.replace(notice.reservation, gpus=gpus, was=None, **facts)
    return text(msgspec.structs.replace(notice, reservation=held))


def test_variables_of_instances() -> None:
    """CUDA takes no number for an instance: the command gets its UUID."""
    said = about("granted-holder", 1025)
    assert 'code=$(canhazgpu env 0:1) && eval "$code"' in said
    assert "CUDA_VISIBLE_DEVICES=" not in said


def test_an_instance_that_is_gone_is_not_suggested() -> None:
    """The holder is told where to see which there are; a divided GPU is reserved again by its name."""
    gone = about("released-holder-vanished", 1025, reason="vanished")
    assert "To see the instances that there are: canhazgpu status --long" in gone
    assert "canhazgpu reserve" not in gone
    whole = about("released-holder-lost", 0, 1024, 1025, reason="expired")
    assert "To reserve again: canhazgpu reserve --gpu-ids 0 --duration 4h" in whole


def test_a_run_that_needs_more_time() -> None:
    """It is started again on these instances."""
    assert "canhazgpu run --gpu-ids 0:0,0:1 --timeout 8h -- COMMAND" in about("timeout-holder", 1024, 1025)


def test_bookings_of_named_gpus() -> None:
    """A missed one is repeated by the names, and one GPU with its instances is one."""
    notice = SAMPLES["booking-missed-holder"]
    assert notice.booking
    missed = msgspec.structs.replace(notice.booking, gpus=(1024,), count=1)
    assert "canhazgpu reserve --gpu-ids 0:0 --wait" in text(msgspec.structs.replace(notice, booking=missed))
    notice = SAMPLES["booking-begun-holder"]
    assert notice.booking
    begun = msgspec.structs.replace(notice.booking, gpus=(0, 1024, 1025))
    assert "booking has begun: GPU 0 is reserved" in text(msgspec.structs.replace(notice, booking=begun))
