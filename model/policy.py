"""The policy, which decides where the focus looks (arXiv 2112.14238).

Both variants read the glance network's feature map and return the patch centre (y, x), each in [0, 1]: 0 aligns the
patch with the top or left edge, 1 with the bottom or right edge.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class GatedRecurrence(nn.Module):
    """A GRU cell (reset gate applied after the hidden product, as torch and cuDNN have it), one step at a time."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 3 * hidden)
        self.from_state = nn.Linear(hidden, 3 * hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, inputs] and [B, hidden] -> the next state [B, hidden]."""
        return self._gate(self.from_input(x), state)

    def over(self, x: Tensor, state: Tensor) -> Tensor:
        """T steps of V videos: [T·V, inputs], step after step, and [V, hidden] -> the state after each [T·V, hidden].

        Only the product with the state goes step by step. For exported graphs: torch leaves this loop's length free.
        """
        # scan is not public API yet; importing it here keeps training and evaluation independent of it.
        from torch._higher_order_ops.scan import scan

        def step(state: Tensor, from_input: Tensor) -> tuple[Tensor, Tensor]:
            state = self._gate(from_input, state)
            return state, state.clone()

        products = self.from_input(x).reshape(-1, state.shape[0], 3 * self.hidden)  # (T, V, 3·hidden)
        states: Tensor = scan(step, state, products)[1]  # (T, V, hidden)
        return states.reshape(x.shape[0], self.hidden)

    def _gate(self, from_input: Tensor, state: Tensor) -> Tensor:
        reset_x, update_x, new_x = from_input.chunk(3, dim=-1)
        reset_h, update_h, new_h = self.from_state(state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_x + reset_h)
        update = torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + reset * new_h)
        return new + update * (state - new)


class MapEncoder(nn.Module):
    """A feature map to a vector: 1×1 convolution, flatten, linear, each followed by batch norm and tanh."""

    def __init__(self, map_channels: int, map_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(map_channels, channels, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels * map_size * map_size, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, feature_map: Tensor) -> Tensor:
        """[N, map_channels, map_size, map_size] -> [N, width]."""
        x = torch.tanh(self.squeeze_norm(self.squeeze(feature_map)))
        return torch.tanh(self.norm(self.linear(x.flatten(1))))


class Policy(nn.Module):
    """The recurrent policy of the frame model: one patch centre per visited frame."""

    def __init__(self, map_channels: int, map_size: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.encoder = MapEncoder(map_channels, map_size, channels, hidden)
        self.recurrence = GatedRecurrence(hidden, hidden)
        self.centre = nn.Linear(hidden, 2)

    def step(self, feature_map: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] and state [B, S] -> patch centre [B, 2] in (y, x) order, next state [B, S]."""
        state = self.recurrence(self.encoder(feature_map), state)
        return torch.sigmoid(self.centre(state)), state

    def steps(self, feature_map: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`step` for T steps of V videos: [T·V, C, h, w], step after step, and [V, S] -> [T·V, 2], [T·V, S]."""
        states = self.recurrence.over(self.encoder(feature_map), state)
        return torch.sigmoid(self.centre(states)), states

    def forward(self, feature_maps: Tensor, state: Tensor) -> Tensor:
        """[B, T, C, h, w] in visiting order and the first state [B, S] -> patch centres [B, T, 2]."""
        B, T = feature_maps.shape[:2]
        encoded = self.encoder(feature_maps.flatten(0, 1)).view(B, T, -1)  # (B, T, S): one batch norm over B·T frames
        states = []
        for x in encoded.unbind(1):
            state = self.recurrence(x, state)
            states.append(state)
        return torch.sigmoid(self.centre(torch.stack(states, dim=1)))


class ClipPolicy(nn.Module):
    """The policy of the clip model: all glance frames at once, one patch centre for the whole clip."""

    def __init__(self, map_channels: int, map_size: int, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = MapEncoder(map_channels, map_size, channels, widths[0])
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in widths[1:])
        self.centre = nn.Linear(widths[-1], 2)

    def forward(self, feature_maps: Tensor) -> Tensor:
        """[B, T, C, h, w] -> patch centre [B, 2] in (y, x) order; the T maps are stacked along channels."""
        x = self.encoder(feature_maps.flatten(1, 2))
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = torch.tanh(norm(linear(x)))
        return torch.sigmoid(self.centre(x))
