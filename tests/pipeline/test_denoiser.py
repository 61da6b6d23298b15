"""Guidance: what the model is asked, and how its answers are combined. The model is a formula here, not a network."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentd.conditioning.schedule import BatchConditioning
from latentd.errors import LatentdError
from latentd.generations import UNetHook
from latentd.pipeline.pass_state import PassState
from latentd.pipeline.passes.denoiser import (
    CfgDenoiser,
    Guidance,
    InpaintBlend,
    ModelView,
    SigmaDenoiser,
    TimestepDenoiser,
)
from latentd.sampling.schedule import NoiseSchedule
from latentd.types import GuidedStep, UNetCall

Parts = tuple[tuple[tuple[int, float], ...], ...]


class Model:
    """Answers every row with the mean of its context, and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[UNetCall] = []

    def __call__(self, call: UNetCall, hooks: Sequence[UNetHook]) -> Tensor:
        self.calls.append(call)
        return call.context.mean(dim=(1, 2))[:, None, None, None].expand_as(call.sample)


def conditioning(
    values: Sequence[float], parts: Parts, negative: Sequence[float], lengths: tuple[int, int] = (3, 3)
) -> Any:
    step = BatchConditioning(
        context=torch.stack([torch.full((lengths[0], 2), v) for v in values]),
        vector=None,
        negative_context=torch.stack([torch.full((lengths[1], 2), v) for v in negative]),
        negative_vector=None,
        parts=parts,
    )
    return SimpleNamespace(at=lambda call: step)


def denoiser(
    kind: type[CfgDenoiser], model: Model, cond: Any, guidance: Guidance, *, prediction: str = "eps", **extra: Any
) -> CfgDenoiser:
    view = ModelView(evaluate=model, conditioning=cond, prediction=prediction, concat=extra.pop("concat", None))
    return kind(
        view=view,
        schedule=NoiseSchedule.scaled_linear(),
        guidance=guidance,
        state=PassState(steps=10, pass_name="base"),
        **extra,
    )


def ask(d: CfgDenoiser, batch: int = 1, level: float = 2.0) -> Tensor:
    return d(torch.zeros(batch, 4, 2, 2), torch.full((batch,), level))


def test_one_prompt_is_pushed_away_from_the_negative() -> None:
    model = Model()
    out = ask(denoiser(SigmaDenoiser, model, conditioning([1.0], (((0, 1.0),),), [0.5]), Guidance(cfg_scale=3.0)))
    # x = 0, so x0 = -sigma * eps: uncond -1, cond -2, guided -1 + 3 * (-2 + 1)
    assert torch.allclose(out, torch.tensor(-4.0))
    assert len(model.calls) == 1
    assert model.calls[0].is_cond.tolist() == [True, False]


def test_composed_parts_add_with_their_weights() -> None:
    cond = conditioning([1.0, 2.0], (((0, 1.0), (1, 0.5)),), [0.0])
    out = ask(denoiser(SigmaDenoiser, Model(), cond, Guidance(cfg_scale=2.0)))
    assert torch.allclose(out, torch.tensor(2.0 * (-2.0) + 2.0 * 0.5 * (-4.0)))


def test_pictures_of_a_batch_keep_to_their_own_rows() -> None:
    cond = conditioning([1.0, 3.0, 5.0], (((0, 1.0),), ((1, 1.0), (2, 1.0))), [0.0, 1.0])
    out = ask(denoiser(SigmaDenoiser, Model(), cond, Guidance(cfg_scale=1.0)), batch=2)
    assert torch.allclose(out[0], torch.tensor(-2.0))
    assert torch.allclose(out[1], torch.tensor(-2.0 + (-6.0 + 2.0) + (-10.0 + 2.0)))


def test_different_lengths_are_asked_apart_and_combined_alike() -> None:
    model = Model()
    cond = conditioning([1.0], (((0, 1.0),),), [0.5], lengths=(6, 3))
    out = ask(denoiser(SigmaDenoiser, model, cond, Guidance(cfg_scale=3.0)))
    assert torch.allclose(out, torch.tensor(-4.0))
    assert [c.context.shape[1] for c in model.calls] == [6, 3]


def test_the_negative_is_left_out_on_odd_calls_below_the_threshold() -> None:
    model = Model()
    d = denoiser(
        SigmaDenoiser, model, conditioning([1.0], (((0, 1.0),),), [0.5]), Guidance(cfg_scale=3.0, s_min_uncond=5.0)
    )
    first, second = ask(d), ask(d)
    assert torch.allclose(first, torch.tensor(-4.0))
    assert torch.allclose(second, torch.tensor(-2.0))
    assert [len(c.is_cond) for c in model.calls] == [2, 1]


