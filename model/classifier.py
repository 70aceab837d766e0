"""The classifier: one feature per frame, pooled over the frames seen so far, one head per step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.config import Pooling


class StepHeads(nn.Module):
    """T linear layers in one tensor, so that every row of a batch may be at a step of its own."""

    def __init__(self, steps: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(steps, outputs, inputs).uniform_(-bound, bound))  # (T, C, F)
        self.bias = nn.Parameter(torch.empty(steps, outputs).uniform_(-bound, bound))  # (T, C)

    def forward(self, pooled: Tensor) -> Tensor:
        """The first T' steps of a clip: [B, T', F] -> [B, T', C]."""
        T = pooled.shape[1]
        return torch.einsum("btf,tcf->btc", pooled, self.weight[:T]) + self.bias[:T]

    def at(self, pooled: Tensor, step: Tensor) -> Tensor:
        """One step per row: [B, F] and int64 [B] in 0..T-1 -> [B, C]."""
        return (self.weight[step] @ pooled[:, :, None]).squeeze(2) + self.bias[step]


class Classifier(nn.Module):
    """Joins the glance's and the focus's feature, pools over the frames seen so far, and classifies after every step.

    The pooled state is a running maximum, as published, or the running sum of a mean.
    """

    def __init__(
        self, inputs: int, width: int, steps: int, num_classes: int, dropout: float, pooling: Pooling = "max"
    ) -> None:
        super().__init__()
        self._mean = pooling == "mean"
        self.linear = nn.Linear(inputs, width)
        self.norm = nn.BatchNorm1d(width)
        self.heads = StepHeads(steps, width, num_classes)
        self.dropout = nn.Dropout(dropout)

    def features(self, glance_feature: Tensor, focus_feature: Tensor) -> Tensor:
        """[N, G] and [N, L] -> [N, F], never negative: a running maximum may start from zeros."""
        joined = torch.cat([glance_feature, focus_feature], dim=1)
        return F.relu(self.norm(self.linear(joined)))

    def forward(self, glance_features: Tensor, focus_features: Tensor) -> Tensor:
        """[B, T, G] and [B, T, L] in visiting order -> logits after each step [B, T, C]."""
        B, T = glance_features.shape[:2]
        features = self.features(glance_features.flatten(0, 1), focus_features.flatten(0, 1)).view(B, T, -1)
        if self._mean:
            seen = torch.arange(1, T + 1, device=features.device, dtype=features.dtype)
            pooled = features.cumsum(dim=1) / seen[:, None]  # (B, T, F)
        else:
            pooled = features.cummax(dim=1).values  # (B, T, F)
        logits: Tensor = self.heads(self.dropout(pooled))
        return logits

    def step(
        self, glance_feature: Tensor, focus_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One frame per row, at step[i] of its video: -> logits [B, C], next pooled state [B, F]."""
        features = self.features(glance_feature, focus_feature)
        state = pooled_state + features if self._mean else torch.maximum(pooled_state, features)
        return self._answer(state, step), state

    def steps(
        self, glance_feature: Tensor, focus_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`step` for T steps of V videos: T·V rows, step after step, and pooled state [V, F] -> [T·V, C], [T·V, F]."""
        V, F = pooled_state.shape
        features = self.features(glance_feature, focus_feature).reshape(-1, V, F)  # (T, V, F)
        if self._mean:  # the state first, then frame after frame: the same additions as one step at a time
            pooled = torch.cat([pooled_state[None], features]).cumsum(dim=0)[1:]  # (T, V, F)
        else:
            # A running maximum in operators that every runtime has: of what each step has seen, the rest being zero.
            seen = torch.ones(features.shape[0], features.shape[0], device=features.device).tril()
            so_far = features[None] * seen[:, :, None, None]  # (T, T, V, F)
            pooled = torch.maximum(so_far.amax(dim=1), pooled_state)
        state = pooled.reshape(step.shape[0], F)
        return self._answer(state, step), state

    def _answer(self, state: Tensor, step: Tensor) -> Tensor:
        """Pooled state after a step [B, F] and the step int64 [B] -> logits [B, C]."""
        pooled = state / (step + 1).to(state.dtype)[:, None] if self._mean else state
        return self.heads.at(self.dropout(pooled), step)
