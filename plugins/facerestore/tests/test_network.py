"""Restorers of true key layouts load and run; what is none is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentd_facerestore.network import FaceNetwork, load_face_network
from PIL import Image
from spandrel import ImageModelDescriptor
from spandrel.architectures.GFPGAN import GFPGAN, GFPGANArch

from latentd.api import ModelLoadError

FACE = Image.linear_gradient("L").resize((512, 512)).convert("RGB")


def test_a_restorer_in_a_file(tmp_path, write_restorer, green):
    write_restorer(tmp_path / "face.safetensors")
    network = load_face_network(tmp_path / "face.safetensors", "cpu")
    assert network.architecture == "RestoreFormer"
    assert 1e6 < network.nbytes < 1e7
    restored = network.restore(FACE, None)
    assert restored.size == (512, 512)
    assert np.abs(np.asarray(restored).astype(int) - green).max() <= 1


def test_gfpgan_as_published(tmp_path):
    """Its keys and shapes, 350 MB of them, in a file of some kilobytes: each tensor repeats one number."""
    with torch.device("meta"):
        layout = GFPGAN().state_dict()
    weights = {key: torch.zeros(1).expand(tensor.shape) for key, tensor in layout.items()}
    torch.save({"params_ema": weights}, tmp_path / "GFPGANv1.4.pth")
    network = load_face_network(tmp_path / "GFPGANv1.4.pth", "cpu")
    assert network.architecture == "GFPGAN"
    assert network.nbytes == sum(4 * tensor.numel() for tensor in layout.values())


def test_gfpgan_gives_the_same_face_each_time():
    """A narrow one, since the published width takes many seconds."""
    torch.manual_seed(3)
    module = GFPGAN(narrow=0.125, channel_multiplier=1, num_style_feat=16)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("style_convs.0.weight") or name.endswith("style_conv1.weight"):
                parameter.fill_(0.5)  # the noise's strength, zero before training
    descriptor = ImageModelDescriptor(
        module, module.state_dict(), architecture=GFPGANArch(), purpose="FaceSR", tags=[], supports_half=False,
        supports_bfloat16=True, scale=1, input_channels=3, output_channels=3,
    )  # fmt: skip
    network = FaceNetwork(architecture="GFPGAN", descriptor=descriptor, device=torch.device("cpu"))
    first, second = network.restore(FACE, None), network.restore(FACE, None)
    assert first.tobytes() == second.tobytes()
    assert np.asarray(first).std() > 1


@pytest.mark.slow
def test_codeformer_heeds_its_weight():
    extra = pytest.importorskip("spandrel_extra_arches", reason="an extra: its licence forbids commercial use")
    support = next(support for support in extra.EXTRA_REGISTRY if support.architecture.id == "CodeFormer")
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    torch.manual_seed(0)
    descriptor = support.architecture.load(CodeFormer(n_layers=1).state_dict())
    descriptor.model.eval()
    network = FaceNetwork(architecture="CodeFormer", descriptor=descriptor, device=torch.device("cpu"))
    restored, faithful = (np.asarray(network.restore(FACE, weight)).astype(int) for weight in (0.0, 1.0))
    assert np.abs(restored - faithful).mean() > 1


def test_an_upscaler_is_no_face_restorer(tmp_path):
    from spandrel.architectures.Compact import Compact

    path = tmp_path / "GFPGANv1.4.pth"
    torch.save(Compact(num_feat=8, num_conv=1).state_dict(), path)
    with pytest.raises(ModelLoadError, match="is a RealESRGAN Compact model, which restores no faces"):
        load_face_network(path, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02c__builtin__\neval\n(Vprint(1)\ntR."])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "GFPGANv1.4.pth"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"GFPGANv1\.4\.pth"):
        load_face_network(path, "cpu")


def test_unknown_weights_are_refused(tmp_path):
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "GFPGANv1.4.pth")
    with pytest.raises(ModelLoadError, match="cannot be loaded as a face restorer"):
        load_face_network(tmp_path / "GFPGANv1.4.pth", "cpu")
