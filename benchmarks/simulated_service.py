"""``adafocus serve`` with a simulated device: what the whole service reaches over HTTP, without the device.

``python -m benchmarks.simulated_service serve …`` takes the options and settings of ``adafocus serve``; the device is
named by the variable SIMULATED_DEVICE. `benchmarks.simulated_device --clients` starts and loads it.
"""

from __future__ import annotations

from functools import partial

from adafocus.cli import serve
from adafocus.cli.main import main
from adafocus.service.app import create_app
from benchmarks.simulated_runner import make_simulated

if __name__ == "__main__":
    serve.create_app = partial(create_app, runner=make_simulated)
    main()
