"""Real GPUs, read through NVML by a helper process with a deadline; it is replaced, never waited for."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from canhazgpu.events.gpu import GpuReading, MigReading, ProcessReading
from canhazgpu.service import nvml_errors
from canhazgpu.service.providers import DEADLINE, ProviderError, no_answer

HOST_PID_NAMESPACE = "pid:[4026531836]"
LONGEST_ANSWER = 4 * 1024 * 1024
PARTIAL = ProviderError(
    "partial view: this service runs in a PID namespace of its own, where the driver hides other processes",
    "run it on the host, or its container with --pid=host",
)


class NvmlProvider:
    """Asks the helper for one reading a scan. At most one that cannot be killed is left behind."""

    name = "nvml"

    def __init__(self, namespace: Path = Path("/proc/self/ns/pid")) -> None:
        """Prepare; the helper is started at the first scan."""
        self._namespace = namespace
        self._helper: Process | None = None
        self._answers: BufferedByteReceiveStream | None = None
        self._stuck: Process | None = None

    async def read(self) -> tuple[GpuReading, ...]:
        """Return every GPU as NVML has it. Raises ProviderError."""
        if str(self._namespace.readlink()) != HOST_PID_NAMESPACE:
            raise PARTIAL
        if self._stuck is not None:
            if self._stuck.returncode is None:
                raise no_answer()
            await self._stuck.aclose()
            self._stuck = None
        try:
            with anyio.fail_after(DEADLINE):
                answer = await self._ask()
        except TimeoutError:
            self._replace()
            raise no_answer() from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.IncompleteRead, OSError) as error:
            self._replace()
            raise ProviderError("the driver's library crashed", nvml_errors.REMEDY) from error
        except (anyio.DelimiterNotFound, msgspec.DecodeError) as error:
            self._replace()
            raise ProviderError("the answer about the GPUs cannot be read", nvml_errors.REMEDY) from error
        return self._readings(answer)

    async def aclose(self) -> None:
        """Kill the helper, and wait for it no longer than a healthy one needs."""
        self._replace()
        if self._stuck is not None:
            with anyio.move_on_after(0.5):
                await self._stuck.aclose()

    async def _ask(self) -> dict[str, Any]:
        if self._helper is None or self._answers is None:
            self._helper = await anyio.open_process(
                [sys.executable, "-m", "canhazgpu.service.nvml_helper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._helper.stdout is None:
                raise OSError("the helper has no output")
            self._answers = BufferedByteReceiveStream(self._helper.stdout)
        if self._helper.stdin is None:
            raise OSError("the helper has no input")
        await self._helper.stdin.send(b"\n")
        line = await self._answers.receive_until(b"\n", LONGEST_ANSWER)
        return msgspec.json.decode(line, type=dict[str, Any])

    def _replace(self) -> None:
        helper, self._helper, self._answers = self._helper, None, None
        if helper is None or helper.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            helper.kill()
        self._stuck = helper

    def _readings(self, answer: dict[str, Any]) -> tuple[GpuReading, ...]:
        if "import" in answer:
            raise ProviderError(
                f"pynvml cannot be used: {answer['import']}",
                "uninstall the package pynvml and install nvidia-ml-py again",
            )
        if "error" in answer:
            self._replace()
            name = nvml_errors.BY_CODE.get(answer["error"], "")
            text = nvml_errors.sentence(name) if name else str(answer["text"])
            raise ProviderError(text, nvml_errors.remedy(name))
        return tuple(_reading(gpu) for gpu in answer["gpus"])


def _reading(gpu: dict[str, Any]) -> GpuReading:
    code = gpu.pop("error", None)
    unbelievable = gpu.pop("unbelievable", None)
    index = gpu["index"]
    gpu = {"uuid": f"unknown-{index}", "name": "unknown", **gpu}
    if code is None and unbelievable is None:
        processes = [msgspec.convert(one, ProcessReading) for one in gpu.pop("processes")]
        gone = [one.pid for one in processes if not Path(f"/proc/{one.pid}").exists()]
        mig = tuple(msgspec.convert(one, MigReading) for one in gpu.pop("mig"))
        living = tuple(one for one in processes if one.pid not in gone)
        return GpuReading(**gpu, mig=mig, processes=living)
    name = nvml_errors.BY_CODE.get(code or 0, f"error {code}")
    broken = name in nvml_errors.BROKEN or name in nvml_errors.HOST
    return GpuReading(
        index=index,
        uuid=gpu["uuid"],
        name=gpu["name"],
        error=nvml_errors.sentence(name) if broken else None,
        unknown=None if broken else unbelievable or nvml_errors.sentence(name),
        remedy=nvml_errors.remedy(name),
    )
