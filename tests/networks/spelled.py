"""The same changes of a model under the names of every trainer, spelled out from the trainers' formats.

None of latentd's maps is used here, so that these are tested by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

RANK = 4
ALPHA = 2.0


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module: its part (``unet``, ``te1``, ``te2``), its paths in diffusers and LDM, and its weight's shape."""

    part: str
    path: str
    ldm: str
    shape: tuple[int, ...]

    @property
    def is_attention(self) -> bool:
        return ".attn" in self.path or ".self_attn" in self.path


@dataclass(frozen=True, kw_only=True)
class Change:
    """Low-rank factors of a module, and DoRA's norms, one per output, of some."""

    module: Module
    down: Tensor
    up: Tensor
    norms: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How a trainer names modules; None for those it does not train.

    ``down``, ``up``, ``alpha`` and ``dora`` follow the module's name; without ``alpha`` it stands in the header.
    """

    name: Callable[[Module], str | None]
    down: str = ".lora_down.weight"
    up: str = ".lora_up.weight"
    alpha: str | None = ".alpha"
    dora: str | None = ".dora_scale"
    metadata: Mapping[str, str] = field(default_factory=dict)

    def file(self, changes: list[Change]) -> dict[str, Tensor]:
        """A file's tensors."""
        tensors: dict[str, Tensor] = {}
        for change in changes:
            if (name := self.name(change.module)) is None:
                continue
            tensors |= {name + self.down: change.down, name + self.up: change.up}
            if self.alpha:
                tensors[name + self.alpha] = torch.tensor(ALPHA)
            if self.dora and change.norms is not None:
                # kohya's and OneTrainer's norms have the shape [out, 1], PEFT's of a matrix [out]
                is_peft = "magnitude" in self.dora
                tensors[name + self.dora] = change.norms if is_peft else change.norms[:, None]
        return tensors

    def takes(self, change: Change) -> Change | None:
        """What of a change this trainer can say."""
        if self.name(change.module) is None:
            return None
        norms = change.norms if self.dora else None
        return Change(module=change.module, down=change.down, up=change.up, norms=norms)


def flat(path: str) -> str:
    return path.replace(".", "_")


Name = Callable[[Module], str | None]


def by_part(unet: Name, te1: str | None, te2: str | None, *, flatten: bool = False) -> Name:
    """Names of UNet modules by a function, of text encoders' by what stands before ``encoder.layers...``."""

    def name(module: Module) -> str | None:
        if module.part == "unet":
            return unet(module)
        prefix = te1 if module.part == "te1" else te2
        if prefix is None:
            return None
        return prefix + (flat(module.path) if flatten else module.path)

    return name


def processor(module: Module) -> str | None:
    """diffusers' attention processors of 2023 held the LoRA: ``attn1.to_out.0`` is ``attn1.processor.to_out_lora``."""
    if not module.is_attention:
        return None
    head, _, part = module.path.removesuffix(".0").rpartition(".")
    return f"{head}.processor.{part}_lora"


def kohya(te1: str, te2: str = "lora_te2", *, ldm: bool = False) -> Name:
    texts = f"{te1}_text_model_", f"{te2}_text_model_"
    return by_part(lambda m: "lora_unet_" + flat(m.ldm if ldm else m.path), *texts, flatten=True)


OPENCLIP = {"encoder.layers": "transformer.resblocks", "self_attn": "attn", "fc1": "c_fc", "fc2": "c_proj"}


def openclip(path: str) -> str:
    for ours, theirs in OPENCLIP.items():
        path = path.replace(ours, theirs)
    return path


PEFT = {"down": ".lora_A.weight", "up": ".lora_B.weight", "dora": ".lora_magnitude_vector"}
ADAPTER = {key: value.removesuffix(".weight") + ".default.weight" for key, value in PEFT.items()}


def packed(config: Mapping[str, object]) -> dict[str, str]:
    """diffusers' header: every part's settings in one JSON text."""
    parts = ("unet", "text_encoder", "text_encoder_2")
    return {"lora_adapter_metadata": json.dumps({f"{p}.{key}": v for p in parts for key, v in config.items()})}


