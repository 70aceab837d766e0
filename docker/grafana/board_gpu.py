"""The dashboard of the GPU: the driver's measurements, next to the work that the service gives it."""

from __future__ import annotations

from panels import Panel, Query, Row, dashboard
from promql import ANSWERED, rate

GPU = dashboard(
    "adafocus-gpu",
    "adafocus · GPU",
    "The driver's measurements of the GPU, next to the work that the service gives it. Empty without a GPU.",
    [
        Row(
            "Utilisation",
            [
                Panel(
                    "Busy",
                    "Share of the time with a kernel running. It does not show how much of the GPU the kernel used.",
                    "percent",
                    [
                        Query("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}}"),
                        Query("DCGM_FI_DEV_MEM_COPY_UTIL", "memory {{gpu}}"),
                    ],
                ),
                Panel(
                    "Batches running",
                    "Share of the time in which the service ran a batch. The driver's figure should follow it.",
                    "percentunit",
                    [Query(rate("adafocus_device_seconds_total", "component"), "{{component}}")],
                    stacked=True,
                ),
                Panel(
                    "Arithmetic",
                    "Multiply-adds per second charged to answers. The hardware counts two operations for each.",
                    "si:FLOP/s",
                    [Query(rate("adafocus_flops_total", "component"), "{{component}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Power and temperature",
            [
                Panel("Power", "Power draw.", "watt", [Query("DCGM_FI_DEV_POWER_USAGE", "GPU {{gpu}}")]),
                Panel(
                    "Energy per answer",
                    "Energy of all GPUs of the host divided by answered requests, including idle power.",
                    "joule",
                    [Query(f"{rate('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION')} / 1000 / {ANSWERED}", "per answer")],
                ),
                Panel(
                    "Temperature",
                    "Above the line a GPU starts to throttle.",
                    "celsius",
                    [Query("DCGM_FI_DEV_GPU_TEMP", "GPU {{gpu}}")],
                    limit=87,
                ),
            ],
        ),
        Row(
            "Health",
            [
                Panel(
                    "Memory",
                    "Used and free memory. ONNX Runtime keeps the memory that the largest batch needed.",
                    "mbytes",
                    [Query("DCGM_FI_DEV_FB_USED", "used {{gpu}}"), Query("DCGM_FI_DEV_FB_FREE", "free {{gpu}}")],
                    stacked=True,
                ),
                Panel(
                    "Clock",
                    "Clock of the multiprocessors. It falls when the GPU is hot or idle.",
                    "hertz",
                    [Query("DCGM_FI_DEV_SM_CLOCK * 1e6", "GPU {{gpu}}")],
                ),
                Panel(
                    "Last error",
                    "Number of the last XID error that the driver reported; 0 means none.",
                    "none",
                    [Query("DCGM_FI_DEV_XID_ERRORS", "GPU {{gpu}}")],
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Bus retries",
                    "PCIe retries since boot. A rising number means a bad slot, riser or cable.",
                    "short",
                    [Query("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "GPU {{gpu}}")],
                    kind="stat",
                    width=4,
                ),
            ],
        ),
    ],
)
