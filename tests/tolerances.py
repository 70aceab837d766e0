"""How closely numbers must agree, by the reason why they may differ; absolute differences unless said otherwise.

Small networks of the tests have outputs with a standard deviation of about 1. What must be equal bit by bit is compared
with ``==`` or ``array_equal`` and needs no entry here.
"""

from __future__ import annotations

# Parity with the authors' code. The float32 bounds leave a factor of 4 to what other convolution kernels change, and a
# factor of 28 to the weakest mistake that was tried (a patch cut at whole pixels, corners aligned, another epsilon,
# another order, ...). With the reference's own patch centres fed in, rounding no longer travels through the patch and
# the bounds are far tighter.
ACTIONS = 1e-4
FEATURE_MAP = 1e-3
LOGITS_MAX = 1e-2
LOGITS_RMS = 2e-3

STAGED_PATCHES = 5e-5
STAGED_FEATURES = 2e-4
STAGED_LOGITS = 2e-4

POLICY_HIDDEN = 1e-3

FLOAT64 = 1e-9
FLOAT64_STORED_AS_FLOAT32 = 1e-6
FLOAT64_LOGITS = 1e-7
ZERO_NORM = 1e-10

TRAIN_FLOAT64_RELATIVE = 1e-6
TRAIN_LOSS = 1e-4
TRAIN_ACTIONS = 2e-5
TRAIN_NORM_RELATIVE = 0.02
TRAIN_POLICY_NORM_RELATIVE = 0.05

BF16_ACTIONS = 0.2
BF16_LOGITS_MAX = 0.5
BF16_LOGITS_RMS = 0.1
"""Numbers of eight bits; the logits' standard deviation is about 1.4."""

SOLVER_ENTROPY = 1e-6
"""The released code adds the terms of an entropy in another order."""

# One network, computed by other kernels in fp32: a batch of another size, another layout, another runtime.
KERNELS = 1e-4
CENTRES_FP32 = 1e-4
PIXELS_NORMALISED = 1e-6
PATCH_PIXELS = 2e-2
"""Grey levels of 255: grid sampling in float32 is coarse, the gathers are exact."""
PATCH_PIXELS_OF_FULL_SCALE = 2e-5
"""Coordinates from -1 to 1 lose bits of the pixel's fraction; on white noise that shows as up to 3e-5 without care."""
FRAME_MODEL_STEPS = {"rtol": 1e-3, "atol": 1e-4}
"""The authors' own code moves by 2e-5 on its logits when the batch has another size."""
CLIP_MODEL_STEPS = {"rtol": 1e-4, "atol": 1e-5}
FEATURE_STATISTICS = {"rtol": 1e-3, "atol": 1e-4}
ADDITION_ORDER_RELATIVE = 1e-4
"""Relative difference that the order of additions makes in fp32."""

# A served graph against torch in fp32, and a device against the processor, by the precision of the graph.
LOGITS = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 1e-1, "int8": 5e-1}
CENTRES = {"fp32": CENTRES_FP32, "bf16": 2e-2, "int8": 1e-1}

FP16_OUTPUTS = 2e-2
BF16_TABLE = {"rtol": 1e-3, "atol": 1e-3}
"""Products with a table that is rounded to bf16 on both sides; the sums are fp32."""
INT8_SPREAD_RMS = 0.1
"""Root mean square difference of an int8 output over its spread, on frames that the ranges were taken from."""
INT8_WEIGHTS = 2e-2
"""Only the weights of one layer are int8."""

PROBABILITY_SUM = 1e-5
"""Difference from 1 of a sum of softmax outputs in fp32 that were rounded for JSON."""
FRAME_TIME_S = 0.002
"""Some containers count milliseconds."""
DAMAGED_TIME_S = 0.05
"""A damaged or restarted clock is mended to about a frame of 25 a second."""
PUBLISHED_GFLOPS = 0.06
"""The papers print one or two decimals."""