HEADER = packed({"r": RANK, "lora_alpha": ALPHA, "rank_pattern": {}, "alpha_pattern": {}})
PLAIN_HEADER = {"lora_alpha": str(ALPHA), "r": str(RANK), "use_rslora": "false"}
RANK_STABILISED = {"lora_alpha": str(ALPHA / RANK**0.5), "use_rslora": "True"}
ENDS = "attn1.to_q attn2.to_k attn1.to_out.0 ff.net.2 ^conv_in time_emb_proj conv1 mid_block.attentions.0.proj_in"
TEXT_ENDS = "q_proj k_proj v_proj out_proj mlp.fc1"
#: alpha of every module by a pattern for the end of its path, that of all others being wrong
PATTERNS = packed({"lora_alpha": 64, "alpha_pattern": dict.fromkeys(f"{ENDS} {TEXT_ENDS}".split(), ALPHA)})


def spellings(family: str) -> dict[str, Spelling]:
    """The spellings for a model of ``family`` (``sd1``, ``sd2``, ``sdxl``); ``kohya`` is the one to compare with."""
    return common(family) | own(family)


def common(family: str) -> dict[str, Spelling]:
    """The spellings that there are of every family."""
    te1 = "lora_te1" if family == "sdxl" else "lora_te"
    diffusers = by_part(lambda m: f"unet.{m.path}", "text_encoder.text_model.", "text_encoder_2.text_model.")
    short = by_part(lambda m: f"unet.{m.path}", "text_encoder.", "text_encoder_2.")
    clip = "clip_h" if family == "sd2" else "clip_l"
    return {
        "kohya": Spelling(name=kohya(te1)),
        "kohya, LDM's blocks": Spelling(name=kohya(te1, ldm=True)),
        "kohya with dots": Spelling(
            name=by_part(lambda m: f"lora_unet.{m.path}", f"{te1}.text_model.", "lora_te2.text_model.")
        ),
        "OneTrainer": Spelling(
            name=by_part(lambda m: f"unet.{m.ldm}", f"{clip}.text_model.", "clip_g.text_model.")
        ),
        "diffusers 0.14": Spelling(
            name=by_part(processor, None, None), down=".down.weight", up=".up.weight", alpha=".alpha", dora=None
        ),
        "diffusers 0.18": Spelling(
            name=by_part(lambda m: (p := processor(m)) and f"unet.{p}", None, None),
            down=".down.weight", up=".up.weight", alpha=".alpha", dora=None,
        ),
        "diffusers 0.20": Spelling(
            name=diffusers, down=".lora_linear_layer.down.weight", up=".lora_linear_layer.up.weight",
            alpha=".alpha", dora=".lora_magnitude_vector.weight",
        ),
        "diffusers 0.22": Spelling(name=diffusers, down=".lora.down.weight", up=".lora.up.weight", alpha=".lora.alpha"),
        "PEFT in diffusers, alpha as tensors": Spelling(name=diffusers, **PEFT),
        "PEFT in diffusers, alpha in the header": Spelling(name=diffusers, **PEFT, alpha=None, metadata=HEADER),
        "PEFT in diffusers, an adapter's name": Spelling(name=diffusers, **ADAPTER, alpha=None, metadata=HEADER),
        "PEFT in diffusers, alphas by pattern": Spelling(name=diffusers, **PEFT, alpha=None, metadata=PATTERNS),
        "PEFT, a plain header": Spelling(name=diffusers, **PEFT, alpha=None, metadata=PLAIN_HEADER),
        "PEFT, rank-stabilised": Spelling(name=diffusers, **PEFT, alpha=None, metadata=RANK_STABILISED),
        "PEFT": Spelling(
            name=by_part(lambda m: f"base_model.model.{m.path}", None, None), **PEFT, alpha=None, metadata=PLAIN_HEADER
        ),
        "PEFT behind the part": Spelling(
            name=by_part(lambda m: f"unet.base_model.model.{m.path}", "text_encoder.base_model.model.text_model.",
            "text_encoder_2.base_model.model.text_model."), **PEFT, alpha=None, metadata=HEADER
        ),
        "transformers 5": Spelling(name=short, **PEFT, alpha=None, metadata=HEADER),
        "ComfyUI": Spelling(
            name=by_part(lambda m: f"diffusion_model.{m.ldm}", f"text_encoders.{clip}.transformer.text_model.",
            "text_encoders.clip_g.transformer.text_model."),
        ),
        "ComfyUI's text encoders": Spelling(
            name=by_part(lambda m: f"diffusion_model.{m.ldm}", f"{clip}.transformer.text_model.",
            "clip_g.transformer.text_model.")
        ),
        "ai-toolkit": Spelling(name=by_part(lambda m: f"diffusion_model.{m.path}", None, None), **PEFT),
        "bare blocks": Spelling(name=by_part(lambda m: m.ldm, None, None)),
        "bare blocks of diffusers": Spelling(name=by_part(lambda m: m.path, None, None), **PEFT),
        "SimpleTuner's LyCORIS": Spelling(name=by_part(lambda m: "lycoris_" + flat(m.path), None, None)),
        "LyCORIS with parts": Spelling(
            name=by_part(lambda m: "lycoris_unet_" + flat(m.path), "lycoris_text_encoder_text_model_",
            "lycoris_text_encoder_2_text_model_", flatten=True)
        ),
        "a compiled module": Spelling(name=by_part(lambda m: f"unet._orig_mod.{m.path}", None, None)),
    }  # fmt: skip


