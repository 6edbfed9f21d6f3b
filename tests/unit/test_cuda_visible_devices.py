"""CUDA_VISIBLE_DEVICES is read as CUDA reads it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canhazgpu.events.spelling.cuda_visible_devices import Card, visible

GUIDE = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"  # The UUID in the CUDA programming guide.
UUIDS = [
    GUIDE,
    "GPU-8932aaaa-1111-4106-c12f-20bd9faed9f6",
    "GPU-0c0c0c0c-d72c-4106-c12f-20bd9faed9f6",
    "GPU-12345678-d72c-4106-c12f-20bd9faed9f6",
]
INSTANCES = [f"MIG-{GUIDE}/1/0", f"MIG-{GUIDE}/2/0", "MIG-5b1a0f3c-0000-5555-9999-20bd9faed9f6"]
FIRST, SECOND = 1024, 1025  # The MIG instances of GPU 0.
PARTS = dict(zip(INSTANCES, (FIRST, SECOND, FIRST), strict=True))
CARDS = [Card(index, uuid, "H100", PARTS if index == 0 else {}) for index, uuid in enumerate(UUIDS)]
WHOLE = [Card(index, uuid, "H100") for index, uuid in enumerate(UUIDS)]
MIXED = [Card(index, uuid, "A100" if index else "T4") for index, uuid in enumerate(UUIDS)]


def seen(listed: str | None, cards: list[Card] = CARDS, **more: str) -> list[int]:
    """Return what a program sees for this value of the variable."""
    environment = more if listed is None else {"CUDA_VISIBLE_DEVICES": listed, **more}
    return list(visible(environment, cards).gpus)


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # What Slurm sets for a job without GPUs.
        ("2,1", [2, 1]),  # The examples of the guide: the order counts,
        ("0,2,-1,1", [0, 2]),  # and what follows an invalid index is ignored.
        ("GPU-8932f937", [0]),
        (GUIDE, [0]),
        ("GPU-8932", []),  # Two begin so.
        ("0,GPU-8932,1", [0]),
        ("GPU-0c,GPU-12", [2, 3]),
        ("9,0", []),
        ("0,9,1", [0]),
        ("0,,1", [0]),
        ("1,1", []),
        ("0,1,0", []),
        ("0,-1,0", [0]),  # The second 0 is not read.
        ("GPU-0c,GPU-0c0c", []),  # The same GPU, spelled in two ways.
        ("1gpu2,2ampere", [1, 2]),  # strtol(3) reads the digits at the beginning.
        ("0-2", [0]),
        ("+1, 2", [1, 2]),
        ("0,GPU-8932f937", [0]),
        (f"MIG-{GUIDE}/1/0", []),
        ("9" * 5000, []),
        ("\udcff", []),
    ],
)
def test_the_rules(listed: str | None, gpus: list[int]) -> None:
    """Order, prefixes, duplicates, and the end of the list at what is no GPU."""
    assert seen(listed, WHOLE) == gpus


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        (None, [FIRST, SECOND, 1, 2, 3]),
        ("0,2", [FIRST, SECOND, 2]),
        ("GPU-8932f937", [FIRST, SECOND]),
        (f"MIG-{GUIDE}/1/0", [FIRST]),
        (f"MIG-{GUIDE}/2/0,MIG-{GUIDE}/1/0", [SECOND, FIRST]),
        (f"MIG-{GUIDE}/1/0,MIG-{GUIDE}/1/0", []),
        ("MIG-5b1a0f3c", [FIRST]),
        (f"MIG-{GUIDE}/9/0", []),
        ("MIG-", []),
    ],
)
def test_mig_instances(listed: str | None, gpus: list[int]) -> None:
    """An instance is named by its UUID or its ids; of a divided GPU, each instance counts as visible."""
    assert seen(listed) == gpus


@pytest.mark.parametrize(
    ("listed", "order", "gpus", "certain"),
    [
        ("0", None, [0, 1, 2, 3], False),
        ("0", "FASTEST_FIRST", [0, 1, 2, 3], False),
        ("0", "PCI_BUS_ID", [0], True),
        ("GPU-12", None, [3], True),
        ("GPU-12,0", None, [0, 1, 2, 3], False),
        ("3,1,0,2", None, [3, 1, 0, 2], True),  # All of them, whatever the numbers mean.
        ("9", None, [], True),
        ("1,1", None, [], True),
        (None, None, [0, 1, 2, 3], True),
    ],
)
def test_numbers_of_different_models(
    listed: str | None, order: str | None, gpus: list[int], *, certain: bool
) -> None:
    """Unless CUDA numbers by PCI bus, a number may mean any GPU where the models differ; a UUID never."""
    found = visible(
        {
            **({} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}),
            **({} if order is None else {"CUDA_DEVICE_ORDER": order}),
        },
        MIXED,
    )
    assert (list(found.gpus), found.certain) == (gpus, certain)


def reference(entries: list[str], named: tuple[str, ...] = ()) -> list[str]:
    """Return the full names of the GPUs that a list names: the rules again, in another form."""
    if not entries or not (found := one_name(entries[0])):
        return list(named)
    return [] if found in named else reference(entries[1:], (*named, found))


def one_name(entry: str) -> str:
    """Return the full name of what an entry means, or nothing."""
    if match := re.match(r"\s*[+]?0*(\d)(?!\d)|\s*-0+(?!\d)", entry, re.ASCII):
        index = match[1] or "0"
        return index if index in "0123" else ""
    names = [*UUIDS, *INSTANCES]
    starts = [name for name in names if name.startswith(entry) and entry[:4] in ("GPU-", "MIG-")]
    return entry if entry in starts else starts[0] if len(starts) == 1 else ""


ENTRIES = st.one_of(
    st.integers(-2, 5).map(str),
    st.sampled_from([*UUIDS, *INSTANCES, "GPU-", "MIG-", "00", "-0", "01", "1x", "2-3", "x1", "", "10"]),
    st.builds(lambda name, end: name[:end], st.sampled_from([*UUIDS, *INSTANCES]), st.integers(4, 44)),
)


@given(st.lists(ENTRIES, max_size=6))
@example(["0", "0"])
def test_any_list_is_read_as_the_reference_reads_it(entries: list[str]) -> None:
    """For every list of numbers, UUIDs, MIG names, beginnings of them, and mistakes."""
    cards = [[FIRST, SECOND], [1], [2], [3]]
    owner = {
        **dict(zip("0123", cards, strict=True)),
        **dict(zip(UUIDS, cards, strict=True)),
        **{name: [index] for name, index in PARTS.items()},
    }
    expected = list(dict.fromkeys(index for name in reference(entries) for index in owner[name]))
    assert seen(",".join(entries)) == expected


@given(st.text(max_size=40))
def test_any_text_is_read(listed: str) -> None:
    """No value is an error, and no GPU is named that the host does not have, or named twice."""
    found = seen(listed)
    assert set(found) <= {FIRST, SECOND, 1, 2, 3}
    assert len(set(found)) == len(found)


def test_a_host_without_gpus() -> None:
    """Nothing is visible where there is nothing."""
    assert seen(None, []) == seen("0", []) == []
