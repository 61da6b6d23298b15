from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.as_folder import diffusers_folder

from latentd.errors import ModelLoadError
from latentd.models.devices import DevicePolicy
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint, load_vae
from latentd.models.vae import circular_padding, decode, encode
from latentd.testing import tiny_models


def load(path: Path, config: Path | None = None) -> LoadedModel:
    info = CheckpointInfo(name=path.name, filename=str(path), config=str(config) if config else None)
    return load_checkpoint(info, DevicePolicy())


@pytest.mark.parametrize(
    ("name", "family", "variant", "channels", "width", "scale"),
    [
        ("sd1", "sd1", "base", 4, 32, 0.18215),
        ("inpainting", "sd1", "inpainting", 9, 32, 0.18215),
        ("edit", "sd1", "edit", 8, 32, 0.18215),
        ("sd2", "sd2", "base", 4, 32, 0.18215),
        ("sdxl", "sdxl", "base", 4, 64, 0.13025),
        ("sdxl-refiner", "sdxl-refiner", "base", 4, 32, 0.13025),
    ],
)
def test_each_family_is_recognised_and_built(
    checkpoint_folder: Path, name: str, family: str, variant: str, channels: int, width: int, scale: float
) -> None:
    model = load(checkpoint_folder / f"{name}.safetensors")
    assert (model.family, model.variant, model.unet_in_channels) == (family, variant, channels)
    assert (model.context_width, model.scale_factor) == (width, scale)
    modules = [model.unet, model.vae, *model.text_encoders]
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for m in modules for p in m.parameters())
    assert model.nbytes() == sum(p.numel() * 4 for m in modules for p in m.parameters())


def test_heads_are_eight_in_sd1_and_of_64_channels_elsewhere(checkpoint_folder: Path) -> None:
    sd1 = load(checkpoint_folder / "sd1.safetensors").unet
    sdxl = load(checkpoint_folder / "sdxl.safetensors").unet
    assert sd1.down_blocks[0].attentions[0].transformer_blocks[0].attn1.heads == 8
    assert sdxl.down_blocks[1].attentions[0].transformer_blocks[0].attn1.heads == 1


def test_yaml_beside_the_file_overrules_what_is_guessed(tmp_path: Path) -> None:
    path = tiny_models.write(tmp_path / "m.safetensors", tiny_models.checkpoint("sd1"))
    config = tmp_path / "m.yaml"
    config.write_text(
        "model:\n  params:\n    parameterization: v\n    scale_factor: 0.5\n    linear_end: 0.02\n"
        "    unet_config:\n      params:\n        num_heads: 4\n"
    )
    model = load(path, config)
    assert (model.prediction_type, model.scale_factor, model.linear_end) == ("v", 0.5, 0.02)
    assert model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.heads == 4


@pytest.mark.parametrize(("offset", "expected"), [(0.0, "eps"), (-5.0, "v")])
def test_sd2_prediction_is_told_by_running_the_unet(tmp_path: Path, offset: float, expected: str) -> None:
    weights = tiny_models.checkpoint("sd2")
    weights["model.diffusion_model.out.2.weight"].zero_()
    weights["model.diffusion_model.out.2.bias"].fill_(0.5 + offset)
    model = load(tiny_models.write(tmp_path / "m.safetensors", weights))
    assert model.prediction_type == expected


