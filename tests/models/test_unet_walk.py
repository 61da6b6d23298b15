"""Our walk through the UNet: diffusers' answer where the two agree, and the sites where hooks take part."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from latentd.errors import PluginError
from latentd.generations import UNetHook
from latentd.models.modules.unet import UNetRunner
from latentd.types import AttentionSite, BlockSite, Residuals, UNetCall, Window

WIDTH, CONTEXT = 32, 24


@pytest.fixture(scope="module")
def runner() -> UNetRunner:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(WIDTH, WIDTH * 2),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=CONTEXT,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return UNetRunner(unet.eval().requires_grad_(False))


def call(batch: int = 2, height: int = 8, width: int = 8) -> UNetCall:
    g = torch.Generator().manual_seed(7)
    return UNetCall(
        sample=torch.randn(batch, 4, height, width, generator=g),
        sigma=torch.full((batch,), 3.0),
        timestep=torch.full((batch,), 500.25),
        context=torch.randn(batch, 5, CONTEXT, generator=g),
        added=None,
        is_cond=torch.tensor([True] * batch),
        image_index=torch.arange(batch),
        step=0,
        steps=10,
        call_index=0,
        pass_name="base",
    )


def theirs(runner: UNetRunner, c: UNetCall, **extra: Any) -> Tensor:
    out: Tensor = runner.unet(c.sample, c.timestep, encoder_hidden_states=c.context, **extra).sample
    return out


def test_equals_diffusers_forward(runner: UNetRunner) -> None:
    c = call()
    assert torch.allclose(runner.evaluate(c), theirs(runner, c), atol=1e-5)


def test_odd_sizes_are_fitted_at_the_skip_connection(runner: UNetRunner) -> None:
    c = call(height=7, width=9)
    out = runner.evaluate(c)
    assert out.shape == c.sample.shape
    assert not torch.allclose(out, theirs(runner, c), atol=1e-3)


class Adds(UNetHook):
    def __init__(self, residuals: Residuals) -> None:
        self.added = residuals

    def residuals(self, call: UNetCall) -> Residuals:
        return self.added


def make_residuals(runner: UNetRunner, scale: float) -> tuple[list[Tensor], Tensor]:
    g = torch.Generator().manual_seed(3)
    shapes = [(b.site.channels, 8 if i < 3 else 4) for i, b in enumerate(runner.inputs)]
    down = [scale * torch.randn(2, c, s, s, generator=g) for c, s in shapes]
    return down, scale * torch.randn(2, WIDTH * 2, 4, 4, generator=g)


def test_residuals_act_as_diffusers_own_arguments(runner: UNetRunner) -> None:
    c = call()
    down, mid = make_residuals(runner, 1.0)
    expected = theirs(runner, c, down_block_additional_residuals=tuple(down), mid_block_additional_residual=mid)
    found = runner.evaluate(c, [Adds(Residuals(down=down, mid=mid))])
    assert torch.allclose(found, expected, atol=1e-4)


def test_two_hooks_sum(runner: UNetRunner) -> None:
    c = call()
    down, mid = make_residuals(runner, 1.0)
    half_down, half_mid = make_residuals(runner, 0.5)
    half = Adds(Residuals(down=half_down, mid=half_mid))
    whole = runner.evaluate(c, [Adds(Residuals(down=down, mid=mid))])
    assert torch.allclose(runner.evaluate(c, [half, half]), whole, atol=1e-4)


class Sees(UNetHook):
    """Notes the sites it is offered, and passes everything through."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.attentions: list[AttentionSite] = []
        self.closed = False

    def block(self, site: BlockSite) -> Any:
        self.blocks.append(site.name)
        return lambda call, output: output

    def attention(self, site: AttentionSite) -> Any:
        self.attentions.append(site)
        return lambda call, hidden, context, attend: attend(hidden, context)


def test_handlers_that_pass_through_change_nothing(runner: UNetRunner) -> None:
    c, hook = call(), Sees()
    plain = runner.evaluate(c)
    with runner.session([hook]):
        assert torch.equal(runner.evaluate(c, [hook]), plain)
    assert hook.blocks[0] == "input_blocks.0"
    assert "middle_block" in hook.blocks
    assert hook.blocks[-1] == f"output_blocks.{len(runner.outputs) - 1}"
    assert {s.kind for s in hook.attentions} == {"self", "cross"}


def test_handlers_end_with_their_session(runner: UNetRunner) -> None:
    c = call()
    plain = runner.evaluate(c)

    class Doubles(UNetHook):
        def block(self, site: BlockSite) -> Any:
            return (lambda call, output: output * 2) if site.name == "middle_block" else None

    hook = Doubles()
    with runner.session([hook]):
        assert not torch.allclose(runner.evaluate(c, [hook]), plain)
    assert torch.equal(runner.evaluate(c), plain)


class Reference(UNetHook):
    """Two passes: the first records self-attention's tokens, the second reads them as further keys and values."""

    def __init__(self) -> None:
        self.recorded: dict[str, Tensor] = {}

    def before(self, call: UNetCall) -> None:
        call.run(sample=torch.zeros_like(call.sample), tag="record")

    def attention(self, site: AttentionSite) -> Any:
        if site.kind != "self":
            return None

        def handle(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Any) -> Tensor:
            if call.tags.get("pass") == "record":
                self.recorded[site.name] = hidden
                return attend(hidden, None)  # type: ignore[no-any-return]
            return attend(hidden, torch.cat([hidden, self.recorded[site.name]], dim=1))  # type: ignore[no-any-return]

        return handle