def test_v_prediction() -> None:
    d = denoiser(
        SigmaDenoiser, Model(), conditioning([1.0], (((0, 1.0),),), [1.0]), Guidance(cfg_scale=1.0), prediction="v"
    )
    x = torch.full((1, 4, 2, 2), 3.0)
    sigma = torch.tensor([2.0])
    assert torch.allclose(d(x, sigma), x / 5 - 2 / 5**0.5)


def test_timestep_samplers_get_the_noise_and_the_model_whole_timesteps() -> None:
    model = Model()
    out = ask(
        denoiser(TimestepDenoiser, model, conditioning([1.0], (((0, 1.0),),), [0.0]), Guidance(cfg_scale=2.0)),
        level=401.0,
    )
    assert torch.allclose(out, torch.tensor(2.0))
    assert model.calls[0].timestep.tolist() == [401.0, 401.0]


@pytest.mark.parametrize("kind", [SigmaDenoiser, TimestepDenoiser])
def test_the_masked_part_is_the_originals(kind: type[CfgDenoiser]) -> None:
    init = torch.full((1, 4, 2, 2), 9.0)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    model = Model()
    d = denoiser(
        kind,
        model,
        conditioning([1.0], (((0, 1.0),),), [0.0]),
        Guidance(cfg_scale=1.0),
        blend=InpaintBlend(init=init, mask=mask, nmask=1 - mask),
    )
    out = ask(d, level=3.0)
    seen = out if kind is SigmaDenoiser else model.calls[0].sample[:1]
    assert torch.equal(seen[0, 0, :, 0], torch.full((2,), 9.0))
    assert not torch.equal(seen[0, 0, :, 1], torch.full((2,), 9.0))


def test_instruct_pix2pix_weighs_picture_and_text_apart() -> None:
    model = Model()
    cond = conditioning([4.0], (((0, 1.0),),), [1.0])
    d = denoiser(
        SigmaDenoiser,
        model,
        cond,
        Guidance(cfg_scale=2.0, image_cfg_scale=1.5),
        concat=torch.ones(1, 4, 2, 2),
    )
    out = ask(d, level=1.0)
    assert torch.allclose(out, torch.tensor(-1.0 + 2.0 * (-4.0 + 1.0) + 1.5 * (-1.0 + 1.0)))
    concat = model.calls[0].concat
    assert concat is not None
    assert [float(row.mean()) for row in concat] == [1.0, 1.0, 0.0]


def test_a_hook_changes_the_guided_prediction_of_both_kinds() -> None:
    class Zero(UNetHook):
        def denoised(self, call: UNetCall, x0: Tensor) -> Tensor:
            return torch.zeros_like(x0)

    for kind in (SigmaDenoiser, TimestepDenoiser):
        d = denoiser(kind, Model(), conditioning([1.0], (((0, 1.0),),), [0.0]), Guidance(cfg_scale=1.0), hooks=[Zero()])
        assert torch.allclose(ask(d, level=100.0), torch.tensor(0.0))


class Notes(UNetHook):
    """Keeps the guided steps, and asks the model again by each prompt."""

    def __init__(self) -> None:
        self.steps: list[GuidedStep] = []
        self.again: dict[bool, Tensor] = {}

    def guide(self, step: GuidedStep, x0: Tensor) -> Tensor:
        self.steps.append(step)
        for positive in (True, False):
            self.again[positive] = step.predict(step.latent + 1, positive=positive, tag="again")
        return x0 + 1


@pytest.mark.parametrize("kind", [SigmaDenoiser, TimestepDenoiser])
def test_a_guiding_hook_sees_clean_predictions_whatever_the_sampler(kind: type[CfgDenoiser]) -> None:
    notes, model = Notes(), Model()
    d = denoiser(kind, model, conditioning([1.0], (((0, 1.0),),), [0.5]), Guidance(cfg_scale=3.0), hooks=[notes])
    plain = denoiser(kind, Model(), conditioning([1.0], (((0, 1.0),),), [0.5]), Guidance(cfg_scale=3.0))
    x, level = torch.full((1, 4, 2, 2), 0.7), torch.full((1,), 300.0 if kind is TimestepDenoiser else 2.0)
    changed, unchanged = d(x, level), plain(x, level)
    (step,) = notes.steps
    # In this scale the clean latent is what is left when the noise, which the model takes for its context, is gone.
    assert torch.allclose(step.cond, step.latent - step.sigma * 1.0, atol=1e-5)
    assert step.uncond is not None
    assert torch.allclose(step.uncond, step.latent - step.sigma * 0.5, atol=1e-5)
    assert torch.allclose(notes.again[True], step.cond + 1, atol=1e-5)
    assert torch.allclose(notes.again[False], step.uncond + 1, atol=1e-5)
    assert [call.tags.get("pass") for call in model.calls] == [None, "again", "again"]
    assert [call.is_cond.tolist() for call in model.calls] == [[True, False], [True], [False]]
    guided = step.uncond + 3.0 * (step.cond - step.uncond)
    x0 = d._to_x0(x, level, changed)
    assert torch.allclose(x0, guided + 1, atol=1e-4)
    assert torch.allclose(plain._to_x0(x, level, unchanged), guided, atol=1e-4)


