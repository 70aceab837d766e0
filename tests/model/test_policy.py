from __future__ import annotations

import torch
from torch import nn

from adafocus.model.policy import ClipPolicy, GatedRecurrence, Policy


def test_the_recurrence_is_a_gru() -> None:
    torch.manual_seed(0)
    reference, ours = nn.GRU(6, 5, batch_first=True).double(), GatedRecurrence(6, 5).double()
    with torch.no_grad():
        ours.from_input.weight.copy_(reference.weight_ih_l0)
        ours.from_input.bias.copy_(reference.bias_ih_l0)
        ours.from_state.weight.copy_(reference.weight_hh_l0)
        ours.from_state.bias.copy_(reference.bias_hh_l0)
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    state, states = torch.zeros(3, 5, dtype=torch.float64), []
    for t in range(7):
        state = ours(x[:, t], state)
        states.append(state)
    torch.testing.assert_close(torch.stack(states, 1), reference(x)[0], rtol=1e-12, atol=1e-12)


def test_steps_are_the_clip_seen_one_frame_at_a_time() -> None:
    torch.manual_seed(0)
    policy = Policy(map_channels=6, map_size=2, channels=4, hidden=8).eval()
    maps = torch.randn(3, 5, 6, 2, 2)
    first = torch.zeros(3, 8)
    state, centres = first, []
    for t in range(5):
        centre, state = policy.step(maps[:, t], state)
        centres.append(centre)
    torch.testing.assert_close(torch.stack(centres, 1), policy(maps, first))


def test_centres_lie_in_the_unit_square() -> None:
    torch.manual_seed(0)
    for centres in (
        Policy(6, 2, 4, 8)(torch.randn(3, 5, 6, 2, 2) * 100, torch.zeros(3, 8)),
        ClipPolicy(30, 2, 4, (8, 6, 5))(torch.randn(3, 5, 6, 2, 2) * 100),
    ):
        assert centres.shape[-1] == 2
        assert ((centres >= 0) & (centres <= 1)).all()


def test_a_clip_policy_may_have_a_single_width() -> None:
    assert ClipPolicy(30, 2, 4, (8,)).eval()(torch.randn(3, 5, 6, 2, 2)).shape == (3, 2)
