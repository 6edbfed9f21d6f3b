"""What a notice about AMD GPUs says."""

import msgspec

from canhazgpu.notifiers.messages.plain_text import lines
from canhazgpu.notifiers.messages.sample_notices import samples


def test_a_granted_amd_gpu_is_used_through_the_command_that_knows_its_variables() -> None:
    """For AMD GPUs, the notice names `canhazgpu env` instead of CUDA's variables."""
    granted = next(one.notice for one in samples() if one.name == "granted-holder")
    assert granted.reservation
    assert "export CUDA_DEVICE_ORDER" in "\n".join(lines(granted))
    amd = msgspec.structs.replace(granted.reservation, uuids=("GPU-1a2b3c4d5e6f7788", "GPU-99aabbccddeeff00"))
    text = "\n".join(lines(msgspec.structs.replace(granted, reservation=amd)))
    assert 'code=$(canhazgpu env 1,3) && eval "$code"' in text
    assert "CUDA" not in text
