"""`%canhazgpu`: reserve and release GPUs for this kernel, and every command of canhazgpu that only prints."""

import itertools
import json
import os
import shlex
import sys

from canhazgpu.client.connection import BadSettings, Client, Refused, Unreachable
from canhazgpu.client.jupyter.command import Failed, output_of
from canhazgpu.client.jupyter.cuda_state import has_cuda_started
from canhazgpu.client.jupyter.kernel_reservation import KernelReservation, use
from canhazgpu.client.reservations import post
from canhazgpu.client.visible_gpus import check
from canhazgpu.events.durations import spell_length
from canhazgpu.events.spelling.gpu_ranges import name_gpus

PRINTING = ("cancel", "check", "env", "extend", "history", "queue", "report", "status", "violations", "who")
HELP = "--help"
SYNTAX = "%canhazgpu reserve 1 4h, %canhazgpu use, %canhazgpu release, %canhazgpu check or %canhazgpu status"
RESTART = "restart the kernel, and run `%canhazgpu reserve` before anything uses CUDA"


class Magic:
    """The magic of one kernel, which has at most one reservation of its own."""

    def __init__(self) -> None:
        """Nothing is reserved yet."""
        self._held: KernelReservation | None = None

    def run(self, line: str) -> None:
        """Reserve, use and release GPUs in this kernel. Without words: show what you hold, and all GPUs.

        %canhazgpu reserve [GPUS] [TIME]   reserve GPUs until the kernel ends, at most for TIME
        %canhazgpu use                     use the GPUs that you have reserved elsewhere
        %canhazgpu release                 release the GPUs of this kernel
        %canhazgpu check                   fail unless all visible GPUs are reserved
        %canhazgpu status, extend, queue, who ...   as on the command line
        """
        from IPython.core.error import UsageError  # noqa: PLC0415 - only a notebook has it

        try:
            self._run(shlex.split(line))
        except (Failed, BadSettings, Refused, Unreachable, ValueError, OSError) as error:
            raise UsageError(str(error)) from None

    def _run(self, words: list[str]) -> None:
        if not words:
            self._show()
        elif words[0] == "reserve":
            self._reserve(words[1:])
        elif words == ["release"]:
            self._release()
        elif words == ["use"]:
            print(use())  # noqa: T201 - this is the output of the cell
            self._after_change()
        elif words[0] in PRINTING:
            sys.stdout.write(output_of(words))
        else:
            raise ValueError(f"unknown words '{' '.join(words)[:80]}': use {SYNTAX}, or a terminal")

    def _show(self) -> None:
        try:
            sys.stdout.write(output_of(["check"]))
        except Failed as error:
            sys.stdout.write(f"{error}\n")
        sys.stdout.write(output_of(["status"]))

    def _reserve(self, words: list[str]) -> None:
        options = reserve_options(words)
        if HELP in options:
            sys.stdout.write(output_of(["reserve", HELP]))
            return
        if self._held and (left := self._held.left()) is not None:
            print(f"This kernel already holds {name_gpus(self._held.gpus)} for another {spell_length(left)}")  # noqa: T201
            return
        if "CANHAZGPU_RESERVATION" in os.environ and self._is_enough(options):
            return
        granted = json.loads(output_of(["reserve", "--json", *options]))
        try:
            self._held = KernelReservation(granted, self._held)
        except BaseException:  # The user has interrupted the cell.
            post(Client(), "/v1/reservations/release", {"ids": [granted["id"]]})
            raise
        length = "" if self._held.lasts is None else f" for {spell_length(self._held.lasts)}"
        print(f"Reserved {name_gpus(self._held.gpus)}{length}, {self._held.end}")  # noqa: T201
        self._after_change()

    @staticmethod
    def _is_enough(options: list[str]) -> bool:
        """Return whether the kernel was started with as many reserved GPUs; say so."""
        found = check()
        count = dict(itertools.pairwise([*options, ""])).get("--gpus", "1")
        particular = {option.partition("=")[0] for option in options} & {"--gpu-ids", "--mig"}
        if not found or not count.isdecimal() or int(count) > len(found.gpus) or particular:
            return False
        print(f"This kernel has {name_gpus(found.gpus)}, which you have reserved")  # noqa: T201
        return True

    @staticmethod
    def _after_change() -> None:
        """Say so if CUDA has read the variables before they were set."""
        if has_cuda_started():
            print(f"CUDA has already started in this kernel and keeps the GPUs it had: {RESTART}")  # noqa: T201

    def _release(self) -> None:
        if not self._held or self._held.left() is None:
            print("This kernel holds no GPUs; `!canhazgpu release` releases those reserved elsewhere")  # noqa: T201
            self._held = None
            return
        held, self._held = self._held, None
        held.release()
        print(f"Released {name_gpus(held.gpus)}")  # noqa: T201
        if has_cuda_started():
            print("CUDA can still use them in this kernel: restart it")  # noqa: T201


MAGIC = Magic()  # That of this kernel: a reload of the extension keeps what is held.


def reserve_options(words: list[str]) -> list[str]:
    """Return the options of `canhazgpu reserve` for `1 4h`. What begins with an option stays as it is."""
    options: list[str] = []
    rest = list(words)
    if rest and rest[0].isdecimal():
        options += ["--gpus", rest.pop(0)]
    if rest and not rest[0].startswith("-"):
        options += ["--duration", rest.pop(0)]
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"'{rest[0][:40]}' is one word too many: write `%canhazgpu reserve 1 4h`")
    return options + rest