def test_a_second_pass_inside_a_call_is_recorded_and_read(runner: UNetRunner) -> None:
    c, hook = call(), Reference()
    plain = runner.evaluate(c)
    with runner.session([hook]):
        changed = runner.evaluate(c, [hook])
    assert set(hook.recorded) == {s.name for s in runner.attention_sites if s.kind == "self"}
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_chained_handlers_nest_in_order(runner: UNetRunner) -> None:
    order: list[str] = []

    def named(name: str) -> UNetHook:
        class Hook(UNetHook):
            def attention(self, site: AttentionSite) -> Any:
                if site.index or site.kind == "self":
                    return None

                def handle(call: UNetCall, hidden: Tensor, context: Tensor | None, attend: Any) -> Tensor:
                    order.append(f"{name} in")
                    out: Tensor = attend(hidden, context)
                    order.append(f"{name} out")
                    return out

                return handle

        return Hook()

    hooks: Sequence[UNetHook] = [named("a"), named("b")]
    with runner.session(hooks):
        runner.evaluate(call(), hooks)
    assert order == ["a in", "b in", "b out", "a out"]


class Enters(UNetHook):
    """Shrinks what goes into one block, and notes what each block takes in."""

    def __init__(self, shrink: str = "") -> None:
        self.shrink = shrink
        self.seen: dict[str, tuple[list[int], list[int] | None]] = {}

    def entry(self, site: BlockSite) -> Any:
        def enter(call: UNetCall, hidden: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
            if site.name == self.shrink:
                hidden = hidden[..., ::2, ::2]
            self.seen[site.name] = (list(hidden.shape[-2:]), None if skip is None else list(skip.shape[-2:]))
            return hidden, skip

        return enter


def test_an_entry_handler_sees_every_block_and_its_skip_connection(runner: UNetRunner) -> None:
    hook, c = Enters(), call()
    with runner.session([hook]):
        out = runner.evaluate(c, [hook])
    assert torch.equal(out, runner.evaluate(c))
    assert list(hook.seen) == [block.site.name for block in runner.blocks]
    assert hook.seen["input_blocks.0"] == ([8, 8], None)
    assert hook.seen["middle_block"] == ([4, 4], None)
    assert hook.seen["output_blocks.5"] == ([8, 8], [8, 8])


def test_what_enters_a_block_may_be_smaller_and_is_fitted_to_the_skip_connection(runner: UNetRunner) -> None:
    hook, c = Enters(shrink="input_blocks.3"), call(height=16, width=16)
    with runner.session([hook]):
        out = runner.evaluate(c, [hook])
    assert out.shape == c.sample.shape
    assert hook.seen["middle_block"] == ([4, 4], None)
    assert hook.seen["output_blocks.5"][1] == [16, 16]
    assert not torch.allclose(out, runner.evaluate(c), atol=1e-3)


def test_an_entry_handler_may_change_the_skip_connection(runner: UNetRunner) -> None:
    class Silences(UNetHook):
        def entry(self, site: BlockSite) -> Any:
            return (lambda call, h, skip: (h, torch.zeros_like(skip))) if site.name == "output_blocks.0" else None

    c, hook = call(), Silences()
    skip = runner.inputs[-1]
    with runner.session([hook]):
        silenced = runner.evaluate(c, [hook])

    class Keeps(UNetHook):
        kept: Tensor

        def block(self, site: BlockSite) -> Any:
            def keep(call: UNetCall, out: Tensor) -> Tensor:
                self.kept = out
                return out

            return keep if site.name == skip.site.name else None

    keeper = Keeps()
    with runner.session([keeper]):
        runner.evaluate(c, [keeper])
    # The same by a residual: the last input block's output taken away again.
    zeros = [torch.zeros(2, b.site.channels, 1, 1).expand(-1, -1, 8, 8) for b in runner.inputs[:-1]]
    taken = runner.evaluate(c, [Adds(Residuals(down=[*zeros, -keeper.kept]))])
    assert torch.allclose(silenced, taken, atol=1e-5)


class Halves(UNetHook):
    """Evaluates the left and the right half of the latent by themselves."""

    def around(self, call: UNetCall, evaluate: Any) -> Tensor:
        width = call.sample.shape[-1] // 2
        windows = [Window(0, left, call.sample.shape[-2], width) for left in (0, width)]
        part = copy.copy(call)
        part.sample = torch.cat([call.sample[..., w.left : w.left + width] for w in windows])
        part.timestep, part.context = call.timestep.repeat(2), call.context.repeat(2, 1, 1)
        return torch.cat(evaluate(part, windows).chunk(2), dim=-1)


def test_around_evaluates_parts_with_the_residuals_of_their_place(runner: UNetRunner) -> None:
    c = call(width=16)
    g = torch.Generator().manual_seed(3)
    down = [torch.randn(2, b.site.channels, *((8, 16) if i < 3 else (4, 8)), generator=g)
            for i, b in enumerate(runner.inputs)]  # fmt: skip
    found = runner.evaluate(c, [Halves(), Adds(Residuals(down=down))])
    for left, half in ((0, found[..., :8]), (1, found[..., 8:])):
        alone = call(width=16)
        alone.sample = c.sample[..., left * 8 : left * 8 + 8]
        cut = [x[..., left * x.shape[-1] // 2 : (left + 1) * x.shape[-1] // 2] for x in down]
        assert torch.allclose(half, runner.evaluate(alone, [Adds(Residuals(down=cut))]), atol=1e-5)


def test_an_entry_handler_that_gives_other_channels_is_told(runner: UNetRunner) -> None:
    class Wrong(UNetHook):
        owner = "acme"

        def entry(self, site: BlockSite) -> Any:
            return lambda call, h, skip: (h[:, :1], skip)

    hook = Wrong()
    with runner.session([hook]), pytest.raises(PluginError, match=r"acme.*entry, its handler for input_blocks.0"):
        runner.evaluate(call(), [hook])
