from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.models.as_folder import diffusers_folder
from torch import Tensor

from latentd.conditioning.embeddings import EmbeddingStore
from latentd.conditioning.encode import TextConditioner, TextSettings, sinusoidal
from latentd.models.devices import DevicePolicy
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.loaded import LoadedModel
from latentd.models.loading.load import load_checkpoint
from latentd.testing import tiny_models

Models = dict[str, LoadedModel]


def context(model: LoadedModel, text: str, **settings: object) -> Tensor:
    return TextConditioner(model).encode([text], TextSettings(**settings))[0][0].context  # type: ignore[arg-type]


def test_sd1_is_transformers_own_last_hidden_state(models: Models) -> None:
    encoder = models["sd1"].text_encoders[0].transformer
    ids = torch.tensor([[49406, 320, 1125, 539, 550, 18376] + [49407] * 71])
    assert torch.allclose(
        context(models["sd1"], "a photo of an astronaut"), encoder(ids).last_hidden_state[0], atol=1e-5
    )


def test_clip_skip_takes_an_earlier_layer_through_the_final_norm(models: Models) -> None:
    encoder = models["sd1"].text_encoders[0].transformer
    ids = torch.tensor([[49406, 2368] + [49407] * 75])
    states = encoder(ids, output_hidden_states=True).hidden_states
    expected = encoder.final_layer_norm(states[-2])[0]
    assert torch.allclose(context(models["sd1"], "cat", clip_skip=2), expected, atol=1e-5)


def test_sd2_ignores_clip_skip_and_pads_with_zero(models: Models) -> None:
    model = models["sd2"]
    encoder = model.text_encoders[0]
    ids = torch.tensor([[49406, 2368, 49407] + [0] * 74])
    expected = encoder.final_norm(encoder.hidden_states(ids).states[-2])[0]
    assert torch.allclose(context(model, "cat"), expected, atol=1e-6)
    assert torch.equal(context(model, "cat"), context(model, "cat", clip_skip=3))


def test_an_sd2_file_without_its_last_layer_gives_the_same(tmp_path: Path) -> None:
    """Conversions from diffusers have 23 of OpenCLIP's 24 layers: the last is not used."""
    weights = tiny_models.checkpoint("sd2") | tiny_models.under(
        "cond_stage_model.model.", tiny_models.openclip(layers=24)
    )
    found = []
    for name, last in (("whole", "resblocks.99."), ("cut", "resblocks.23.")):
        kept = {key: value for key, value in weights.items() if last not in key}
        path = tiny_models.write(tmp_path / f"{name}.safetensors", kept)
        model = load_checkpoint(CheckpointInfo(name=path.name, filename=str(path)), DevicePolicy())
        found.append(context(model, "a red circle"))
    assert torch.equal(*found)


def test_a_diffusers_folder_of_sd2_gives_the_same(models: Models, tmp_path: Path) -> None:
    model = models["sd2"]
    folder = diffusers_folder(model, tmp_path / "folder")
    config = folder / "text_encoder" / "config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"num_hidden_layers": said["num_hidden_layers"] - 1}))
    again = load_checkpoint(CheckpointInfo(name="folder", filename=str(folder)), DevicePolicy())
    assert again.family == "sd2"
    assert torch.equal(context(again, "a red circle"), context(model, "a red circle"))


def test_original_emphasis_keeps_the_mean(models: Models) -> None:
    plain, strong = context(models["sd1"], "cat"), context(models["sd1"], "(cat:1.5)")
    assert not torch.allclose(plain, strong)
    assert strong.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)
    bare = context(models["sd1"], "(cat:1.5)", emphasis="No norm")
    assert torch.allclose(bare[1], plain[1] * 1.5)
    assert torch.allclose(bare[2:], plain[2:])
    assert torch.equal(context(models["sd1"], "(cat:1.5)", emphasis="Ignore"), plain)
    assert not torch.equal(context(models["sd1"], "(cat:1.5)", emphasis="None"), plain)


def test_segments_of_one_prompt_get_equally_many_chunks(models: Models) -> None:
    encoded, _ = TextConditioner(models["sd1"]).encode(["cat", "cat " * 80], TextSettings())
    assert [e.context.shape[0] for e in encoded] == [154, 154]


def test_sdxl_joins_both_encoders_and_has_a_vector_of_sizes(models: Models) -> None:
    settings = TextSettings(width=64, height=128, sdxl_crop_top=1, sdxl_crop_left=2)
    (one,), _ = TextConditioner(models["sdxl"]).encode(["cat"], settings)
    assert one.context.shape == (77, 64)
    assert one.vector is not None
    assert one.vector.shape == (32 + 6 * 256,)
    expected = sinusoidal(torch.tensor([128.0, 64, 1, 2, 128, 64])).flatten()
    assert torch.allclose(one.vector[32:], expected)


