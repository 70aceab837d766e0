"""Chooses the precision of the networks where a recipe leaves it to the machine."""

from __future__ import annotations

import torch

from adafocus.training.recipe import Precision

TENSOR_CORES = (7, 0)
"""Compute capability from which a GPU multiplies fp16 faster than fp32."""


def fastest_precision(device: torch.device) -> Precision:
    """The fastest precision of a device among those that training supports.

    ``bf16`` where there are instructions for it (AVX512-BF16 or AMX, GPUs since Ampere), else ``fp16`` on GPUs with
    tensor cores, else ``fp32``: bf16 that a processor has to emulate is slower than that.
    """
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= TENSOR_CORES else "fp32"
