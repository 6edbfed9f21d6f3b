"""Who can open which device file, decided from the journal and the last scan."""

import pytest

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import MANUAL, Record
from canhazgpu.service.enforcement.openings import minors_of, openings
from canhazgpu.service.storage.journal import Card, State

CARDS = {"0": Card(uuid="A"), "1": Card(uuid="B"), "2": Card(uuid="C")}
MINORS = {"A": 2, "B": 0, "C": 1}


def held(uid: int, *gpus: int, login_uid: int | None = None) -> Record:
    """Return a reservation of these GPUs."""
    name = f"r{uid}-{gpus[0]}"
    return Record(id=name, kind=MANUAL, user="u", uid=uid, gpus=gpus, started_ms=0, login_uid=login_uid)


def state(*records: Record, cards: dict[str, Card] = CARDS) -> State:
    """Return a journal with these reservations."""
    return State(dataset="d", records={one.id: one for one in records}, cards=cards)


def usage(index: int, uuid: str, minor: int | None, state: str = "ok") -> GpuUsage:
    """Return a GPU of the last scan."""
    return GpuUsage(index=index, uuid=uuid, name="H100", minor=minor, state=state)


def test_the_holder_opens_the_file_with_the_minor_number_of_the_gpu() -> None:
    """The file of a GPU is found by its minor number, never by its index."""
    assert openings(state(held(7, 0), held(8, 2)), MINORS) == {2: {7}, 0: set(), 1: {8}}


def test_after_sudo_the_user_who_logged_in_can_open_it() -> None:
    """A reservation of root that a user made with sudo opens the GPU to the user."""
    assert openings(state(held(0, 1, login_uid=9)), MINORS)[0] == {0, 9}


@pytest.mark.parametrize(
    "cards", [{"0": Card(uuid="A", unmanaged=True)}, {"0": Card(uuid="X")}, {"0": Card()}]
)
def test_files_of_unmanaged_and_unknown_gpus_are_left_alone(cards: dict[str, Card]) -> None:
    """A GPU that canhazgpu does not manage, or whose file is not known, is nobody's business."""
    assert openings(state(held(7, 0), cards=cards), MINORS) == {}


def test_a_gpu_that_is_missing_keeps_its_number_unless_another_has_it() -> None:
    """The number of a GPU that a scan did not find is that of before, until another GPU gets it."""
    assert minors_of([usage(0, "A", 0)], {"B": 1}) == {"A": 0, "B": 1}
    assert minors_of([usage(0, "A", 1)], {"B": 1}) == {"A": 1}


def test_a_broken_gpu_does_not_take_the_number_of_one_that_answers() -> None:
    """Of two GPUs with the same number, the one that was read without an error has it."""
    seen = [usage(0, "A", 3), usage(1, "B", 3, "error"), usage(2, "C", None)]
    assert minors_of(seen, {"A": 1}) == {"A": 3}