def test_the_empty_negative_of_sdxl_is_zero_and_a_space_is_not(models: Models) -> None:
    conditioner = TextConditioner(models["sdxl"])
    (empty,), _ = conditioner.encode([""], TextSettings(), negative=True)
    (space,), _ = conditioner.encode([" "], TextSettings(), negative=True)
    (positive,), _ = conditioner.encode([""], TextSettings())
    assert empty.vector is not None
    assert not empty.context.any()
    assert not empty.vector[:32].any()
    assert space.context.any()
    assert positive.context.any()


def test_the_refiner_has_a_score_which_differs_for_negatives(models: Models) -> None:
    conditioner = TextConditioner(models["sdxl-refiner"])
    (good,), _ = conditioner.encode(["cat"], TextSettings())
    (bad,), _ = conditioner.encode(["cat"], TextSettings(), negative=True)
    assert good.vector is not None
    assert bad.vector is not None
    assert torch.allclose(good.vector[-256:], sinusoidal(torch.tensor([6.0]))[0])
    assert torch.allclose(bad.vector[-256:], sinusoidal(torch.tensor([2.5]))[0])
    scores = TextSettings(sdxl_refiner_low_aesthetic_score=1.0, sdxl_refiner_high_aesthetic_score=9.0)
    for negative, score in ((False, 9.0), (True, 1.0)):
        (other,), _ = conditioner.encode(["cat"], scores, negative=negative)
        assert other.vector is not None
        assert torch.allclose(other.vector[-256:], sinusoidal(torch.tensor([score]))[0])


def test_sinusoid_of_zero_is_ones_then_zeros() -> None:
    assert torch.equal(sinusoidal(torch.zeros(1)), torch.cat([torch.ones(128), torch.zeros(128)])[None])


def test_embeddings_take_the_place_of_token_embeddings(models: Models, tmp_path: Path) -> None:
    model = models["sd1"]
    table = model.text_encoders[0].transformer.embeddings.token_embedding.weight
    save_file({"emb_params": table[[2368, 1929]].clone()}, tmp_path / "my-thing.safetensors")
    conditioner = TextConditioner(model, EmbeddingStore([tmp_path]))
    (one,), used = conditioner.encode(["a my-thing"], TextSettings())
    assert [e.name for e in used] == ["my-thing"]
    assert torch.allclose(one.context, context(model, "a cat dog"), atol=1e-6)


def test_the_same_question_is_answered_from_memory_until_something_changes(models: Models) -> None:
    conditioner = TextConditioner(models["sd1"])
    first = conditioner.encode(["cat"], TextSettings())[0][0]
    assert conditioner.encode(["cat"], TextSettings())[0][0] is first
    assert conditioner.encode(["cat"], TextSettings(networks=("lora", 1.0)))[0][0] is not first


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_clip_skip_may_act_on_the_first_encoder_of_sdxl(models: Models, skip: int) -> None:
    conditioner = TextConditioner(models["sdxl"])
    (without,), _ = conditioner.encode(["cat"], TextSettings(clip_skip=skip))
    (given,), _ = conditioner.encode(["cat"], TextSettings(clip_skip=skip, sdxl_clip_l_skip=True))
    width = models["sdxl"].text_encoders[0].architecture.width
    assert torch.equal(given.context[:, width:], without.context[:, width:])
    # Fixed to the layer before the last, which is what 2 means.
    assert torch.equal(given.context[:, :width], without.context[:, :width]) is (skip == 2)


def test_without_emphasis_nothing_is_divided_by_the_mean(models: Models) -> None:
    """Encodings whose mean is exactly 0 stay numbers."""
    model = models["sd1"]
    norm = model.text_encoders[0].transformer.final_layer_norm
    weight, bias = norm.weight.data.clone(), norm.bias.data.clone()
    try:
        norm.weight.data.zero_()
        norm.bias.data.zero_()
        assert torch.equal(context(model, "cat"), torch.zeros_like(context(model, "cat")))
    finally:
        norm.weight.data.copy_(weight)
        norm.bias.data.copy_(bias)


def test_texts_that_recur_give_what_they_give_by_themselves(models: Models) -> None:
    """Prompt editing asks for few texts many times; more of them than go through the encoder at once."""
    conditioner = TextConditioner(models["sdxl"])
    texts = [f"cat {number % 40}" for number in range(100)]
    encoded, _ = conditioner.encode(texts, TextSettings())
    for number in (0, 39, 40, 99):
        (alone,), _ = TextConditioner(models["sdxl"]).encode([texts[number]], TextSettings())
        assert torch.allclose(encoded[number].context, alone.context, atol=1e-5)
        assert alone.vector is not None
        assert encoded[number].vector is not None
        assert torch.allclose(encoded[number].vector, alone.vector, atol=1e-5)


def test_encoding_can_be_stopped(models: Models) -> None:
    class Stopped(Exception):
        pass

    def check() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        TextConditioner(models["sd1"]).encode(["cat"], TextSettings(), check=check)
