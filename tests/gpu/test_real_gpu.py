"""The nvml provider on a real NVIDIA GPU, against what nvidia-smi says of it."""

import ctypes
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.eventually import eventually

from canhazgpu.service.providers.nvml import HOST_PID_NAMESPACE, NvmlProvider

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.gpu,
    pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="needs an NVIDIA GPU and its driver"),
]
ALLOCATED_MB = 512
# The driver's own library, without a toolkit: a context and one allocation, until its input ends.
ALLOCATE = f"""
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t({ALLOCATED_MB} << 20)) == 0
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[NvmlProvider]:
    """The provider, with its helper process, also where these tests run in a container."""
    namespace = tmp_path / "pid"
    namespace.symlink_to(HOST_PID_NAMESPACE)
    made = NvmlProvider(namespace)
    yield made
    await made.aclose()


def _smi(query: str) -> list[list[str]]:
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [line.split(", ") for line in done.stdout.splitlines()]


async def test_identity_and_memory_are_those_of_nvidia_smi(provider: NvmlProvider) -> None:
    """Index, uuid, name and total memory are the same; used memory nearly."""
    readings = await provider.read()
    seen = _smi("index,uuid,name,memory.total,memory.used")
    assert [[str(one.index), one.uuid, one.name] for one in readings] == [row[:3] for row in seen]
    for reading, row in zip(readings, seen, strict=True):
        assert reading.error is None
        if reading.memory_used_mb is not None:
            assert abs(reading.memory_used_mb - int(row[4])) < 64
            assert reading.memory_total_mb == pytest.approx(int(row[3]), abs=2)


async def test_a_process_that_allocates_is_seen_with_its_memory(provider: NvmlProvider) -> None:
    """Its pid and its memory are on the first GPU, and gone when it ends."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pytest.skip("no libcuda")
    process = subprocess.Popen(
        [sys.executable, "-c", ALLOCATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    with process:
        assert process.stdout.readline() == b"ready\n"
        uses = {one.pid: one for gpu in await provider.read() for one in gpu.processes}
        process.stdin.close()
        if process.pid not in uses:
            pytest.skip("this process's pid is not the host's: another PID namespace")
        memory = uses[process.pid].memory_mb
        assert memory is None or memory >= ALLOCATED_MB

    async def gone() -> bool:
        return process.pid not in {one.pid for gpu in await provider.read() for one in gpu.processes}

    await eventually(gone, 10)


async def test_a_scan_is_far_from_its_deadline(provider: NvmlProvider) -> None:
    """After the first one, which starts the helper, a scan takes a fraction of its 2 s."""
    await provider.read()
    began = time.perf_counter()
    for _ in range(10):
        await provider.read()
    assert (time.perf_counter() - began) / 10 < 1