def own(family: str) -> dict[str, Spelling]:
    """AUTOMATIC1111's names of the family, and those of its checkpoints."""
    found: dict[str, Spelling] = {}
    if family == "sd1":
        found["AUTOMATIC1111's te1 on SD 1"] = Spelling(name=kohya("lora_te1"))
        found["AUTOMATIC1111's own"] = Spelling(
            name=by_part(lambda m: "diffusion_model_" + flat(m.ldm), "transformer_text_model_", None, flatten=True)
        )
    if family == "sd2":
        found["AUTOMATIC1111's own"] = Spelling(
            name=lambda m: ("diffusion_model_" + flat(m.ldm)) if m.part == "unet" else "model_" + flat(openclip(m.path))
        )
    if family == "sdxl":
        heads = {"te1": "0_transformer_text_model_", "te2": "1_model_"}
        found["AUTOMATIC1111's own"] = Spelling(
            name=lambda m: (
                "diffusion_model_" + flat(m.ldm)
                if m.part == "unet"
                else heads[m.part] + flat(openclip(m.path) if m.part == "te2" else m.path)
            )
        )
    inner = {"sd1": "cond_stage_model.transformer", "sdxl": "conditioner.embedders.0.transformer"}
    if family in inner:
        found["a checkpoint's"] = Spelling(
            name=lambda m: (
                f"model.diffusion_model.{m.ldm}"
                if m.part == "unet"
                else f"{inner[family]}.text_model.{m.path}"
                if m.part == "te1"
                else "conditioner.embedders.1.model." + openclip(m.path)
            )
        )
    return found


def changes(modules: list[Module], weights: Mapping[str, Tensor], size: float) -> list[Change]:
    """Random changes of ``modules``; every other matrix's comes with norms.

    :param weights: the checkpoint's, by LDM's path of the UNet's modules.
    """
    random = torch.Generator().manual_seed(11)
    found = []
    for number, module in enumerate(modules):
        out, into, *kernel = module.shape
        down = torch.randn(RANK, into, *kernel, generator=random) * size
        up = torch.randn(out, RANK, *[1] * len(kernel), generator=random) * size
        norms = None
        if module.part == "unet" and len(module.shape) == 2 and number % 2 == 0:
            norms = weights[module.ldm].norm(dim=1) * 1.5
        found.append(Change(module=module, down=down, up=up, norms=norms))
    return found
