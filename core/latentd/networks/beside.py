"""Networks applied beside a layer at each call, without changing weights.

Options ``lora_functional`` and ``lora_apply_to_outputs``. As in AUTOMATIC1111's LoRA extension, the change is itself a
layer, whose output for the same input is added.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from latentd.models.modules.fp8 import exact_parameter
from latentd.networks.modules import NetworkModule
from latentd.networks.modules.lora import Lora

_KINDS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)


class Beside:
    """A forward hook that adds the output of a change to that of its layer.

    :param change: the change, at multiplier 1.
    :param multiplier: the tag's multiplier.
    :param rank: how many ranks of the change to use; None for all.
    :param on_outputs: feed the change with the layer's output instead of its input if both have the same shape.
    """

    def __init__(self, change: NetworkModule, *, multiplier: float, rank: int | None, on_outputs: bool) -> None:
        self._change = change
        self._multiplier = multiplier
        self._rank = rank
        self._on_outputs = on_outputs

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """The layer's output ``out`` plus that of the change."""
        x = args[0]
        if self._on_outputs and out.shape == x.shape:
            x = out
        return out + self._answer(module, x) * self._multiplier

    def _answer(self, module: nn.Module, x: Tensor) -> Tensor:
        change = self._change
        if isinstance(change, Lora) and isinstance(module, nn.Linear) and change.is_plain:
            up, down = change.factors(x, self._rank)
            return functional.linear(functional.linear(x, down), up) * change.scale
        weight = exact_parameter(module, "weight")
        assert weight is not None
        delta = change.delta(weight, rank=self._rank).to(x.dtype)
        bias = change.bias_delta(weight)
        return _apply(module, x, delta, None if bias is None else bias.to(x.dtype))


def fits_beside(module: nn.Module, weight: Tensor) -> bool:
    """Whether changes can be applied beside a layer; an inpainting model's first has more channels than they know."""
    return isinstance(module, _KINDS) and not (weight.dim() == 4 and weight.shape[1] == 9)


def _apply(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The output of a layer of ``module``'s kind with this weight and bias."""
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, bias)
    if isinstance(module, nn.Conv2d):
        answer: Tensor = module._conv_forward(x, weight, bias)
        return answer
    if isinstance(module, nn.GroupNorm):
        return functional.group_norm(x, module.num_groups, weight, bias, module.eps)
    assert isinstance(module, nn.LayerNorm)
    return functional.layer_norm(x, module.normalized_shape, weight, bias, module.eps)
