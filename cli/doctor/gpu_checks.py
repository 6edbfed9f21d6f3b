"""The check of the GPUs in `canhazgpu doctor`: whether they can be read and identified."""

import contextlib
from collections.abc import Iterator

import anyio

from canhazgpu.cli.doctor.permissions import has_service_rights, skipped_check
from canhazgpu.client import Client, Refused, Unreachable
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.spelling.gpu_counts import spell_count
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.service.gpus.card_identity import identity_warnings
from canhazgpu.service.providers.provider import Provider, ProviderError, ProviderFailed, Starting
from canhazgpu.service.providers.registry import open_provider

Finding = tuple[str, str, str]
STARTS_IN = 20.0  # Seconds.
LOOK = "check `dmesg` and `nvidia-smi`"


def gpus(settings: Settings) -> Iterator[Finding]:
    """Check that the GPUs can be read and identified; for ordinary users, the service says what it reads."""
    if has_service_rights(settings):
        yield from anyio.run(_gpus, settings)
        return
    try:
        rows = Client(settings.socket).status()
    except (Unreachable, Refused):
        yield skipped_check(settings, "the GPUs, while the service does not answer")
        return
    yield "ok", f"the service reads {spell_count([row['gpu_id'] for row in rows])}", ""
    for row in rows:
        if row["status"] in {"ERROR", "UNKNOWN"}:
            yield "fail", f"GPU {spell_gpu(row['gpu_id'])}: {row['reason']}", row["remedy"] or LOOK


async def _gpus(settings: Settings) -> list[Finding]:
    try:
        provider = open_provider(settings)
    except ProviderFailed as failed:
        return [("fail", str(failed), "install its package next to canhazgpu; see docs/integrators.md")]
    try:
        readings = await _started(provider)
    except ProviderError as error:
        return [("fail", f"{provider.name}: {error.reason}", error.remedy)]
    finally:
        await provider.aclose()
    found: list[Finding] = [("ok", f"{provider.name}: {spell_count([one.index for one in readings])}", "")]
    found += [
        ("fail", f"GPU {spell_gpu(one.index)}: {one.error or one.unknown}", one.remedy or LOOK)
        for one in readings
        if one.error or one.unknown
    ]
    remedy = "its reservations cannot follow it if the driver renumbers GPUs: see `nvidia-smi -L`"
    doubts = identity_warnings({one.index: one.uuid for one in readings if not (one.error or one.unknown)})
    return [*found, *(("warn", doubt, remedy) for doubt in doubts)]


async def _started(provider: Provider) -> tuple[GpuReading, ...]:
    """Read the GPUs, waiting for a driver that is slow to start."""
    with anyio.move_on_after(STARTS_IN):
        while True:
            with contextlib.suppress(Starting):
                return await provider.read()
    return await provider.read()
