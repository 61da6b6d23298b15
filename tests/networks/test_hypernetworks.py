from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from latentd.errors import ModelLoadError
from latentd.networks.hypernetworks import (
    ContextChanges,
    HypernetworkHooks,
    build_hypernetwork,
    load_hypernetwork,
)


def mlp(width: int, seed: int, second: int = 2) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "linear.0.weight": torch.randn(2 * width, width, generator=random),
        "linear.0.bias": torch.randn(2 * width, generator=random),
        f"linear.{second}.weight": torch.randn(width, 2 * width, generator=random),
        f"linear.{second}.bias": torch.randn(width, generator=random),
    }


def state(width: int = 6, **settings: Any) -> dict[Any, Any]:
    return {width: [mlp(width, 1), mlp(width, 2)], "name": "tiny", "layer_structure": [1, 2, 1], **settings}


def relu_mlp(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = functional.linear(x, weights["linear.0.weight"], weights["linear.0.bias"]).relu()
    return functional.linear(hidden, weights["linear.2.weight"], weights["linear.2.bias"])


CONTEXT = torch.linspace(-1, 1, 2 * 3 * 6).reshape(2, 3, 6)


def test_keys_and_values_get_their_own_network_times_the_multiplier() -> None:
    network = build_hypernetwork(state(activation_func="relu", activate_output=False), "x")
    keys, values = ContextChanges([(network, 0.5)])(CONTEXT)
    torch.testing.assert_close(keys, CONTEXT + 0.5 * relu_mlp(mlp(6, 1), CONTEXT))
    torch.testing.assert_close(values, CONTEXT + 0.5 * relu_mlp(mlp(6, 2), CONTEXT))


def test_the_output_is_activated_unless_the_file_says_no() -> None:
    network = build_hypernetwork(state(activation_func="relu"), "x")
    keys, _ = ContextChanges([(network, 1.0)])(CONTEXT)
    torch.testing.assert_close(keys, CONTEXT + relu_mlp(mlp(6, 1), CONTEXT).relu())


@pytest.mark.parametrize("activation", [None, "linear"])
def test_linear_ones_have_no_activation(activation: str | None) -> None:
    network = build_hypernetwork(state(activation_func=activation), "x")
    changes = network.changes(CONTEXT, CONTEXT)
    doubled = network.changes(CONTEXT * 2, CONTEXT * 2)
    zero = network.changes(CONTEXT * 0, CONTEXT * 0)
    assert changes
    assert doubled
    assert zero
    torch.testing.assert_close(doubled[0] - zero[0], 2 * (changes[0] - zero[0]))


def test_they_act_one_after_another_and_leave_other_widths_alone() -> None:
    first = build_hypernetwork(state(activation_func="relu", activate_output=False), "a")
    other = build_hypernetwork({4: [mlp(4, 3), mlp(4, 4)]}, "b")
    keys, _values = ContextChanges([(first, 1.0), (other, 1.0), (first, 2.0)])(CONTEXT)
    once = CONTEXT + relu_mlp(mlp(6, 1), CONTEXT)
    torch.testing.assert_close(keys, once + 2 * relu_mlp(mlp(6, 1), once))
    narrow = torch.ones(1, 2, 5)
    assert ContextChanges([(first, 1.0)])(narrow)[0] is narrow


def test_layer_norms_stand_behind_their_linear_layer() -> None:
    weights = mlp(6, 1)
    weights["linear.3.weight"], weights["linear.3.bias"] = torch.full((6,), 2.0), torch.ones(6)
    network = build_hypernetwork({6: [weights, weights], "activation_func": "relu", "activate_output": False}, "x")
    change = network.changes(CONTEXT, CONTEXT)
    assert change is not None
    expected = functional.layer_norm(relu_mlp(mlp(6, 1), CONTEXT), (6,)) * 2 + 1
    torch.testing.assert_close(change[0], expected)


def test_the_first_files_numbered_layers_without_a_dot() -> None:
    old = {key.replace("linear.0", "linear1").replace("linear.2", "linear2"): value for key, value in mlp(6, 1).items()}
    new = build_hypernetwork({6: [mlp(6, 1, second=1)] * 2}, "new").changes(CONTEXT, CONTEXT)
    was = build_hypernetwork({6: [old, old]}, "old").changes(CONTEXT, CONTEXT)
    assert new
    assert was
    assert torch.equal(new[0], was[0])


def test_networks_follow_the_contexts_dtype() -> None:
    network = build_hypernetwork(state(), "x")
    keys, _ = ContextChanges([(network, 1.0)])(CONTEXT.to(torch.bfloat16))
    assert keys.dtype == torch.bfloat16


def test_the_unet_hook_hands_both_contexts_to_the_attention() -> None:
    network = build_hypernetwork(state(), "x")
    hooks = HypernetworkHooks([(network, 1.0)])
    handler = hooks.attention(None)  # type: ignore[arg-type]
    seen: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    class Attend:
        module = None

        def __call__(self, hidden: Tensor, keys: Tensor | None, values: Tensor | None = None) -> Tensor:
            seen.append((hidden, keys, values))
            return hidden

    handler(None, CONTEXT, None, Attend())  # type: ignore[arg-type]
    keys, values = ContextChanges([(network, 1.0)])(CONTEXT)
    assert seen[0][0] is CONTEXT
    assert torch.equal(seen[0][1], keys)
    assert torch.equal(seen[0][2], values)


def test_an_unknown_activation_matters_where_it_is_used() -> None:
    single = {"linear.0.weight": torch.eye(6), "linear.0.bias": torch.zeros(6)}
    one = {6: [single, single], "activation_func": "of the future"}
    assert build_hypernetwork({**one, "activate_output": False}, "x").layers.keys() == {6}
    with pytest.raises(ModelLoadError, match="unknown activation 'of the future'"):
        build_hypernetwork({**one, "activate_output": True}, "x")


def test_files_are_read(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "b.pt")
    assert load_hypernetwork(tmp_path / "b.pt").layers.keys() == {6}


@pytest.mark.parametrize(
    "broken", [{6: [{}, {}]}, {6: "x"}, {6: [{"linear.0.weight": torch.ones(2, 2)}] * 2}, state(activation_func="evil")]
)
def test_damaged_files_are_refused(broken: dict[Any, Any]) -> None:
    with pytest.raises(ModelLoadError):
        build_hypernetwork(broken, "x")
