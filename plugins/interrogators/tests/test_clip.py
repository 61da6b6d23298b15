"""The interrogator "clip": caption, categories, options, what is missing, and what stays in memory."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import latentd_interrogators
import pytest
from interrogation import WORDS, as_text, noise, write_vocabulary

from latentd.testing import AppFactory

Write = Callable[[Path], Path]
PICTURE = as_text(noise(1))
ARTISTS = ["ann", "bob", "cleo", "dan"]


def caption(client: Any, picture: str = PICTURE, **options: Any) -> str:
    """The caption of ``picture`` under ``options``."""
    if options:
        assert client.post("/sdapi/v1/options", json=options).status_code == 200
    answer = client.post("/sdapi/v1/interrogate", json={"image": picture, "model": "clip"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["caption"])


def write_categories(data: Path, **files: list[str]) -> None:
    folder = data / "interrogate"
    folder.mkdir()
    for name, lines in files.items():
        (folder / f"{name.replace('_', '.')}.txt").write_text("\n".join(lines), encoding="utf-8")


def loaded(latentd_app: AppFactory, client: Any) -> int:
    return len(client.app.state.services.models.cache.loaded("interrogator"))


def test_the_caption_follows_the_picture_and_the_lengths(latentd_app: AppFactory, write_blip: Write) -> None:
    write_blip(latentd_app.data_dir)
    client = latentd_app([latentd_interrogators])
    first = caption(client, interrogate_clip_min_length=12, interrogate_clip_max_length=12)
    # Four of the twelve are the beginning that is not repeated: [DEC] a picture of.
    assert len(first.split()) == 8
    assert set(first.split()) <= set(WORDS)
    assert len({caption(client, as_text(noise(seed))) for seed in (2, 3)}) > 1
    assert len(caption(client, interrogate_clip_min_length=20, interrogate_clip_max_length=20).split()) == 16
    assert len(caption(client, interrogate_clip_min_length=1, interrogate_clip_max_length=1).split()) <= 1


def test_beams_find_a_likelier_caption(blip: Any, write_blip: Write, tmp_path: Path) -> None:
    import torch
    from latentd_interrogators.caption import load_captioner
    from latentd_interrogators.pixels import squashed

    captioner = load_captioner(write_blip(tmp_path), "cpu")

    def likelihood(beams: int, seed: int) -> float:
        text = captioner.caption(noise(seed), beams=beams, shortest=12, longest=12)
        ids = torch.tensor([[first, *captioner.tokenizer.encode(f"a picture of {text}", add_special_tokens=False)]])
        with torch.no_grad():
            seen = blip.vision_model(pixel_values=squashed(noise(seed), 32)).last_hidden_state
            logits = blip.text_decoder(input_ids=ids, encoder_hidden_states=seen).logits
        return float(logits[0, 3:-1].log_softmax(-1).gather(1, ids[0, 4:, None]).sum())

    first = blip.config.text_config.bos_token_id
    greedy, wide = ([likelihood(beams, seed) for seed in range(6)] for beams in (1, 8))
    assert sum(wide) > sum(greedy) + 0.1


def test_categories_follow_the_caption_in_order_of_names(
    latentd_app: AppFactory, write_blip: Write, write_clip: Write
) -> None:
    write_blip(latentd_app.data_dir)
    write_clip(latentd_app.data_dir)
    write_categories(latentd_app.data_dir, artists=[*ARTISTS, "", "  "], flavors_top2=["soft", "hard", "wet"])
    client = latentd_app([latentd_interrogators])
    parts = caption(client).split(", ")
    assert len(parts) == 4
    assert parts[1] in ARTISTS
    assert {*parts[2:]} < {"soft", "hard", "wet"}
    assert caption(client, interrogate_clip_skip_categories=["artists"]).split(", ") == [parts[0], *parts[2:]]
    assert caption(client, interrogate_clip_skip_categories=["artists", "flavors"]) == parts[0]
    assert caption(client, interrogate_clip_skip_categories=[], interrogate_clip_dict_limit=1).split(", ")[1:] == [
        "ann",
        "soft",
    ]


def test_ranks_are_clips_own_probabilities(latentd_app: AppFactory, write_blip: Write, write_clip: Write) -> None:
    import torch
    from latentd_interrogators.pixels import cropped
    from transformers import AutoTokenizer, CLIPModel

    write_blip(latentd_app.data_dir)
    folder = str(write_clip(latentd_app.data_dir))
    write_categories(latentd_app.data_dir, artists_top4=ARTISTS)
    client = latentd_app([latentd_interrogators])
    ranked = caption(client, interrogate_return_ranks=True).split(", ")[1:]
    tokens = AutoTokenizer.from_pretrained(folder)(ARTISTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        shares = model(pixel_values=cropped(noise(1), 32), **tokens).logits_per_image.softmax(-1)[0]
    expected = sorted(zip(ARTISTS, shares.tolist(), strict=True), key=lambda pair: -pair[1])
    assert ranked == [f"({name}:{share:.3f})" for name, share in expected]


def test_models_stay_only_while_the_option_says_so(
    latentd_app: AppFactory, write_blip: Write, write_clip: Write
) -> None:
    write_blip(latentd_app.data_dir)
    write_clip(latentd_app.data_dir)
    write_categories(latentd_app.data_dir, artists=ARTISTS)
    client = latentd_app([latentd_interrogators])
    first = caption(client, interrogate_keep_models_in_memory=True)
    assert loaded(latentd_app, client) == 2
    assert caption(client) == first
    assert caption(client, interrogate_keep_models_in_memory=False) == first
    assert loaded(latentd_app, client) == 0


def test_missing_weights_are_named_with_their_folder(
    latentd_app: AppFactory, write_blip: Write, write_clip: Write
) -> None:
    client = latentd_app([latentd_interrogators])

    def refusal() -> dict[str, str]:
        answer = client.post("/sdapi/v1/interrogate", json={"image": PICTURE, "model": "clip"})
        assert answer.status_code == 422
        return dict(answer.json())

    body = refusal()
    assert str(latentd_app.data_dir / "models/BLIP") in body["detail"]
    assert "blip-image-captioning-base" in body["hint"]
    write_blip(latentd_app.data_dir)
    write_categories(latentd_app.data_dir, artists=ARTISTS)
    body = refusal()
    assert str(latentd_app.data_dir / "models/CLIP") in body["detail"]
    assert "clip-vit-large-patch14" in body["hint"]
    write_clip(latentd_app.data_dir)
    assert caption(client)


def test_a_damaged_model_is_refused_by_name(latentd_app: AppFactory, write_blip: Write) -> None:
    folder = write_blip(latentd_app.data_dir)
    (folder / "model.safetensors").write_bytes(b"not weights")
    client = latentd_app([latentd_interrogators])
    answer = client.post("/sdapi/v1/interrogate", json={"image": PICTURE})
    assert answer.status_code == 422
    assert "tiny-captioner cannot be loaded as a BLIP captioner" in answer.json()["detail"]


def test_nothing_is_asked_of_the_network(
    write_blip: Write, write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentd_interrogators.caption import load_captioner
    from latentd_interrogators.ranking import load_ranker

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda _self, address: asked.append(address))
    load_captioner(write_blip(tmp_path), "cpu")
    load_ranker(write_clip(tmp_path), "cpu")
    assert asked == []


def test_automatic1111s_single_file_gives_the_same_captions(blip: Any, write_blip: Write, tmp_path: Path) -> None:
    import torch
    from latentd_interrogators.blip_file import transformers_key
    from latentd_interrogators.caption import load_captioner

    path = tmp_path / "model_base_caption_capfilt_large.pth"
    torch.save({"model": blip_weights(blip)}, path)
    assert {transformers_key(key) for key in blip_weights(blip)} == set(blip.state_dict())
    write_vocabulary(tmp_path)
    given = {"beams": 2, "shortest": 6, "longest": 9}
    one, other = load_captioner(path, "cpu"), load_captioner(write_blip(tmp_path), "cpu")
    for seed in range(2):
        assert one.caption(noise(seed), **given) == other.caption(noise(seed), **given)


def test_the_single_file_needs_a_vocabulary(latentd_app: AppFactory, blip: Any) -> None:
    import torch

    folder = latentd_app.data_dir / "models/BLIP"
    folder.mkdir(parents=True)
    torch.save({"model": blip_weights(blip)}, folder / "model_base_caption_capfilt_large.pth")
    client = latentd_app([latentd_interrogators])
    answer = client.post("/sdapi/v1/interrogate", json={"image": PICTURE})
    assert answer.status_code == 422
    assert "vocab.txt is missing" in answer.json()["detail"]
    write_vocabulary(folder)
    assert caption(client)


def test_a_third_partys_interrogator_appears_under_its_own_name(latentd_app: AppFactory) -> None:
    from latentd.api import InterrogatorSpec, hookimpl

    class Sizes:
        @hookimpl
        def register_interrogators(self, services: Any) -> list[InterrogatorSpec]:
            return [InterrogatorSpec(name="sizes", interrogate=lambda image, context: f"{image.width}x{image.height}")]

    client = latentd_app([latentd_interrogators, Sizes()])
    assert client.post("/sdapi/v1/interrogate", json={"image": PICTURE, "model": "sizes"}).json() == {
        "caption": "48x32"
    }
    missing = client.post("/sdapi/v1/interrogate", json={"image": PICTURE, "model": "nobody"})
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Model not found"
    assert all(name in missing.json()["hint"] for name in ("clip", "deepdanbooru", "sizes"))


def test_importing_it_imports_no_torch() -> None:
    code = (
        "import sys, latentd_interrogators; sys.exit(bool({'torch', 'transformers', 'onnxruntime'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def blip_weights(model: Any) -> dict[str, Any]:
    """The captioner's weights under the names that BLIP's own code gives them."""
    inner = {
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "self_attn.qkv": "attn.qkv",
        "self_attn.projection": "attn.proj",
    }
    outer = {
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed",
        "embeddings.patch_embedding": "patch_embed.proj",
        "post_layernorm": "norm",
        "encoder.layers": "blocks",
    }
    weights = {}
    for key, value in model.state_dict().items():
        old = key.replace("vision_model.", "visual_encoder.")
        if old != key:
            for new, original in (inner | outer).items():
                old = old.replace(new, original)
        weights[old] = value.clone()
    return weights
