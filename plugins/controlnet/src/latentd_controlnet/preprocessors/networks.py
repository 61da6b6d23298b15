"""Detectors of controlnet-aux, whose weight files latentd reads itself.

The package's own loaders are not used: they unpickle without restrictions and download missing files.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from latentd.api import (
    InvalidRequest,
    LatentdError,
    ModelLoadError,
    NotConfigured,
    StateDict,
    WorkerContext,
    build_module,
    install_hint,
    load_pickle,
    read_weights,
    weights_from_tensors,
)
from latentd_controlnet.preprocessors.weights import Foreign, cached, find_weights

log = logging.getLogger(__name__)
PACKAGE = "controlnet_aux"
EXTRA = install_hint("controlnet", "annotators")
#: Dictionaries in which files keep their weights, besides those that :func:`read_weights` unwraps.
_NESTED = ("model", "depth_model")


def detector(context: WorkerContext, module: str, name: str, *files: str) -> Foreign:
    """The detector ``name`` (a function of this file) on the context's device, with the weight ``files``, kept loaded.

    Each file may also have the suffix ``.safetensors``.

    :raises NotConfigured: a file or the package is missing; the message says which.
    :raises ModelLoadError: a file is damaged or for another network.
    """
    paths = [find_weights(context, module, file, f"{Path(file).stem}.safetensors") for file in files]
    with quiet(module):
        package(module)
        make: Callable[..., Foreign] = globals()[name]
        return cached(context, name, paths, lambda: make(*paths, context.device))


def package(module: str) -> Foreign:
    """The package controlnet-aux.

    :raises NotConfigured: it is not installed, or cannot be imported.
    """
    try:
        return import_module(PACKAGE)
    except ImportError as error:
        raise NotConfigured(f"Preprocessor {module} needs controlnet-aux ({error})", hint=EXTRA) from error
    except AttributeError as error:
        # The package's mediapipe detector reads attributes that mediapipe has removed.
        raise NotConfigured(
            f"Preprocessor {module} needs controlnet-aux, which the installed mediapipe keeps from loading ({error})",
            hint="pip uninstall mediapipe",
        ) from error


@contextmanager
def quiet(module: str) -> Iterator[None]:
    """Suppress the package's prints and warnings, and turn its exceptions into a 422.

    :raises InvalidRequest: the package fails on this picture, as some of its detectors do on small ones.
    """
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        except (LatentdError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            log.exception("preprocessor %s failed", module)
            reason = " ".join(str(error).split())[:200]
            raise InvalidRequest(
                f"Preprocessor {module} failed on this picture: {reason}", hint="a larger processor_res may help"
            ) from error


def _part(where: str) -> Foreign:
    """The object at ``module:name`` in the package."""
    module, _, name = where.partition(":")
    return getattr(import_module(f"{PACKAGE}.{module}"), name)


def _weights(path: Path) -> StateDict:
    """The tensors in ``path`` under the networks' names."""
    found = read_weights(path)
    if not len(found):
        data = load_pickle(path)
        inner: dict[str, object] = next((data[name] for name in _NESTED if isinstance(data.get(name), dict)), {})
        tensors = {key: value for key, value in inner.items() if isinstance(value, torch.Tensor)}
        found = weights_from_tensors(path.name, tensors)
    return found.renamed({key.removeprefix("module."): key for key in found})


def _built(make: Callable[[], nn.Module], path: Path, device: str) -> Foreign:
    return build_module(make, _weights(path), torch.device(device), torch.float32)


def _whole(make: Callable[[], nn.Module], path: Path, device: str) -> Foreign:
    """As :func:`_built`, for networks that compute tensors in their constructor and so need memory for them."""
    module, weights = make(), _weights(path)
    missing = [key for key in module.state_dict() if key not in weights]
    if missing:
        raise ModelLoadError(f"{path.name} lacks {len(missing)} weights of its network, {missing[0]} among them")
    try:
        module.load_state_dict({key: weights[key].float() for key in module.state_dict()})
    except RuntimeError as error:
        raise ModelLoadError(f"{path.name} is for another network: {' '.join(str(error).split())[:300]}") from error
    return module.eval().requires_grad_(False).to(device)


def hed(path: Path, device: str) -> Foreign:
    """Soft edges by HED."""
    return _part("hed:HEDdetector")(_built(_part("hed:ControlNetHED_Apache2"), path, device))


def pidinet(path: Path, device: str) -> Foreign:
    """Soft edges by PiDiNet."""
    return _part("pidi:PidiNetDetector")(_built(_part("pidi.model:pidinet"), path, device))