def test_a_guiding_hook_sees_a_composed_prompt_as_one_prediction() -> None:
    notes = Notes()
    cond = conditioning([1.0, 2.0], (((0, 1.0), (1, 0.5)),), [0.0])
    ask(denoiser(SigmaDenoiser, Model(), cond, Guidance(cfg_scale=2.0), hooks=[notes]))
    assert torch.allclose(notes.steps[0].cond, torch.tensor(-2.0 + 0.5 * -4.0))


def test_nothing_but_nan_is_an_error_with_advice() -> None:
    def broken(call: UNetCall, hooks: Sequence[UNetHook]) -> Tensor:
        return torch.full_like(call.sample, float("nan"))

    d = denoiser(SigmaDenoiser, Model(), conditioning([1.0], (((0, 1.0),),), [0.0]), Guidance(cfg_scale=1.0))
    d.view.evaluate = broken
    with pytest.raises(LatentdError, match="NaNs was produced in Unet") as caught:
        ask(d)
    assert "--no-half" in (caught.value.hint or "")


def test_both_prompts_may_be_asked_apart() -> None:
    model = Model()
    cond = conditioning([1.0], (((0, 1.0),),), [0.5])
    out = ask(denoiser(SigmaDenoiser, model, cond, Guidance(cfg_scale=3.0, together=False)))
    assert torch.allclose(out, torch.tensor(-4.0))
    assert [call.is_cond.tolist() for call in model.calls] == [[True], [False]]


def test_an_answer_of_nothing_but_nan_is_an_error_unless_nobody_checks() -> None:
    cond = conditioning([float("nan")], (((0, 1.0),),), [float("nan")])
    with pytest.raises(LatentdError, match="all NaNs was produced in text encoder"):
        ask(denoiser(SigmaDenoiser, Model(), cond, Guidance(cfg_scale=3.0)))
    assert ask(denoiser(SigmaDenoiser, Model(), cond, Guidance(cfg_scale=3.0), check_nan=False)).isnan().all()


ONE_EACH: Parts = (((0, 1.0),), ((1, 1.0),))


def asked_at_one(parts: Parts = ONE_EACH, hooks: Sequence[UNetHook] = (), **changes: Any) -> tuple[list[bool], Tensor]:
    """Which rows CFG 1 asks the model for, and the answer; nothing sees the negative but what ``changes`` names."""
    model = Model()
    concat = torch.zeros(2, 4, 2, 2) if "image_cfg_scale" in changes else None
    guidance = Guidance(**{"cfg_scale": 1.0, "negative_seen": False, **changes})
    cond = conditioning([1.0, 3.0], parts, [0.5, 0.25])
    out = ask(denoiser(SigmaDenoiser, model, cond, guidance, hooks=hooks, concat=concat), 2)
    return [row for call in model.calls for row in call.is_cond.tolist()], out


def test_at_scale_one_the_negative_is_not_asked_for() -> None:
    rows, out = asked_at_one()
    full_rows, full = asked_at_one(negative_seen=True)
    assert (rows, full_rows) == ([True, True], [True, True, False, False])
    assert torch.allclose(out, full)


@pytest.mark.parametrize(
    "seen",
    [
        {"negative_seen": True},
        {"hooks": [UNetHook()]},
        {"s_min_uncond": 0.1},
        {"image_cfg_scale": 1.0},
        {"image_cfg_scale": 1.5},
        {"cfg_scale": 1.001},
        {"cfg_scale": 0.0},
        {"parts": (((0, 0.5),), ((1, 1.0),))},
    ],
    ids=lambda seen: " ".join(f"{name} {value}" for name, value in seen.items() if name != "hooks") or "hooks",
)
def test_at_scale_one_the_negative_is_asked_for_where_it_is_seen(seen: dict[str, Any]) -> None:
    assert False in asked_at_one(**seen)[0]


def test_at_scale_one_composed_prompts_need_the_negative() -> None:
    model = Model()
    guidance = Guidance(cfg_scale=1.0, negative_seen=False)
    out = ask(denoiser(SigmaDenoiser, model, conditioning([1.0, 3.0], (((0, 1.0), (1, 1.0)),), [0.5]), guidance))
    assert model.calls[0].is_cond.tolist() == [True, True, False]
    # eps: 0.5 + (1 - 0.5) + (3 - 0.5)
    assert torch.allclose(out, torch.tensor(-7.0))
