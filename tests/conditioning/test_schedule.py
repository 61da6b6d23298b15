from __future__ import annotations

import pytest
import torch

from latentd.conditioning.encode import TextConditioner, TextSettings
from latentd.conditioning.schedule import Conditioning, Padding, Timetable, build_conditioning
from latentd.models.loaded import LoadedModel

Models = dict[str, LoadedModel]
LONG = "cat " * 80


def build(model: LoadedModel, prompts: list[str], negatives: list[str], padding: Padding = "none") -> Conditioning:
    timetable = Timetable(steps=10)
    return build_conditioning(TextConditioner(model), prompts, negatives, TextSettings(), timetable, padding=padding)


def test_an_edit_covers_one_call_more_than_written(models: Models) -> None:
    conditioning = build(models["sd1"], ["[cat:dog:4]"], [""])
    calls = [conditioning.at(call) for call in range(10)]
    assert all(call is calls[0] for call in calls[:5])
    assert all(call is calls[5] for call in calls[5:])
    assert not torch.equal(calls[0].context, calls[5].context)


def test_composition_gives_rows_with_weights_for_each_picture(models: Models) -> None:
    batch = build(models["sd1"], ["cat AND dog:0.5", "bird"], ["", ""]).at(0)
    assert batch.parts == (((0, 1.0), (1, 0.5)), ((2, 1.0),))
    assert batch.image_index == [0, 0, 1]
    assert batch.context.shape == (3, 77, 32)
    assert batch.negative_context.shape == (2, 77, 32)


def test_negatives_are_not_split(models: Models) -> None:
    assert build(models["sd1"], ["x"], ["cat AND dog"]).at(0).negative_context.shape[0] == 1


def test_shorter_prompts_of_a_batch_repeat_their_last_vector(models: Models) -> None:
    batch = build(models["sd1"], ["cat", LONG], ["", ""]).at(0)
    assert batch.context.shape == (2, 154, 32)
    assert torch.equal(batch.context[0, 77:], batch.context[0, 76].expand(77, -1))


def test_unpadded_sides_may_differ_in_length(models: Models) -> None:
    batch = build(models["sd1"], [LONG], [""]).at(0)
    assert (batch.context.shape[1], batch.negative_context.shape[1], batch.padded) == (154, 77, None)


@pytest.mark.parametrize(("prompt", "negative"), [(LONG, ""), ("", LONG)])
def test_padding_with_empty_prompts(models: Models, prompt: str, negative: str) -> None:
    batch = build(models["sd1"], [prompt], [negative], "empty").at(0)
    assert batch.context.shape == batch.negative_context.shape == (1, 154, 32)
    short = batch.negative_context if prompt else batch.context
    assert torch.equal(short[:, 77:], short[:, :77])
    assert batch.padded == "Pad conds"


def test_old_padding_fits_the_negative_to_the_positive(models: Models) -> None:
    grown = build(models["sd1"], [LONG], [""], "v0").at(0)
    assert torch.equal(grown.negative_context[0, 77:], grown.negative_context[0, 76].expand(77, -1))
    cut = build(models["sd1"], [""], [LONG], "v0").at(0)
    assert cut.negative_context.shape == (1, 77, 32)
    assert cut.padded == "Pad conds v0"


def test_sdxl_vectors_follow_the_rows(models: Models) -> None:
    batch = build(models["sdxl"], ["cat AND dog"], ["bad"]).at(0)
    assert batch.vector is not None
    assert batch.negative_vector is not None
    assert (batch.vector.shape[0], batch.negative_vector.shape[0]) == (2, 1)


def test_lists_of_different_length_are_refused(models: Models) -> None:
    with pytest.raises(ValueError, match="2 prompts with 1 negative"):
        build(models["sd1"], ["a", "b"], ["c"])