@pytest.mark.parametrize(
    ("keys", "metadata", "expected"),
    [
        ((), {}, ("eps", False)),
        (("v_pred",), {}, ("v", False)),
        (("v_pred", "ztsnr"), {}, ("v", True)),
        (("ztsnr",), {}, ("eps", True)),
        ((), {"modelspec.prediction_type": "v"}, ("v", False)),
        ((), {"modelspec.predict_key": "v"}, ("v", False)),
        ((), {"modelspec.prediction_type": "epsilon", "ss_v_parameterization": "True"}, ("eps", False)),
        ((), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, ("v", True)),
        ((), {"ss_v_parameterization": "False", "ss_zero_terminal_snr": "False"}, ("eps", False)),
        (("v_pred",), {"modelspec.prediction_type": "epsilon"}, ("v", False)),
    ],
)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_file_says_how_it_was_trained(
    tmp_path: Path, family: str, keys: tuple[str, ...], metadata: dict[str, str], expected: tuple[str, bool]
) -> None:
    weights = tiny_models.checkpoint(family) | {key: torch.tensor([]) for key in keys}
    path = tmp_path / "m.safetensors"
    save_file(weights, path, metadata=metadata)
    model = load(path)
    assert (model.prediction_type, model.zero_terminal_snr) == expected
    assert (model.alphas_cumprod()[-1].item() < 1e-6) == expected[1]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v"),
        ({"modelspec.prediction_type": "epsilon"}, "eps"),
        ({"modelspec.predict_key": "v"}, "v"),
    ],
)
def test_what_an_sd2_file_says_is_not_guessed(tmp_path: Path, metadata: dict[str, str], expected: str) -> None:
    weights = tiny_models.checkpoint("sd2")
    weights["model.diffusion_model.out.2.weight"].zero_()
    weights["model.diffusion_model.out.2.bias"].fill_(0.5 if expected == "v" else -4.5)
    path = tmp_path / "m.safetensors"
    save_file(weights, path, metadata=metadata)
    assert load(path).prediction_type == expected


@pytest.mark.parametrize("key", ["edm_mean", "edm_vpred.sigma_max"])
def test_a_model_of_another_formulation_is_refused(tmp_path: Path, key: str) -> None:
    path = tiny_models.write(tmp_path / "m.safetensors", tiny_models.checkpoint("sdxl") | {key: torch.ones(1)})
    with pytest.raises(ModelLoadError, match="EDM"):
        load(path)


def test_alphas_cumprod_spans_the_usual_sigmas(checkpoint_folder: Path) -> None:
    alphas = load(checkpoint_folder / "sd1.safetensors").alphas_cumprod()
    sigmas = ((1 - alphas) / alphas).sqrt()
    assert sigmas[0].item() == pytest.approx(0.0292, abs=1e-4)
    assert sigmas[-1].item() == pytest.approx(14.6146, abs=1e-3)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    weights = tiny_models.checkpoint("sd1")
    del weights["model.diffusion_model.time_embed.2.bias"]
    with pytest.raises(ModelLoadError, match=r"lacks 1 weights of its UNet, time_embedding.linear_2.bias"):
        load(tiny_models.write(tmp_path / "m.safetensors", weights))


def test_a_vae_among_checkpoints_is_told_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load(tiny_models.write(tmp_path / "m.safetensors", tiny_models.vae()))
    assert "models/VAE" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{", b"no model"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"m\.safetensors"):
        load(path)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_vae_files_with_and_without_prefix(tmp_path: Path, prefix: str, suffix: str) -> None:
    weights, path = tiny_models.under(prefix, tiny_models.vae()), tmp_path / f"v{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": weights}, path)
    else:
        tiny_models.write(path, weights)
    vae = load_vae(path, DevicePolicy())
    assert vae.decoder.conv_out.out_channels == 3


def test_a_vae_of_other_models_is_refused(tmp_path: Path) -> None:
    weights = tiny_models.vae()
    weights["decoder.conv_in.weight"] = torch.zeros(64, 16, 3, 3)
    weights["encoder.conv_out.weight"] = torch.zeros(32, 64, 3, 3)
    with pytest.raises(ModelLoadError, match=r"ae\.safetensors is a VAE of 16 latent channels, as FLUX"):
        load_vae(tiny_models.write(tmp_path / "ae.safetensors", weights), DevicePolicy())


def test_a_diffusers_folder_gives_the_same_model(checkpoint_folder: Path, tmp_path: Path) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    again = load(diffusers_folder(model, tmp_path / "folder"))
    assert (again.family, again.module_names) == (model.family, model.module_names)
    for ours, theirs in ((model.unet, again.unet), (model.vae, again.vae)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def sharded(folder: Path, names: Sequence[str]) -> None:
    """The UNet's weights spread over files of these names."""
    whole = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    for number, name in enumerate(names):
        part = dict(list(weights.items())[number :: len(names)])
        save_file(part, folder / "unet" / name)


UNET_FILE = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    "names",
    [
        [f"{UNET_FILE}.fp16.safetensors"],
        [f"{UNET_FILE}.bf16.safetensors"],
        [f"{UNET_FILE}-0000{n}-of-00003.safetensors" for n in (1, 2, 3)],
        [f"{UNET_FILE}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)],
        [f"{UNET_FILE}-0000{n}-of-00002.fp16.safetensors" for n in (1, 2)],
    ],
)
def test_a_folders_weights_under_every_name_of_diffusers(
    checkpoint_folder: Path, tmp_path: Path, names: list[str]
) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    folder = diffusers_folder(model, tmp_path / "folder")
    sharded(folder, names)
    found = load(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.unet.parameters(), found.unet.parameters(), strict=True))


