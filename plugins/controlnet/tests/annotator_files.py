"""Weight files of preprocessors: the true keys and shapes of the real networks, small random numbers in them.

The files are small, too: their tensors are overlapping views of a strip of random numbers, which is saved once.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[[], nn.Module]
STRIP = 1 << 18
#: Networks that give nothing but NaN unless they are initialised as their authors do.
AS_MADE = {"ZoeD_M12_N.pt"}


def weights(make: Make, seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """Random weights for the network of ``make``, which is never given memory."""
    with quiet(), torch.device("meta"):
        shapes = {key: (tuple(value.shape), value.dtype) for key, value in make().state_dict().items()}
    strips: dict[int, Tensor] = {}
    found = {}
    for number, (key, (shape, dtype)) in enumerate(shapes.items()):
        if dtype != torch.float32 or key.endswith("running_var"):
            found[key] = torch.ones(shape, dtype=dtype)
            continue
        fan = math.prod(shape[1:]) if len(shape) > 1 else 0
        if fan not in strips:
            strip = torch.randn(STRIP, generator=torch.Generator().manual_seed(seed * 1000 + len(strips)))
            strips[fan] = strip * (scale * math.sqrt(2 / fan) if fan else 0.05)
        strides = (13, 29, 3, 1)[: len(shape)]
        reach = sum((side - 1) * step for side, step in zip(shape, strides, strict=True)) + 1
        found[key] = strips[fan].as_strided(shape, strides, (17 * number) % (STRIP - reach))
        if len(shape) == 1 and key.endswith("weight"):
            found[key] = found[key] + 1
    return found


@contextlib.contextmanager
def quiet() -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def write(folder: Path, file: str, seed: int = 0, scale: float = 1.0) -> Path:
    """The weight file ``file`` as its authors publish it, nesting and prefixes included."""
    make, wrap = FILES[file]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(wrap(_as_made(make, seed) if file in AS_MADE else weights(make, seed, scale)), folder / file)
    return folder / file


def _as_made(make: Make, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    with quiet():
        return make().state_dict()


def _aux(where: str, *arguments: Any, **named: Any) -> Make:
    def make() -> nn.Module:
        from importlib import import_module

        with quiet():
            module, _, name = where.partition(":")
            found: nn.Module = getattr(import_module(f"controlnet_aux.{module}"), name)(*arguments, **named)
            return found

    return make


def _below(name: str, prefix: str = "") -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda found: {name: {f"{prefix}{key}": value for key, value in found.items()}}


def _first_part_off(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenPose's files name layers without the stage that they belong to."""
    return {key.partition(".")[2]: value for key, value in found.items()}


def _same(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return found


def _zoe() -> nn.Module:
    from controlnet_aux.zoe import ZoeDepth, get_config

    found: nn.Module = ZoeDepth.build_from_config(get_config("zoedepth", "infer"))
    return found


def _lama() -> nn.Module:
    from spandrel.architectures.LaMa import LaMa

    return LaMa(in_nc=4, out_nc=3)


def _mobile_sam() -> nn.Module:
    from controlnet_aux.segment_anything import sam_model_registry

    with torch.device("cpu"):
        found: nn.Module = sam_model_registry["vit_t"](checkpoint=None)
    return found


_norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
_bae = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
_ted = _aux("teed:TED")
_sketch = _aux("lineart:Generator", 3, 1, 3)
FILES: dict[str, tuple[Make, Callable[[dict[str, Tensor]], dict[str, Any]]]] = {
    "ControlNetHED.pth": (_aux("hed:ControlNetHED_Apache2"), _same),
    "table5_pidinet.pth": (_aux("pidi.model:pidinet"), _below("state_dict", "module.")),
    "sk_model.pth": (_sketch, _same),
    "sk_model2.pth": (_sketch, _same),
    "netG.pth": (
        _aux("lineart_anime:UnetGenerator", 3, 1, 8, 64, norm_layer=_norm, use_dropout=False),
        lambda found: {f"module.{key}": value for key, value in found.items()},
    ),
    "mlsd_large_512_fp32.pth": (_aux("mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large"), _same),
    "scannet.pt": (_aux("normalbae:NNET", _bae), _below("model", "module.")),
    "dpt_hybrid-midas-501f0c75.pt": (
        _aux("midas.midas.dpt_depth:DPTDepthModel", path=None, backbone="vitb_rn50_384", non_negative=True),
        _same,
    ),
    "ZoeD_M12_N.pt": (_zoe, _below("model")),
    "res101.pth": (
        _aux("leres.leres.multi_depth_model_woauxi:RelDepthModel", backbone="resnext101"),
        _below("depth_model", "module."),
    ),
    "latest_net_G.pth": (
        _aux("leres.pix2pix.models.networks:define_G", 2, 1, 64, "unet_1024", "none", False, "normal", 0.02, []),
        _same,
    ),
    "7_model.pth": (_ted, _same),
    "MTEED.pth": (_ted, _same),
    "mobile_sam.pt": (_mobile_sam, _same),
    "body_pose_model.pth": (_aux("open_pose.model:bodypose_model"), _first_part_off),
    "hand_pose_model.pth": (_aux("open_pose.model:handpose_model"), _first_part_off),
    "facenet.pth": (_aux("open_pose.face:FaceNet"), _same),
    "ControlNetLama.pth": (
        _lama,
        lambda found: {
            "state_dict": {f"generator.{key.removeprefix('model.')}": value for key, value in found.items()}
        },
    ),
}