def lineart(path: Path, device: str) -> Foreign:
    """Line art with the fine or the coarse weights; the detector has the same network for both."""
    network = _built(partial(_part("lineart:Generator"), 3, 1, 3), path, device)
    return _part("lineart:LineartDetector")(network, network)


def lineart_anime(path: Path, device: str) -> Foreign:
    """Line art of drawings."""
    norm = partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    make = partial(_part("lineart_anime:UnetGenerator"), 3, 1, 8, 64, norm_layer=norm, use_dropout=False)
    return _part("lineart_anime:LineartAnimeDetector")(_built(make, path, device))


def mlsd(path: Path, device: str) -> Foreign:
    """Straight lines."""
    return _part("mlsd:MLSDdetector")(_built(_part("mlsd.models.mbv2_mlsd_large:MobileV2_MLSD_Large"), path, device))


def normal_bae(path: Path, device: str) -> Foreign:
    """Normals."""
    plan = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
    return _part("normalbae:NormalBaeDetector")(_built(partial(_part("normalbae:NNET"), plan), path, device))


def midas(path: Path, device: str) -> Foreign:
    """The network of MiDaS: ``network(x)`` with x [1,3,H,W] in -1 to 1 returns [1,H,W], near parts high."""
    make = partial(_part("midas.midas.dpt_depth:DPTDepthModel"), path=None, backbone="vitb_rn50_384", non_negative=True)
    return _built(make, path, device)


def zoe(path: Path, device: str) -> Foreign:
    """Depth by ZoeDepth."""
    plan = _part("zoe:get_config")("zoedepth", "infer")
    return _part("zoe:ZoeDetector")(_whole(lambda: _part("zoe:ZoeDepth").build_from_config(plan), path, device))


def leres(path: Path, device: str) -> Foreign:
    """Depth by LeReS."""
    make = partial(_part("leres.leres.multi_depth_model_woauxi:RelDepthModel"), backbone="resnext101")
    return _part("leres:LeresDetector")(_built(make, path, device), None)


def leres_boost(path: Path, merge: Path, device: str) -> Foreign:
    """LeReS with the network that merges its depths at several resolutions."""
    plan = SimpleNamespace(
        isTrain=False, gpu_ids=[], checkpoints_dir="", name="", preprocess="", input_nc=2, output_nc=1
    )
    networks = import_module(f"{PACKAGE}.leres.pix2pix.models.networks")
    with torch.device("meta"):
        merger = _part("leres.pix2pix.models.pix2pix4depth_model:Pix2Pix4DepthModel")(plan)
    merger.device = torch.device(device)
    make = partial(networks.define_G, 2, 1, 64, "unet_1024", "none", False, "normal", 0.02, [])
    merger.netG = _built(make, merge, device)
    found = leres(path, device)
    return _part("leres:LeresDetector")(found.model, merger)


def teed(path: Path, device: str) -> Foreign:
    """Soft edges by TEED."""
    return _part("teed:TEEDdetector")(_built(_part("teed:TED"), path, device))


def mobile_sam(path: Path, device: str) -> Foreign:
    """Segment Anything with MobileSAM's encoder; its method ``generate(image)`` returns masks."""
    make = partial(_part("segment_anything:sam_model_registry")["vit_t"], checkpoint=None)
    return _part("segment_anything:SamAutomaticMaskGenerator")(_whole(make, path, device))


def openpose_body(body: Path, device: str) -> Foreign:
    """OpenPose's estimator of bodies."""
    return _part("open_pose:OpenposeDetector")(_estimator("open_pose:Body", body, device))


def openpose_all(body: Path, hand: Path, face: Path, device: str) -> Foreign:
    """OpenPose's estimators of bodies, hands and faces."""
    names = ("open_pose:Body", "open_pose:Hand", "open_pose:Face")
    parts = (_estimator(name, path, device) for name, path in zip(names, (body, hand, face), strict=True))
    return _part("open_pose:OpenposeDetector")(*parts)


def _estimator(name: str, path: Path, device: str) -> Foreign:
    """One of OpenPose's estimators, which are made to read a file and are given tensors instead."""
    file = io.BytesIO()
    torch.save(dict(_weights(path)), file)
    file.seek(0)
    try:
        found = _part(name)(file)
    except (KeyError, RuntimeError) as error:
        raise ModelLoadError(f"{path.name} is for another network: {' '.join(str(error).split())[:300]}") from error
    return found.to(device)
