"""Loading a unit's model through the server's cache, and creating its hooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from latentd.api import Generation, Model, NotConfigured, read_weights
from latentd_controlnet.kinds.controlnet import ControlNet, ControlNetHook
from latentd_controlnet.kinds.controlnet_weights import load_controlnet
from latentd_controlnet.kinds.hook import UnitHook
from latentd_controlnet.kinds.ip_adapter import IPAdapterHook
from latentd_controlnet.kinds.ip_adapter_weights import IPAdapter, load_ip_adapter
from latentd_controlnet.kinds.latent_fixes import fixes_of
from latentd_controlnet.kinds.lllite import LLLiteHook, LLLiteSet, load_lllite
from latentd_controlnet.kinds.recognise import Kind, recognise
from latentd_controlnet.kinds.revision import RevisionHook
from latentd_controlnet.kinds.style import StyleAdapter, StyleHook, load_style
from latentd_controlnet.kinds.t2i_adapter import AdapterHook, FullAdapter, LightAdapter, load_adapter
from latentd_controlnet.model_files import stamp
from latentd_controlnet.prepared import PreparedUnit

ControlModel: TypeAlias = ControlNet | FullAdapter | LightAdapter | StyleAdapter | IPAdapter | LLLiteSet

CACHE = "controlnet"
_CONTROLNETS = (Kind.CONTROLNET, Kind.CONTROL_LORA, Kind.INSTANT_ID)
_KINDS_WITH_REGION = (*_CONTROLNETS, Kind.T2I_ADAPTER, Kind.T2I_LIGHT, Kind.IP_ADAPTER)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class _Fitted:
    """A control model, and the checkpoint's file, device and dtype for which it was loaded."""

    model: ControlModel
    belongs: tuple[str, str, str]


def hooks_of(prepared: PreparedUnit, generation: Generation, before: UnitHook | None = None) -> list[UnitHook]:
    """The hooks of a unit other than reference; its model is loaded and kept until the job ends.

    :param before: the first hook of the unit before it.
    :raises LatentdError: the model does not fit this unit or this checkpoint.
    """
    if prepared.file is None:
        return [RevisionHook(prepared, generation)]
    path = prepared.file.path
    kind = recognise(list(_keys(path)), prepared.file.name)
    if prepared.region is not None and kind not in _KINDS_WITH_REGION:
        raise prepared.unit.error(f"effective_region_mask does nothing with a {kind}")
    if prepared.unit.embedding is not None and kind != Kind.IP_ADAPTER:
        raise prepared.unit.error(f"ipadapter_input does nothing with a {kind}")
    model = _leased(path, kind, generation)
    if isinstance(model, ControlNet):
        hook: UnitHook = ControlNetHook(prepared, model, _face(prepared, before) if kind == Kind.INSTANT_ID else None)
    elif isinstance(model, FullAdapter | LightAdapter):
        hook = AdapterHook(prepared, model)
    elif isinstance(model, StyleAdapter):
        hook = StyleHook(prepared, model)
    elif isinstance(model, IPAdapter):
        hook = IPAdapterHook(prepared, model)
    else:
        hook = LLLiteHook(prepared, model)
    return [hook, *fixes_of(prepared, generation)]


def _face(prepared: PreparedUnit, before: UnitHook | None) -> IPAdapterHook:
    if not isinstance(before, IPAdapterHook):
        raise prepared.unit.error(
            "an InstantID ControlNet must directly follow a unit with InstantID's IP-Adapter",
            hint="send the adapter as the unit before this one, with the face's embedding as ipadapter_input",
        )
    return before


def _leased(path: Path, kind: Kind, generation: Generation) -> ControlModel:
    """The model in ``path``, kept in the cache until the job ends."""
    cache = generation.services.models.cache
    cache.limit(CACHE, int(generation.options["control_net_model_cache_size"]))
    base = generation.model
    # It depends on the checkpoint: weights may be the base's with changes, and names depend on the base's layout.
    whole = generation.services.settings.no_half_controlnet
    dtype = torch.float32 if whole else base.dtype
    belongs = base.info.filename, str(base.device), str(dtype)
    if any(fitted.belongs != belongs for fitted in cache.loaded(CACHE)):
        cache.drop(CACHE)
    key = (CACHE, *stamp(path), *belongs)
    lease = cache.lease(key, lambda: _Fitted(_load(path, kind, base, dtype), belongs), lambda f: model_bytes(f.model))
    return generation.leases.enter_context(lease).model


def _load(path: Path, kind: Kind, base: Model, dtype: torch.dtype) -> ControlModel:
    if kind in _CONTROLNETS:
        return load_controlnet(path, kind, base, dtype)
    if kind in (Kind.T2I_ADAPTER, Kind.T2I_LIGHT):
        return load_adapter(path, kind, base, dtype)
    if kind == Kind.T2I_STYLE:
        return load_style(path, base, dtype)
    if kind == Kind.IP_ADAPTER:
        return load_ip_adapter(path, base, dtype)
    if kind == Kind.LLLITE:
        return load_lllite(path, base, dtype)
    raise NotConfigured(
        f"{path.stem} is a {kind} model, which latentd-controlnet does not run",
        hint="SparseCtrl steers films made by AnimateDiff's motion modules",
    )


def _keys(path: Path) -> Iterable[str]:
    if path.suffix.lower() == ".safetensors":
        return read_weights(path)
    from latentd.api import load_pickle

    data = load_pickle(path)
    keys: Iterable[str] = data["state_dict"] if isinstance(data.get("state_dict"), dict) else data
    return keys


def model_bytes(model: ControlModel) -> int:
    """Bytes of a loaded model's weights."""
    module = model.module if isinstance(model, ControlNet) else model
    return sum(p.numel() * p.element_size() for p in module.parameters())