def test_a_folders_configuration_may_say_more_than_the_network_takes(checkpoint_folder: Path, tmp_path: Path) -> None:
    """Averages of a training, saved by themselves, have its settings in their configuration."""
    model = load(checkpoint_folder / "sd1.safetensors")
    folder = diffusers_folder(model, tmp_path / "folder")
    for part in ("unet", "vae"):
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"decay": 0.9999, "use_ema_warmup": False}))
    assert torch.equal(load(folder).unet.conv_in.weight, model.unet.conv_in.weight)


def test_a_folder_that_lacks_a_shard_is_refused(checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = diffusers_folder(load(checkpoint_folder / "sd1.safetensors"), tmp_path / "folder")
    names = [f"{UNET_FILE}-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    sharded(folder, names)
    (folder / "unet" / names[1]).unlink()
    with pytest.raises(ModelLoadError, match="folder/unet holds 2 of 3 shards"):
        load(folder)


def test_whole_weights_go_before_variants_and_shards(checkpoint_folder: Path, tmp_path: Path) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    folder = diffusers_folder(model, tmp_path / "folder")
    spoilt = {"conv_in.weight": torch.zeros(1)}
    for name in (f"{UNET_FILE}.fp16", f"{UNET_FILE}.ema", f"{UNET_FILE}-00001-of-00001"):
        save_file(spoilt, folder / f"unet/{name}.safetensors")
    torch.save(spoilt, folder / f"unet/{UNET_FILE}.bin")
    assert torch.equal(load(folder).unet.conv_in.weight, model.unet.conv_in.weight)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("scale", [None, "scale_weight", "weight_scale"])
def test_a_checkpoint_of_eight_bits_is_read_as_its_values(
    tmp_path: Path, dtype: torch.dtype, scale: str | None
) -> None:
    """ComfyUI writes a scale beside each weight: one for all of it, or one an output."""
    weights, expected = tiny_models.checkpoint("sd1"), {}
    for number, key in enumerate([k for k, v in weights.items() if v.ndim > 1 and k.startswith("model.")]):
        weights[key] = weights[key].to(dtype)
        expected[key] = weights[key].float()
        if scale is not None:
            given = torch.linspace(0.5, 2, len(weights[key])) if number % 2 else torch.tensor(0.25)
            weights[f"{key.removesuffix('.weight')}.{scale}"] = given
            expected[key] = expected[key] * given.reshape(-1, *[1] * (weights[key].ndim - 1))
    if scale == "scale_weight":
        weights["scaled_fp8"] = torch.zeros(2).to(dtype)
    save_file(weights, tmp_path / "m.safetensors")
    unet = load(tmp_path / "m.safetensors").unet
    assert torch.equal(unet.conv_in.weight, expected["model.diffusion_model.input_blocks.0.0.weight"])
    assert torch.equal(unet.time_embedding.linear_1.weight, expected["model.diffusion_model.time_embed.0.weight"])
    assert torch.equal(unet.conv_out.weight, expected["model.diffusion_model.out.2.weight"])


def test_other_quantised_weights_are_refused(tmp_path: Path) -> None:
    weights = tiny_models.checkpoint("sd1")
    weights["model.diffusion_model.out.2.weight"] = weights["model.diffusion_model.out.2.weight"].to(torch.int8)
    weights["model.diffusion_model.out.2.weight_scale"] = torch.tensor(1.0)
    save_file(weights, tmp_path / "m.safetensors")
    with pytest.raises(ModelLoadError, match="quantised in a form"):
        load(tmp_path / "m.safetensors")


def test_what_else_a_checkpoint_may_hold_is_passed_over(checkpoint_folder: Path, tmp_path: Path) -> None:
    """Averages of the training, losses, schedules, and the position ids that some merges spoilt."""
    plain = load(checkpoint_folder / "sd1.safetensors")
    more = {
        "model_ema.diffusion_modelinput_blocks00weight": torch.full((32, 4, 3, 3), 9.0),
        "model_ema.decay": torch.tensor(0.99),
        "model_ema.num_updates": torch.tensor(5),
        "betas": torch.zeros(1000),
        "alphas_cumprod": torch.ones(1000),
        "first_stage_model.loss.logvar": torch.ones(1),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.zeros(1, 77),
        "cond_stage_model.logit_scale": torch.ones(1),
    }
    path = tiny_models.write(tmp_path / "m.safetensors", tiny_models.checkpoint("sd1") | more)
    found = load(path)
    for ours, theirs in (
        (plain.unet, found.unet),
        (plain.vae, found.vae),
        (plain.text_encoders[0], found.text_encoders[0]),
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    positions = found.text_encoders[0].transformer.embeddings.position_ids
    assert torch.equal(positions, torch.arange(77)[None])
    assert torch.equal(found.alphas_cumprod(), plain.alphas_cumprod())


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("cond_stage_model.", "holds no complete text encoder"),
        ("model.diffusion_model.middle_block.0.", "lacks"),
        ("model.diffusion_model.", "holds no UNet"),
    ],
)
def test_a_pruned_checkpoint_is_told_what_it_lacks(tmp_path: Path, prefix: str, message: str) -> None:
    kept = {key: value for key, value in tiny_models.checkpoint("sd1").items() if not key.startswith(prefix)}
    with pytest.raises(ModelLoadError, match=message):
        load(tiny_models.write(tmp_path / "m.safetensors", kept))


@pytest.mark.parametrize("name", ["scheduler_config.json", "config.json"])
def test_a_diffusers_folder_says_how_it_was_trained(checkpoint_folder: Path, tmp_path: Path, name: str) -> None:
    folder = diffusers_folder(load(checkpoint_folder / "sd1.safetensors"), tmp_path / "folder")
    scheduler = folder / "scheduler" / name
    scheduler.parent.mkdir()
    said = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.02}
    scheduler.write_text(json.dumps(said | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}))
    model = load(folder)
    assert (model.prediction_type, model.zero_terminal_snr) == ("v", True)
    assert (model.linear_start, model.linear_end) == (0.001, 0.02)
    scheduler.write_text(json.dumps(said | {"rescale_betas_zero_snr": False}))
    assert (load(folder).prediction_type, load(folder).zero_terminal_snr) == ("eps", False)
    for other in ({"prediction_type": "sample"}, {"beta_schedule": "linear"}, {"sigma_data": 0.5}):
        scheduler.write_text(json.dumps(said | other))
        with pytest.raises(ModelLoadError, match="does not sample"):
            load(folder)


