"""The environment variables of a reservation."""

import msgspec
import pytest

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import MANUAL, PBS, SLURM, Record
from canhazgpu.service.reservations.environment import environment

RECORD = Record(id="r1-1", kind=MANUAL, user="ada", uid=1000, gpus=(0, 2), started_ms=0)


def known(*uuids: str) -> dict[int, GpuUsage]:
    """Return the last scan: these cards, from index 0 on."""
    return {index: GpuUsage(index=index, uuid=uuid, name="H100") for index, uuid in enumerate(uuids)}


@pytest.mark.parametrize(("ids", "visible"), [("index", "0,2"), ("uuid", "A,C")])
def test_the_gpus_of_the_last_scan_are_named(ids: str, visible: str) -> None:
    """Without anything newer, the last scan says which card an index is."""
    settings = Settings()
    settings = msgspec.structs.replace(settings, run=msgspec.structs.replace(settings.run, device_ids=ids))
    found = environment(settings, RECORD, known("A", "B", "C"))
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == (visible, "A,C")


@pytest.mark.parametrize(("ids", "visible"), [("index", "2,0"), ("uuid", "A,C")])
def test_a_grant_names_its_cards_also_if_they_are_renumbered_meanwhile(ids: str, visible: str) -> None:
    """The variables name the cards that were granted, at the indices of the last scan."""
    settings = Settings()
    settings = msgspec.structs.replace(settings, run=msgspec.structs.replace(settings.run, device_ids=ids))
    found = environment(settings, RECORD, known("C", "B", "A"), cards={"0": "A", "1": "B", "2": "C"})
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == (visible, "A,C")


@pytest.mark.parametrize("kind", [SLURM, PBS])
def test_in_a_job_cuda_gets_uuids(kind: str) -> None:
    """A job may be able to open only its own GPUs, so indices would mean other cards."""
    record = msgspec.structs.replace(RECORD, kind=kind)
    assert environment(Settings(), record, known("A", "B", "C"))["CUDA_VISIBLE_DEVICES"] == "A,C"


def test_with_enforcement_cuda_gets_uuids() -> None:
    """CUDA counts only the GPUs that a user can open, so indices would mean other cards."""
    settings = Settings()
    enforced = msgspec.structs.replace(settings.enforcement, devices=True)
    found = environment(msgspec.structs.replace(settings, enforcement=enforced), RECORD, known("A", "B", "C"))
    assert found["CUDA_VISIBLE_DEVICES"] == "A,C"
