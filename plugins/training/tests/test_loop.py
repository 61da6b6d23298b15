"""The loop's own arithmetic: what the model is asked for, learning rates, weights, batches."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from latentd_training.captions import Prompter, caption_of
from latentd_training.dataset import DataSet, Example, alpha_weight
from latentd_training.learning_rate import parse_schedule
from latentd_training.loop import Trainer
from latentd_training.settings import LoopOptions
from PIL import Image

from latentd.api import InvalidRequest


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_a_model_that_predicts_right_has_no_loss(kind: str) -> None:
    alphas = torch.linspace(0.999, 0.001, 1000)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    timesteps = torch.tensor([100, 700])
    alpha = alphas[timesteps].reshape(-1, 1, 1, 1)
    seen: list[torch.Tensor] = []

    def predict(noisy: torch.Tensor, at: torch.Tensor, texts: Any, *, hooks: Any) -> torch.Tensor:
        seen.append(noisy)
        # Salimans & Ho: v = sqrt(alpha) noise - sqrt(1 - alpha) latent.
        return noise if kind == "eps" else alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    model: Any = SimpleNamespace(
        model=SimpleNamespace(alphas_cumprod=lambda: alphas, prediction_type=kind),
        device=torch.device("cpu"),
        dtype=torch.float32,
        predict=predict,
    )
    examples = [Example("a", "", latents[0], None, None), Example("b", "", latents[1], None, None)]
    options = LoopOptions(steps=1, rate=parse_schedule("1", "rate"))
    learner: Any = SimpleNamespace(step=0)
    trainer = Trainer(learner, model, DataSet(examples), Prompter(lines=["x"], name="x"), options, SimpleNamespace())
    loss = trainer._loss(examples, latents, noise, timesteps, SimpleNamespace(), ())
    assert float(loss) == 0
    assert torch.allclose(seen[0], alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)


def test_a_schedule_of_rates() -> None:
    schedule = parse_schedule("0.005:100, 1e-3:1000, 1e-5", "learn_rate")
    assert [schedule.at(step) for step in (0, 99, 100, 999, 1000, 10**6)] == [5e-3, 5e-3, 1e-3, 1e-3, 1e-5, 1e-5]
    assert parse_schedule("0.1:5", "learn_rate").at(5) is None
    assert parse_schedule("0.1:-1", "learn_rate").at(10**9) == 0.1
    for bad in ("", " , ", "x", "1:x", "nan", "inf", "0", "-1"):
        with pytest.raises(InvalidRequest, match="learn_rate"):
            parse_schedule(bad, "learn_rate")


def test_alpha_weighs_the_loss_with_mean_one() -> None:
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (32, 0, 64, 64))
    weight = alpha_weight(picture, (8, 8))
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight.min()) == 0
    assert torch.equal(alpha_weight(picture.convert("RGB"), (8, 8)), torch.ones(1, 8, 8))
    assert torch.equal(alpha_weight(Image.new("RGBA", (64, 64)), (8, 8)), torch.ones(1, 8, 8))


def test_batches_hold_every_picture_and_one_size_each() -> None:
    shapes = [(4, 8, 8)] * 3 + [(4, 8, 16)] * 2
    data = DataSet([Example(str(n), "", torch.zeros(shape), None, None) for n, shape in enumerate(shapes)])
    batches = data.batches(size=2, repeats=1, random=Random(1))
    assert {number for batch in batches for number in batch} == {0, 1, 2, 3, 4}
    assert all(len(batch) == 2 for batch in batches)
    assert all(len({data.examples[n].size for n in batch}) == 1 for batch in batches)


def test_captions_come_from_names_and_texts(tmp_path: Path) -> None:
    options: Any = {"dataset_filename_word_regex": "", "dataset_filename_join_string": " "}
    assert caption_of(tmp_path / "012-3 a red disc, blue.png", options) == "a red disc, blue"
    words = options | {"dataset_filename_word_regex": "[a-z]+", "dataset_filename_join_string": "_"}
    assert caption_of(tmp_path / "1-one2two.png", words) == "one_two"
    with pytest.raises(InvalidRequest, match="dataset_filename_word_regex"):
        caption_of(tmp_path / f"{'a' * 60}!.png", options | {"dataset_filename_word_regex": "(a|a)+$"})
    with pytest.raises(InvalidRequest, match="dataset_filename_word_regex"):
        caption_of(tmp_path / "a.png", options | {"dataset_filename_word_regex": "("})
    (tmp_path / "1-one2two.txt").write_text("said beside\n")
    assert caption_of(tmp_path / "1-one2two.png", words) == "said beside"


def test_tags_are_dropped_and_shuffled() -> None:
    prompter = Prompter(lines=["[filewords] by [name]"], name="me", shuffle=True, drop_out=0.5)
    found = {prompter.prompt("a,b,c,d", Random(seed)) for seed in range(40)}
    assert len(found) > 10
    assert all(text.endswith(" by me") for text in found)
    assert Prompter(lines=["[filewords]"], name="me").prompt("a,b", Random(0)) == "a,b"
