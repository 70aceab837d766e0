"""What the driver says of the GPU, beside what the service asked of it."""

from __future__ import annotations

from panels import Panel, Query, Row, dashboard
from promql import ANSWERED, rate

GPU = dashboard(
    "adafocus-gpu",
    "adafocus · GPU",
    "What the GPU's driver says, beside what the service asked of it. Empty on a host without a GPU.",
    [
        Row(
            "Is the GPU used, and well?",
            [
                Panel(
                    "Busy",
                    "Share of the time with a kernel running. It says nothing of how full the GPU was meanwhile.",
                    "percent",
                    [
                        Query("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}}"),
                        Query("DCGM_FI_DEV_MEM_COPY_UTIL", "memory {{gpu}}"),
                    ],
                ),
                Panel(
                    "Batches running",
                    "Share of the time in which the service ran a batch: the driver's figure should follow it.",
                    "percentunit",
                    [Query(rate("adafocus_device_seconds_total", "component"), "{{component}}")],
                    stacked=True,
                ),
                Panel(
                    "Arithmetic",
                    "Multiply-adds per second that answers are charged for; the hardware counts two for each.",
                    "si:FLOP/s",
                    [Query(rate("adafocus_flops_total", "component"), "{{component}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "What does it draw?",
            [
                Panel("Power", "Power draw.", "watt", [Query("DCGM_FI_DEV_POWER_USAGE", "GPU {{gpu}}")]),
                Panel(
                    "Energy per answer",
                    "Energy of all GPUs of the host over the requests answered: idle power is in it.",
                    "joule",
                    [Query(f"{rate('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION')} / 1000 / {ANSWERED}", "per answer")],
                ),
                Panel(
                    "Temperature",
                    "At the line a GPU begins to slow itself down.",
                    "celsius",
                    [Query("DCGM_FI_DEV_GPU_TEMP", "GPU {{gpu}}")],
                    limit=87,
                ),
            ],
        ),
        Row(
            "Is it sound?",
            [
                Panel(
                    "Memory",
                    "Memory in use, and free. ONNX Runtime keeps what the largest batch needed.",
                    "mbytes",
                    [Query("DCGM_FI_DEV_FB_USED", "used {{gpu}}"), Query("DCGM_FI_DEV_FB_FREE", "free {{gpu}}")],
                    stacked=True,
                ),
                Panel(
                    "Clock",
                    "Clock of the multiprocessors; it falls when the GPU is hot or idle.",
                    "hertz",
                    [Query("DCGM_FI_DEV_SM_CLOCK * 1e6", "GPU {{gpu}}")],
                ),
                Panel(
                    "Last error",
                    "Number of the last XID error that the driver reported; 0 is none.",
                    "none",
                    [Query("DCGM_FI_DEV_XID_ERRORS", "GPU {{gpu}}")],
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Bus retries",
                    "PCIe retries since boot; a rising number is a bad slot, riser or cable.",
                    "short",
                    [Query("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "GPU {{gpu}}")],
                    kind="stat",
                    width=4,
                ),
            ],
        ),
    ],
)
