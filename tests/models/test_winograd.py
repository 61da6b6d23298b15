"""Large convolutions by Winograd's algorithm: torch's values, whatever changes a weight, only where it serves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentd.models.devices import DevicePolicy
from latentd.models.layout import lay_out
from latentd.models.modules import winograd
from latentd.models.modules.fp8 import keep_in_fp8
from latentd.models.modules.winograd import LEAST_CHANNELS, WinogradConv2d, convolve, use_winograd

SIZES = {
    "whole tiles": (1, 16, 24, 32, 64),
    "a batch": (3, 8, 4, 36, 32),
    "odd sides": (2, 12, 20, 33, 47),
    "one tile wide": (1, 5, 7, 256, 3),
    "several chunks": (1, 160, 130, 96, 96),
}


def tensors(batch: int, channels: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator)
    return x, weight, torch.randn(outputs, generator=generator)


def error(found: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> float:
    """The distance of ``found`` from the convolution in float64, as a part of its norm."""
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_values_are_those_of_the_exact_convolution(
    size: tuple[int, int, int, int, int], biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "CHUNK", 1 << 18)
    x, weight, bias = tensors(*size)
    given = bias if biased else None
    assert error(convolve(x, weight, given), x, weight, given) < 3e-6
    assert error(convolve(x.mT.contiguous().mT, weight, given), x, weight, given) < 3e-6


def test_a_picture_does_not_depend_on_its_batch() -> None:
    x, weight, bias = tensors(3, 128, 128, 32, 32)
    together = convolve(x, weight, bias)
    for picture, result in zip(x, together, strict=True):
        assert torch.equal(convolve(picture[None], weight, bias)[0], result)


def layer(channels: int = LEAST_CHANNELS, kind: type[nn.Conv2d] = nn.Conv2d, **changes: int) -> nn.Conv2d:
    torch.manual_seed(2)
    return kind(channels, LEAST_CHANNELS, **{"kernel_size": 3, "padding": 1, **changes})


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        (layer(), True),
        (layer(LEAST_CHANNELS - 1), False),
        (layer(stride=2), False),
        (layer(kernel_size=1, padding=0), False),
        (layer(padding=2, dilation=2), False),
        (layer(groups=2), False),
    ],
)
def test_it_is_for_plain_convolutions_with_many_channels(module: nn.Conv2d, changed: bool) -> None:
    names = list(module.state_dict())
    x = torch.randn(1, module.in_channels, 32, 32)
    before = module(x).detach()
    root = nn.Sequential(module)
    use_winograd(root)
    assert (type(root[0]) is WinogradConv2d) is changed
    assert list(module.state_dict()) == names
    with torch.no_grad():
        assert torch.allclose(module(x), before, atol=1e-4)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the inputs that were convolved by Winograd's algorithm."""
    shapes: list[tuple[int, ...]] = []

    def count(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append(tuple(x.shape))
        return convolve(x, weight, bias)

    monkeypatch.setattr(winograd, "convolve", count)
    return shapes


def test_it_serves_large_inputs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, module = counted(monkeypatch), layer()
    use_winograd(module)
    large, small = torch.randn(1, LEAST_CHANNELS, 32, 32), torch.randn(1, LEAST_CHANNELS, 28, 32)
    with torch.inference_mode():
        module(small)
        module.to(torch.bfloat16)(large.bfloat16())
        assert shapes == []
        module.float()(large)
    assert shapes == [(1, LEAST_CHANNELS, 32, 32)]


def test_gradients_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, module = counted(monkeypatch), layer()
    use_winograd(module)
    module(torch.randn(1, LEAST_CHANNELS, 32, 32)).sum().backward()
    assert shapes == []
    assert module.weight.grad is not None


def test_tiling_pads_around(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, module = counted(monkeypatch), layer()
    use_winograd(module)
    module.padding_mode = "circular"
    x = torch.randn(1, LEAST_CHANNELS, 32, 32)
    with torch.no_grad():
        expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), module.weight, module.bias)
        assert torch.allclose(module(x), expected, atol=1e-5)
    assert shapes == []


def test_a_weight_that_changes_is_followed() -> None:
    module, x = layer(), torch.randn(1, LEAST_CHANNELS, 32, 32)
    use_winograd(module)
    with torch.no_grad():
        first = module(x)
        module.weight.mul_(2)
        assert module.bias is not None
        module.bias.mul_(2)
        assert torch.allclose(module(x), 2 * first, atol=1e-5)
        other = torch.randn_like(module.weight)
        assert torch.allclose(module._conv_forward(x, other, None), F.conv2d(x, other, padding=1), atol=1e-3)


def test_eight_bit_layers_stay_as_they_are() -> None:
    root = nn.Sequential(layer())
    keep_in_fp8([root], keep_full=False)
    kind = type(root[0])
    use_winograd(root)
    assert type(root[0]) is kind


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DevicePolicy(), WinogradConv2d),
        (DevicePolicy(direct_convolution=True), nn.Conv2d),
        (DevicePolicy(channels_last=True), nn.Conv2d),
        (DevicePolicy(device="cuda"), nn.Conv2d),
        (DevicePolicy(device="cuda", cpu_parts=frozenset(("vae",))), WinogradConv2d),
    ],
)
def test_models_use_it_on_a_cpu(policy: DevicePolicy, expected: type[nn.Conv2d]) -> None:
    root = nn.Sequential(layer())
    lay_out(root, policy, "vae")
    assert type(root[0]) is expected
