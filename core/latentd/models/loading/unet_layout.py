"""The shape of a UNet, read from the shapes of its weights under LDM's names.

LDM numbers blocks (``input_blocks.4.1``), diffusers nests them (``down_blocks.1.attentions.0``). The layout read here
gives both diffusers' configuration and the map between the two namings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from latentd.errors import ModelLoadError
from latentd.models.files.state_dict import Shapes
from latentd.models.untyped import DiffusersUNet, ModelConfig

RESNET_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER_PARTS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution: its width and, per residual block, how many transformer layers follow (0: no attention)."""

    channels: int
    depths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetLayout:
    """The layout of a UNet. ``down`` is ordered from fine to coarse, ``up`` from coarse to fine.

    ``middle_depth`` is None if the middle has no attention; ``label_width`` is the width of SDXL's vector, or None.
    """

    in_channels: int
    out_channels: int
    down: tuple[Level, ...]
    up: tuple[Level, ...]
    middle_depth: int | None
    context_width: int
    linear_projection: bool
    label_width: int | None

    def diffusers_config(
        self, *, heads: int | None, head_channels: int = 64, upcast_attention: bool = False
    ) -> ModelConfig:
        """Arguments of ``UNet2DConditionModel``.

        :param heads: heads of every attention; None means heads of ``head_channels`` channels.
        """
        widths = tuple(level.channels for level in self.down)
        down_depths = [list(level.depths) for level in self.down]
        # The last entry is also used for the middle block, which matters only if the last level has no attention.
        if not any(down_depths[-1]):
            down_depths[-1] = [self.middle_depth or 1] * len(down_depths[-1])
        attends = [any(level.depths) for level in self.down]
        config: ModelConfig = {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": widths,
            "layers_per_block": tuple(len(level.depths) for level in self.down),
            "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            "up_block_types": tuple("CrossAttnUpBlock2D" if any(u.depths) else "UpBlock2D" for u in self.up),
            "mid_block_type": "UNetMidBlock2DCrossAttn" if self.middle_depth else "UNetMidBlock2D",
            "transformer_layers_per_block": down_depths,
            "reverse_transformer_layers_per_block": [[d or 1 for d in level.depths] for level in self.up],
            "cross_attention_dim": self.context_width,
            "attention_head_dim": tuple(heads or max(1, width // head_channels) for width in widths),
            "use_linear_projection": self.linear_projection,
            "upcast_attention": upcast_attention,
            "sample_size": 64,
        }
        if self.label_width is not None:
            config |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": self.label_width,
            }
        return config

    def module_names(self) -> dict[str, str]:
        """LDM module → diffusers module, for every module that the two name differently (``input_blocks.1.0``...)."""
        names = dict(OUTER_PARTS)
        index = 1
        for i, level in enumerate(self.down):
            for j, depth in enumerate(level.depths):
                names[f"input_blocks.{index}.0"] = f"down_blocks.{i}.resnets.{j}"
                if depth:
                    names[f"input_blocks.{index}.1"] = f"down_blocks.{i}.attentions.{j}"
                index += 1
            if i < len(self.down) - 1:
                names[f"input_blocks.{index}.0.op"] = f"down_blocks.{i}.downsamplers.0.conv"
                index += 1
        names["middle_block.0"] = "mid_block.resnets.0"
        names["middle_block.1"] = "mid_block.attentions.0" if self.middle_depth else "mid_block.resnets.1"
        names["middle_block.2"] = "mid_block.resnets.1"
        index = 0
        for i, level in enumerate(self.up):
            for j, depth in enumerate(level.depths):
                names[f"output_blocks.{index}.0"] = f"up_blocks.{i}.resnets.{j}"
                if depth:
                    names[f"output_blocks.{index}.1"] = f"up_blocks.{i}.attentions.{j}"
                if j == len(level.depths) - 1 and i < len(self.up) - 1:
                    place = 2 if depth else 1
                    names[f"output_blocks.{index}.{place}.conv"] = f"up_blocks.{i}.upsamplers.0.conv"
                index += 1
        return names


def read_unet_layout(shapes: Shapes, name: str) -> UNetLayout:
    """The layout behind ``shapes`` (LDM keys without ``model.diffusion_model.``).

    :raises ModelLoadError: the keys are not those of a UNet that diffusers can build.
    """
    try:
        down = tuple(_down_levels(shapes))
        up = tuple(_up_levels(shapes))
        projection = next(s for k, s in shapes.items() if k.endswith(".1.proj_in.weight"))
        context = next(s for k, s in shapes.items() if k.endswith("attn2.to_k.weight"))
        label = shapes.get("label_emb.0.0.weight")
        layout = UNetLayout(
            in_channels=shapes["input_blocks.0.0.weight"][1],
            out_channels=shapes["out.2.weight"][0],
            down=down,
            up=up,
            middle_depth=_depth(shapes, "middle_block.1") or None,
            context_width=context[1],
            linear_projection=len(projection) == 2,
            label_width=label[1] if label else None,
        )
    except (KeyError, StopIteration, IndexError) as error:
        raise ModelLoadError(f"{name} holds no complete UNet of a known kind ({error} is missing)") from error
    if not down or len(down) != len(up):
        raise ModelLoadError(f"{name} holds a UNet with {len(down)} levels down and {len(up)} up")
    return layout


def _depth(shapes: Shapes, module: str) -> int:
    """The number of transformer layers in ``module``."""
    depth = 0
    while f"{module}.transformer_blocks.{depth}.attn1.to_q.weight" in shapes:
        depth += 1
    return depth


def _down_levels(shapes: Shapes) -> Iterator[Level]:
    channels, depths, index = 0, list[int](), 1
    while True:
        block = f"input_blocks.{index}"
        if (conv := shapes.get(f"{block}.0.in_layers.2.weight")) is not None:
            channels = conv[0]
            depths.append(_depth(shapes, f"{block}.1"))
        else:
            yield Level(channels=channels, depths=tuple(depths))
            depths = []
            if f"{block}.0.op.weight" not in shapes:
                return
        index += 1


def _up_levels(shapes: Shapes) -> Iterator[Level]:
    depths, index = list[int](), 0
    while (conv := shapes.get(f"output_blocks.{index}.0.in_layers.2.weight")) is not None:
        block = f"output_blocks.{index}"
        depths.append(_depth(shapes, f"{block}.1"))
        last = f"output_blocks.{index + 1}.0.in_layers.2.weight" not in shapes
        if last or any(f"{block}.{place}.conv.weight" in shapes for place in (1, 2)):
            yield Level(channels=conv[0], depths=tuple(depths))
            depths = []
        index += 1


def layout_of(unet: DiffusersUNet) -> UNetLayout:
    """The layout of a built ``UNet2DConditionModel``, from which LDM's names follow for folders of diffusers."""
    label = getattr(unet.config, "projection_class_embeddings_input_dim", None)
    middle = getattr(unet.mid_block, "attentions", None)
    return UNetLayout(
        in_channels=unet.config.in_channels,
        out_channels=unet.config.out_channels,
        down=tuple(_level_of(block) for block in unet.down_blocks),
        up=tuple(_level_of(block) for block in unet.up_blocks),
        middle_depth=len(middle[0].transformer_blocks) if middle else None,
        context_width=unet.config.cross_attention_dim,
        linear_projection=bool(unet.config.use_linear_projection),
        label_width=label,
    )


def _level_of(block: DiffusersUNet) -> Level:
    attentions = getattr(block, "attentions", None)
    depths = [len(a.transformer_blocks) for a in attentions] if attentions else [0] * len(block.resnets)
    return Level(channels=block.resnets[0].out_channels, depths=tuple(depths))
