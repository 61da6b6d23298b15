"""Which positions merge, and that what was merged comes back where it was."""

from __future__ import annotations

import torch

from latentd.pipeline.passes.token_merging import match


def _rows(*values: float) -> torch.Tensor:
    """[1,n,2]: unit vectors at these angles."""
    angles = torch.tensor(values)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)[None]


def test_the_most_alike_join_the_first_of_their_cell() -> None:
    x = _rows(0.0, 0.1, 1.0, 2.0)
    merge = match(x, 2, 2, 1)
    merged = merge.apply(x)
    assert merged.shape == (1, 3, 2)
    assert torch.allclose(merged[0, -1], (x[0, 0] + x[0, 1]) / 2)
    back = merge.undo(merged)
    assert torch.allclose(back[0, 2:], x[0, 2:])
    assert torch.equal(back[0, 0], back[0, 1])


def test_nothing_merged_changes_nothing_but_order() -> None:
    x = torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(1))
    merge = match(x, 3, 5, 0)
    assert torch.allclose(merge.undo(merge.apply(x)), x)


def test_odd_edges_never_stay() -> None:
    merge = match(torch.randn(1, 15, 4, generator=torch.Generator().manual_seed(1)), 3, 5, 4)
    assert merge.stay.tolist() == [0, 2]
    assert merge.apply(torch.ones(1, 15, 4)).shape == (1, 11, 4)


def test_more_cannot_merge_than_there_are_others() -> None:
    x = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(1))
    assert match(x, 4, 4, 99).apply(x).shape == (1, 4, 4)
