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
from latentd_training.drop_out import DropOut
from latentd_training.learning_rate import parse_schedule
from latentd_training.loop import Trainer
from latentd_training.settings import LoopOptions
from PIL import Image

from latentd.api import EncodedTexts, InvalidRequest, TooLarge


def _trainer(predict: Any, examples: list[Example], kind: str = "eps", **options: Any) -> Trainer:
    """A trainer of nothing, on a model that predicts as it is told."""
    alphas = torch.linspace(0.999, 0.001, 1000)
    model: Any = SimpleNamespace(
        model=SimpleNamespace(alphas_cumprod=lambda: alphas, prediction_type=kind),
        device=torch.device("cpu"),
        dtype=torch.float32,
        predict=predict,
        encode_texts=lambda texts, size: EncodedTexts(torch.zeros(len(texts), 77, 8), None),
    )
    learner: Any = SimpleNamespace(step=0, trains_text=False, tensors=dict, seed_drop_out=lambda seed: None)
    loop = LoopOptions(steps=1, rate=parse_schedule("1", "rate"), **options)
    scale = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([scale], lr=0.1)
    return Trainer(learner, model, DataSet(examples), Prompter(lines=["x"], name="x"), loop, optimizer)


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

    examples = [Example("a", "", latents[0], None, None), Example("b", "", latents[1], None, None)]
    loss = _trainer(predict, examples, kind)._loss(examples, latents, noise, timesteps, SimpleNamespace(), ())
    assert float(loss) == 0
    assert torch.allclose(seen[0], alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)


def test_a_stop_between_the_batches_of_a_step_leaves_nothing_of_it() -> None:
    calls: list[int] = []
    trainer: Trainer

    def predict(noisy: torch.Tensor, at: torch.Tensor, texts: Any, *, hooks: Any) -> torch.Tensor:
        calls.append(len(calls))
        (scale,) = trainer.optimizer.param_groups[0]["params"]
        return noisy * scale

    trainer = _trainer(predict, [Example("a", "", torch.zeros(4, 8, 8), None, None)], gradient_step=20)
    (scale,) = trainer.optimizer.param_groups[0]["params"]
    assert trainer.step(0.1, (), lambda: len(calls) == 3) is None
    assert len(calls) == 3
    assert (scale.item(), scale.grad) == (1.0, None)
    calls.clear()
    assert trainer.step(0.1, ()) is not None
    assert len(calls) == 20
    assert scale.item() > 1


def test_a_schedule_of_rates() -> None:
    schedule = parse_schedule("0.005:100, 1e-3:1000, 1e-5", "learn_rate")
    assert [schedule.at(step) for step in (0, 99, 100, 999, 1000, 10**6)] == [5e-3, 5e-3, 1e-3, 1e-3, 1e-5, 1e-5]
    assert parse_schedule("0.1:5", "learn_rate").at(5) is None
    assert parse_schedule("0.1:-1", "learn_rate").at(10**9) == 0.1
    assert parse_schedule("0.1:-1", "learn_rate").end == float("inf")
    ended = parse_schedule("0.1:5, 0.2:7", "clip_grad_value")
    assert [ended.lasting(step) for step in (0, 5, 7, 1000)] == [0.1, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " , ",
            "x",
            "1:x",
            "1:",
            "nan",
            "inf",
            "0",
            "-1",
            "1e999999",
            "1e31",
            "0.1:0",
            "0.1:-2",
            f"0.1:{'9' * 400}",
        ),
        *("0.1:5, 0.1:4", "0.1:5, 0.1:5", "0.1, 0.2:100", "0.1:-1, 0.2", "0.1," * 3000),
    ],
)
def test_a_text_that_is_no_schedule_or_has_parts_that_never_count_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^learn_rate: "):
        parse_schedule(text, "learn_rate")


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
    def options(regex: str, join: str = " ") -> Any:
        return SimpleNamespace(
            options={"dataset_filename_word_regex": regex, "dataset_filename_join_string": join},
            settings=SimpleNamespace(training_dir=[str(tmp_path)]),
            paths=SimpleNamespace(resolve=Path),
        )

    assert caption_of(tmp_path / "012-3 a red disc, blue.png", options("")) == "a red disc, blue"
    words = options("[a-z]+", "_")
    assert caption_of(tmp_path / "1-one2two.png", words) == "one_two"
    with pytest.raises(InvalidRequest, match="dataset_filename_word_regex"):
        caption_of(tmp_path / f"{'a' * 60}!.png", options("(a|a)+$"))
    with pytest.raises(InvalidRequest, match="dataset_filename_word_regex"):
        caption_of(tmp_path / "a.png", options("("))
    (tmp_path / "1-one2two.txt").write_text("said beside\n")
    assert caption_of(tmp_path / "1-one2two.png", words) == "said beside"


def test_tags_are_dropped_and_shuffled() -> None:
    prompter = Prompter(lines=["[filewords] by [name]"], name="me", shuffle=True, drop_out=0.5)
    found = {prompter.prompt("a,b,c,d", Random(seed)) for seed in range(40)}
    assert len(found) > 10
    assert all(text.endswith(" by me") for text in found)
    assert Prompter(lines=["[filewords]"], name="me").prompt("a,b", Random(0)) == "a,b"


def test_captions_that_would_make_too_long_a_prompt_are_refused() -> None:
    services: Any = SimpleNamespace(settings=SimpleNamespace(max_prompt_length=40))
    prompter = Prompter(lines=["[name]", "[filewords] and [filewords]"], name="x")
    prompter.check("a" * 17, services)
    assert len(prompter.prompt("a" * 17, Random(3))) in (1, 39)
    with pytest.raises(TooLarge, match="41 characters"):
        prompter.check("a" * 18, services)


def test_what_is_dropped_depends_on_the_seed_alone() -> None:
    chance = torch.Generator()
    drop = DropOut(0.25, chance)
    ones = torch.ones(10_000)
    found = []
    for seed in (1, 2, 1):
        chance.manual_seed(seed)
        torch.rand(seed)
        found.append(drop(ones))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert sorted(set(found[0].tolist())) == pytest.approx([0, 4 / 3])
    assert float(found[0].mean()) == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(ones), ones)
