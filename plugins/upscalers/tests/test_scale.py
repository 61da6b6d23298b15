"""The factor is read from files of true key layouts, the same as the network itself has."""

from __future__ import annotations

import pickle

import pytest
import torch
from latentd_upscalers.scale import read_scale
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DAT import DAT
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.OmniSR import OmniSR
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR

from latentd.api import ModelLoadError, read_shapes


def swinir(**parameters):
    return SwinIR(embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=8, img_size=16, **parameters)


NETWORKS = {
    "esrgan-1x": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=1),
    "esrgan-2x": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=2),
    "esrgan-4x": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=4),
    "esrgan-8x": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=8),
    "esrgan-2x-folded": lambda: ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2),
    "compact-4x": lambda: Compact(num_feat=8, num_conv=1, upscale=4),
    "compact-2x": lambda: Compact(num_feat=8, num_conv=1, upscale=2),
    "swinir-shuffle-4x": lambda: swinir(upscale=4, upsampler="pixelshuffle"),
    "swinir-shuffle-3x": lambda: swinir(upscale=3, upsampler="pixelshuffle"),
    "swinir-direct-2x": lambda: swinir(upscale=2, upsampler="pixelshuffledirect"),
    "swinir-real-4x": lambda: swinir(upscale=4, upsampler="nearest+conv"),
    "dat-3x": lambda: DAT(img_size=16, embed_dim=32, depth=[2], num_heads=[2], split_size=[2, 4], upscale=3),
    "dat-2x": lambda: DAT(img_size=16, embed_dim=32, depth=[2], num_heads=[2], split_size=[2, 4], upscale=2),
    "hat-4x": lambda: HAT(
        img_size=16, embed_dim=12, depths=(1,), num_heads=(2,), window_size=4, squeeze_factor=4, upscale=4,
        upsampler="pixelshuffle", mlp_ratio=2,
    ),
    "span-2x": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    "omnisr-4x": lambda: OmniSR(num_feat=8, up_scale=4, res_num=1, block_num=1),
    "plksr-2x": lambda: PLKSR(dim=16, n_blocks=1, upscaling_factor=2),
    "realplksr-4x": lambda: RealPLKSR(dim=16, n_blocks=1, upscaling_factor=4),
    "scunet": lambda: SCUNet(config=[1] * 7, dim=64),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(NETWORKS))
def weights(request):
    torch.manual_seed(0)
    return {key: tensor.contiguous() for key, tensor in NETWORKS[request.param]().state_dict().items()}


def test_the_factor_is_the_networks_own(weights, tmp_path):
    save_file(weights, tmp_path / "net.safetensors")
    torch.save({"params_ema": weights}, tmp_path / "net.pth")
    expected = ModelLoader().load_from_state_dict(dict(weights)).scale
    shapes = read_shapes(tmp_path / "net.safetensors")
    assert read_scale(shapes) == expected
    assert read_scale(read_shapes(tmp_path / "net.pth")) == expected


def test_newer_names_of_esrgan():
    shapes = {
        "conv_first.weight": (64, 12, 3, 3),
        "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
        "conv_up1.weight": (64, 64, 3, 3),
        "conv_up2.weight": (64, 64, 3, 3),
        "conv_last.weight": (3, 64, 3, 3),
    }
    assert read_scale(shapes) == 2
    assert read_scale(shapes | {"conv_first.weight": (64, 3, 3, 3)}) == 4


def test_old_files_of_torch(tmp_path):
    """The form before zip archives, with a parameter among the tensors."""
    module = ESRGAN(num_filters=8, num_blocks=1, scale=4)
    weights = dict(module.state_dict()) | {"model.0.bias": module.model[0].bias}
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    shapes = read_shapes(tmp_path / "old.pth")
    assert shapes["model.0.weight"] == (8, 3, 3, 3)
    assert shapes["model.0.bias"] == (8,)
    assert read_scale(shapes) == 4


class Hostile:
    def __reduce__(self):
        return (print, ("run by the file",))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 20, b"\xff" * 9, b"PK\x03\x04 no archive", b"\x10\x00\x00\x00\x00\x00\x00\x00not a header...."],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_tells_nothing(tmp_path, content, suffix):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="net"):
        read_shapes(path)
    assert read_scale({}) is None


def test_nothing_in_the_file_is_run(tmp_path, capsys):
    path = tmp_path / "net.pth"
    with path.open("wb") as file:
        for part in (1, 2, 3, {"model.0.weight": Hostile()}):
            pickle.dump(part, file)
    with pytest.raises(ModelLoadError):
        read_shapes(path)
    torch.save({"a": Hostile(), "conv.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(ModelLoadError, match=r"print"):
        read_shapes(path)
    torch.save({"conv.weight": torch.zeros(2, 3)}, path)
    assert read_shapes(path) == {"conv.weight": (2, 3)}
    assert capsys.readouterr().out == ""