def test_decode_is_in_range_and_one_by_one(checkpoint_folder: Path) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    pictures = decode(model, latents)
    assert pictures.shape == (2, 3, 8, 12)
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pictures[1:], decode(model, latents[1:]))


def test_encode_takes_the_mean_or_the_given_noise(checkpoint_folder: Path) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    mean = encode(model, images)
    assert mean.shape == (1, 4, 8, 8)
    assert torch.equal(mean, encode(model, images, torch.zeros_like(mean)))
    assert not torch.equal(mean, encode(model, images, torch.ones_like(mean)))
    assert torch.allclose(encode(model, images, scale=False) * model.scale_factor, mean)


def test_a_checkpoint_without_vae_loads_and_says_so_when_decoding(tmp_path: Path) -> None:
    weights = {k: v for k, v in tiny_models.checkpoint("sd1").items() if not k.startswith("first_stage_model.")}
    model = load(tiny_models.write(tmp_path / "m.safetensors", weights))
    with pytest.raises(ModelLoadError, match="no VAE of its own"):
        decode(model, torch.zeros(1, 4, 4, 4))


def test_circular_padding_wraps_and_is_undone(checkpoint_folder: Path) -> None:
    model = load(checkpoint_folder / "sd1.safetensors")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    plain = decode(model, latents)
    with circular_padding(model):
        tiled = decode(model, latents)
        shifted = decode(model, latents.roll(4, dims=3))
    assert torch.allclose(shifted, tiled.roll(8, dims=3), atol=1e-5)
    assert not torch.allclose(plain, tiled)
    assert torch.equal(plain, decode(model, latents))
