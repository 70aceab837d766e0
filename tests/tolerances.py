"""How closely the authors' numbers must be met, absolute differences unless said otherwise.

The float32 bounds leave a factor of 4 to what other convolution kernels change, and a factor of 28 to the weakest
mistake that was tried (a patch cut at whole pixels, corners aligned, another epsilon, another order, ...). With the
reference's own patch centres fed in, rounding no longer travels through the patch and the bounds are far tighter.
"""

from __future__ import annotations

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

TRAIN_FLOAT64_RELATIVE = 1e-6
TRAIN_LOSS = 1e-4
TRAIN_ACTIONS = 2e-5
TRAIN_NORM_RELATIVE = 0.02
TRAIN_POLICY_NORM_RELATIVE = 0.05

BF16_ACTIONS = 0.2
BF16_LOGITS_MAX = 0.5
BF16_LOGITS_RMS = 0.1
"""Numbers of eight bits; the logits' standard deviation is about 1.4."""
