"""Loading a checkpoint file or folder as a :class:`LoadedModel`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from latentd.models.architecture import Architecture, PredictionType, WeightStorage
from latentd.models.devices import DevicePolicy
from latentd.models.files.checkpoints import CheckpointInfo
from latentd.models.files.scaled import without_scales
from latentd.models.files.state_dict import StateDict, open_state_dict
from latentd.models.layout import lay_out
from latentd.models.loaded import LoadedModel
from latentd.models.loading.build import ldm_parts, standalone_vae
from latentd.models.loading.diffusers_folder import folder_parts
from latentd.models.loading.model_yaml import read_model_yaml
from latentd.models.loading.recognise import recognise
from latentd.models.loading.unet_layout import layout_of
from latentd.models.modules.fp8 import keep_in_fp8
from latentd.models.modules.unet import UNetRunner
from latentd.models.untyped import DiffusersUNet, DiffusersVae


def load_checkpoint(
    info: CheckpointInfo,
    policy: DevicePolicy,
    storage: WeightStorage | None = None,
    *,
    read: Callable[[Path], StateDict] = open_state_dict,
) -> LoadedModel:
    """The checkpoint ``info`` in memory, in eval mode, with its own VAE.

    :param storage: the form in which the weights are kept; None for that of ``policy``.
    :param read: opens a weight file.
    :raises ModelLoadError: the file is damaged, of an unsupported kind, or lacks weights.
    """
    path = Path(info.filename)
    if path.is_dir():
        architecture, policy, unet, vae, encoders = folder_parts(path, policy)
    else:
        weights = without_scales(read(path))
        config = read_model_yaml(Path(info.config)) if info.config else None
        architecture = recognise(weights.shapes, name=path.name, config=config, metadata=weights.metadata)
        policy = policy.for_family(architecture.family)
        unet, vae, encoders = ldm_parts(weights, architecture, policy)
    storage = storage or WeightStorage()
    fp8 = storage.is_fp8(architecture.family) and policy.device != "mps"
    if fp8:
        keep_in_fp8([unet, *encoders], keep_full=storage.keep_fp16)
    lay_out(unet, policy, "unet")
    if vae is not None:
        lay_out(vae, policy, "vae")
    runner = UNetRunner(unet)
    return LoadedModel(
        info=info,
        family=architecture.family,
        variant=architecture.variant,
        unet=unet,
        vae=vae,
        own_vae=vae,
        text_encoders=encoders,
        prediction_type=architecture.prediction_type or _probe_prediction(unet, architecture, policy),
        scale_factor=architecture.scale_factor,
        linear_start=architecture.linear_start,
        linear_end=architecture.linear_end,
        steps=architecture.steps,
        zero_terminal_snr=architecture.zero_terminal_snr,
        policy=policy,
        fp8=fp8,
        unet_runner=runner,
        module_names=layout_of(unet).module_names(),
    )


def load_vae(path: Path, policy: DevicePolicy, *, read: Callable[[Path], StateDict] = open_state_dict) -> DiffusersVae:
    """The ``AutoencoderKL`` in a separate VAE file, opened by ``read``.

    :raises ModelLoadError: the file is damaged or has no VAE.
    """
    vae = standalone_vae(read(path), policy)
    lay_out(vae, policy, "vae")
    return vae


@torch.no_grad()
def _probe_prediction(unet: DiffusersUNet, architecture: Architecture, policy: DevicePolicy) -> PredictionType:
    """'v' or 'eps', found out by one run of the UNet on constant inputs at the noisiest timestep.

    There, a model that predicts noise returns about its input, a model that predicts v something much lower (rules:
    a1111-schedule).
    """
    device, dtype = policy.device_of("unet"), policy.dtype_of("unet")
    unet.to(device)
    sample = torch.full((1, architecture.unet["in_channels"], 8, 8), 0.5, device=device, dtype=dtype)
    context = torch.full((1, 2, architecture.unet["cross_attention_dim"]), 0.5, device=device, dtype=dtype)
    out = unet(sample, torch.tensor([architecture.steps - 1], device=device), encoder_hidden_states=context).sample
    unet.to(policy.home_of("unet"))
    return "v" if (out.float() - sample[:, : out.shape[1]].float()).mean().item() < -1 else "eps"
