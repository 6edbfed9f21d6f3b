"""Of which vendor the GPUs of a request are. A reservation of `run` or `reserve` never mixes vendors."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from canhazgpu.events.gpu import NVIDIA, VENDORS, GpuUsage, Vendor
from canhazgpu.events.reservations import Record
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance, without_parts
from canhazgpu.events.spelling.gpu_ranges import name_gpus
from canhazgpu.service.api.errors import Problem

LISTED = "`canhazgpu status` lists them"


def vendor_of(
    asked: Vendor | None,
    gpus: Sequence[int] | None,
    known: Mapping[int, GpuUsage],
    default: Vendor,
    profile: str | None = None,
) -> Vendor | None:
    """Return the vendor that the allocator has to choose from, or None if there is nothing to choose.

    `asked` is what the request says, `known` the last scan, `default` the vendor on a host with several.
    Raises Problem if the host has no such GPU, or the named `gpus` are not all of one vendor, or if a MIG
    `profile` is asked for together with one of them.
    """
    if profile is not None:
        if gpus is not None or asked not in {None, NVIDIA}:
            detail = "`profile` asks for any MIG instances: leave out `gpus` and `vendor`"
            raise Problem(400, "bad-request", detail)
        return None
    if gpus is not None:
        _check_named(asked, gpus, known)
        return None
    present = {usage.vendor for usage in known.values()}
    if asked is not None and present and asked not in present:
        raise Problem(400, "no-such-vendor", f"this host has no {VENDORS[asked]} GPU", LISTED)
    if len(present) > 1:
        return asked or default
    return None if present else asked


def all_gpus(asked: Vendor | None, managed: Collection[int], known: Mapping[int, GpuUsage]) -> list[int]:
    """Return what `all` means: the managed GPUs, of the vendor that is asked for. Raises Problem."""
    if not managed:
        raise Problem(409, "no-gpu", "this host has no GPU that can be reserved", "run `canhazgpu doctor`")
    managed = without_parts(tuple(managed))
    meant = [gpu for gpu in managed if asked is None or (gpu in known and known[gpu].vendor == asked)]
    if asked is not None and not meant:
        raise Problem(400, "no-such-vendor", f"this host has no {VENDORS[asked]} GPU", LISTED)
    return meant


def _check_named(asked: Vendor | None, gpus: Sequence[int], known: Mapping[int, GpuUsage]) -> None:
    by_vendor: dict[Vendor, list[int]] = {}
    for index in gpus:
        if index in known:
            by_vendor.setdefault(known[index].vendor, []).append(index)
    wrong = sorted(gpu for vendor, named in by_vendor.items() if asked not in {None, vendor} for gpu in named)
    if asked is not None and wrong:
        are = "is not an" if len(wrong) == 1 else "are not"
        noun = "GPU" if len(wrong) == 1 else "GPUs"
        raise Problem(400, "no-such-vendor", f"{name_gpus(wrong)} {are} {VENDORS[asked]} {noun}", LISTED)
    if len(by_vendor) > 1:
        parts = [f"{name_gpus(sorted(named))} of {VENDORS[vendor]}" for vendor, named in by_vendor.items()]
        detail = f"a reservation has GPUs of one vendor, not {' and '.join(parts)}"
        raise Problem(400, "mixed-vendors", detail, "reserve them separately")


def only_of(  # noqa: PLR0913 - each is another way to leave GPUs out
    asked: Vendor | None,
    records: Sequence[Record],
    known: Mapping[int, GpuUsage],
    *,
    profile: str | None = None,
    whole: bool = False,
    within: str | None = None,
) -> Sequence[Record]:
    """Return reservations with only the GPUs that a run in them can use.

    Those are of the vendor, and MIG instances of the `profile`. With `whole`, instances count only if their
    GPU is reserved as a whole, or in the reservation `within`: a run that is part of it stays in it. A GPU
    that is divided is used by its instances.
    """

    def fits(gpu: int, record: Record) -> bool:
        held = record.gpus
        usage = known.get(gpu)
        is_of_vendor = asked is None or (usage is not None and usage.vendor == asked)
        is_of_profile = profile is None or (usage is not None and usage.profile == profile)
        is_part = whole and record.id != within and is_instance(gpu) and card_of(gpu) not in held
        is_divided = gpu in map(card_of, held)
        return not is_divided and is_of_vendor and is_of_profile and not is_part

    return [
        msgspec.structs.replace(one, gpus=tuple(gpu for gpu in one.gpus if fits(gpu, one))) for one in records
    ]
