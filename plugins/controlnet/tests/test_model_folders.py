"""Preprocessors from folders in transformers' form: depth and segmentation, on tiny networks of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from control_requests import pixels, png
from latentd_controlnet.preprocessors.palette import ADE20K, COCO, class_colours
from PIL import Image

SWIN = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 3, 4], "window_size": 7,
        "out_features": ["stage1", "stage2", "stage3", "stage4"]}  # fmt: skip


def depth_anything() -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=1,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8,
    )  # fmt: skip
    return DepthAnythingForDepthEstimation(config)


def upernet() -> Any:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=150, use_auxiliary_head=False,
        auxiliary_in_channels=16, auxiliary_channels=8,
    )  # fmt: skip
    return UperNetForSemanticSegmentation(config)


def oneformer(labels: int) -> Any:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    config = OneFormerConfig(
        backbone_config=SwinConfig(**SWIN), num_queries=10, hidden_dim=32, mask_dim=32, conv_dim=32,
        num_attention_heads=2, dim_feedforward=32, encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=2,
        text_encoder_width=32, text_encoder_num_layers=1, text_encoder_vocab_size=49408, text_encoder_proj_layers=1,
        num_labels=labels, use_task_norm=True, query_dec_layers=1, is_training=False,
    )  # fmt: skip
    return OneFormerForUniversalSegmentation(config)


MODULES: dict[str, tuple[str, Callable[[], Any]]] = {
    "depth_anything": ("depth-anything-large-hf", depth_anything),
    "depth_anything_v2": ("Depth-Anything-V2-Large-hf", depth_anything),
    "seg_ufade20k": ("upernet-convnext-small", upernet),
    "seg_ofade20k": ("oneformer_ade20k_swin_large", lambda: oneformer(150)),
    "seg_ofcoco": ("oneformer_coco_swin_large", lambda: oneformer(133)),
}


def save(make: Callable[[], Any], path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = make()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    network.save_pretrained(path)


@pytest.mark.parametrize("module", MODULES)
def test_maps(server: Any, generate: Any, folder: Path, module: str) -> None:
    name, make = MODULES[module]
    photo = png(Image.effect_noise((64, 96), 90).convert("RGB"))
    body = {"controlnet_module": module, "controlnet_input_images": [photo], "controlnet_processor_res": 64}
    missing = server.post("/controlnet/detect", json=body)
    assert missing.status_code == 422
    assert f"lacks its weights {name}" in missing.json()["detail"]
    maps = []
    for seed in (0, 1):
        save(make, folder / name, seed)
        server.app.state.services.models.cache.drop("annotator")
        reply = server.post("/controlnet/detect", json=body)
        assert reply.status_code == 200, reply.text
        maps.append(pixels(reply.json()["images"][0]))
    assert maps[0].shape == (96, 64, 3)
    assert not np.array_equal(*maps)
    if module.startswith("seg"):
        palette = COCO if module == "seg_ofcoco" else ADE20K
        known = {tuple(colour) for colour in palette[:-1]}
        assert {tuple(colour) for colour in maps[1].reshape(-1, 3)} <= known
    square = png(Image.effect_noise((64, 64), 90).convert("RGB"))
    unit = {"module": module, "model": "net", "image": square, "processor_res": 64}
    assert len(generate(unit, steps=1)["images"]) == 2


def test_a_folder_of_something_else_is_refused(server: Any, folder: Path, circle: str) -> None:
    body = {"controlnet_module": "seg_ufade20k", "controlnet_input_images": [circle], "controlnet_processor_res": 64}
    path = folder / "upernet-convnext-small"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text('{"model_type": "no_such"}')
    (path / "model.safetensors").unlink(missing_ok=True)
    server.app.state.services.models.cache.drop("annotator")
    reply = server.post("/controlnet/detect", json=body)
    assert reply.status_code == 422, reply.text
    assert "lacks model.safetensors" in reply.json()["detail"]
    (path / "model.safetensors").write_bytes(b"nothing")
    reply = server.post("/controlnet/detect", json=body)
    assert reply.status_code == 422, reply.text
    assert "holds no UperNetForSemanticSegmentation" in reply.json()["detail"]


def test_palettes_are_those_of_the_data_sets() -> None:
    assert (len(ADE20K) - 1, len(COCO) - 1) == (150, 133)
    wall, sky, person = ADE20K[0].tolist(), ADE20K[2].tolist(), COCO[0].tolist()
    assert (wall, sky, person) == ([120, 120, 120], [6, 230, 230], [220, 20, 60])
    drawn = class_colours(np.array([[0, 2, 149, 150, -1]]), ADE20K)
    assert drawn[0].tolist() == [[120, 120, 120], [6, 230, 230], [92, 0, 255], [0, 0, 0], [0, 0, 0]]
