"""The model manager, set up by flags, options and plugins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.errors import LatentdError, NotConfigured
from latentd.model_services import CacheReport
from latentd.models.cache import ModelCache
from latentd.models.devices import DevicePolicy, choose_policy
from latentd.models.files.checkpoints import CheckpointInfo, Checkpoints
from latentd.models.files.hashes import HashCache
from latentd.models.files.safetensors_header import read_header
from latentd.models.files.vae_files import VaeFiles
from latentd.models.manager import CHECKPOINT, VAE, ModelManager
from latentd.models.measuring import measured_policy
from latentd.models.precision import PARTS
from latentd.plugins.blame import blamed

if TYPE_CHECKING:
    from latentd.contributions import ModelFormatSpec
    from latentd.models.loaded import LoadedModel
    from latentd.options import OptionStore
    from latentd.plugins.registry import Registries
    from latentd.settings import Settings
    from latentd.types import JsonValue

log = logging.getLogger(__name__)

_DTYPES: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class FarCaches:
    """What the caches of other processes held after their last jobs; every method may be called on any thread."""

    def __init__(self) -> None:
        self._present: dict[str, CacheReport] = {}
        self._past = CacheReport()
        self._lock = threading.Lock()

    def note(self, place: str, report: CacheReport | None) -> None:
        """Take over what the process of ``place`` says; None: it has ended, and only its counts remain."""
        with self._lock:
            if report is not None:
                self._present[place] = report
            elif (last := self._present.pop(place, None)) is not None:
                self._past += replace(last, usage={})

    def report(self) -> CacheReport:
        """All of them together, with the counts of those that have ended."""
        with self._lock:
            return sum(self._present.values(), self._past)


class ServedModels(ModelManager):
    """The model manager, with the methods that only the server needs."""

    @property
    def decided_policy(self) -> DevicePolicy | None:
        """Devices and precision of this thread's device; None before its first model is loaded."""
        return self._here.policy

    @cached_property
    def elsewhere(self) -> dict[str, Sequence[JsonValue]]:
        """The :meth:`precision_report` of each worker process after its last job, by the place's name."""
        return {}

    @cached_property
    def far_caches(self) -> FarCaches:
        """The caches of worker processes and actors."""
        return FarCaches()

    def cache_report(self) -> CacheReport:
        """Of all devices together; of worker processes and actors as they were after their last jobs."""
        return super().cache_report() + self.far_caches.report()

    def precision_report(self) -> list[JsonValue]:
        """Checkpoint, device, and dtype and layout of the parts of each loaded model; what was measured for them."""
        here = [
            {
                "checkpoint": model.info.title,
                "device": model.policy.device,
                "parts": {part: asdict(model.policy.precision_of(part)) for part in PARTS},
                "measured": None if (found := model.policy.measured) is None else found.rows(),
            }
            for cache in self.caches
            for model in cache.loaded(CHECKPOINT)
        ]
        return [*here, *(row for rows in self.elsewhere.copy().values() for row in rows)]


def create_models(
    settings: Settings,
    options: OptionStore,
    registry: Registries,
    hashes: HashCache,
    *,
    observer: Callable[[str, str], None] | None = None,
) -> ServedModels:
    """The models of the configured folders and of plugins; option ``sd_model_checkpoint`` selects one of them.

    Changes of option ``sd_checkpoints_limit`` and of the caches' options act at once.

    :param observer: called with a model's kind and file, and ``loaded`` or ``unloaded``.
    """
    paths = settings.paths

    def hidden() -> bool:
        return bool(options["list_hidden_files"])

    contributed = list(registry.checkpoints.values())
    checkpoints = Checkpoints(
        paths.models("Stable-diffusion"), hashes, explicit=paths.checkpoint, contributed=contributed, hidden=hidden
    )
    vaes = VaeFiles(
        paths.models("VAE"),
        hashes,
        beside=paths.models("Stable-diffusion"),
        explicit=paths.vae,
        contributed=contributed,
        hidden=hidden,
    )
    budget = int(settings.model_cache_mb * 2**20) if settings.model_cache_mb > 0 else None

    def new_cache() -> ModelCache:
        limits = {CHECKPOINT: _at_least_one(options["sd_checkpoints_limit"]), VAE: 1}
        return ModelCache(budget=budget, limits=limits, observer=observer)

    manager = ServedModels(
        checkpoints,
        vaes,
        cache=new_cache(),
        selected=options["sd_model_checkpoint"],
        policy=lambda: device_policy(settings),
        options=options,
        loaders=[_loader(spec, registry.model_formats.owner(spec.name)) for spec in registry.model_formats.values()],
    )

    for name in settings.devices:
        manager.add_device(name, new_cache(), partial(device_policy, settings, name))

    _follow(options, manager)
    return manager


def _follow(options: OptionStore, manager: ServedModels) -> None:
    """Have ``manager`` act on changes of its options."""

    def select(title: JsonValue) -> None:
        if title:
            manager.select(str(title))

    def limit(count: JsonValue) -> None:
        for cache in manager.caches:
            cache.limit(CHECKPOINT, _at_least_one(count))

    options.on_change("sd_model_checkpoint", select)
    options.on_change("sd_checkpoints_limit", limit)
    options.on_change("sd_checkpoint_cache", lambda count: manager.keep_files(CHECKPOINT, int(count)))
    options.on_change("sd_vae_checkpoint_cache", lambda count: manager.keep_files(VAE, int(count)))


def _at_least_one(count: JsonValue) -> int:
    return max(1, int(count or 1))


def device_policy(settings: Settings, device: str | None = None) -> DevicePolicy:
    """Devices and precision by the flags; writes them to the log and imports torch.

    :param device: one of ``--devices`` (``cuda:1``, ``cpu:0``), in place of ``--device-id``.
    :raises NotConfigured: the device does not exist.
    """
    kind, _, number = (device or "").partition(":")
    policy = choose_policy(
        no_half=settings.no_half,
        no_half_vae=settings.no_half_vae,
        precision=settings.precision,
        upcast_sampling=settings.upcast_sampling,
        medvram=settings.medvram,
        medvram_sdxl=settings.medvram_sdxl,
        lowvram=settings.lowvram,
        channels_last=settings.opt_channelslast,
        use_ipex=settings.use_ipex,
        use_cpu=("all",) if kind == "cpu" else settings.use_cpu,
        device_id=number if device else settings.device_id,
        dtype=_DTYPES.get(settings.dtype or ""),
    )
    if kind and policy.device.partition(":")[0] != kind:
        raise NotConfigured(f"--devices {device}: this machine has no {kind.upper()} device")
    policy = replace(policy, direct_convolution=settings.direct_convolution)
    if settings.dtype == "auto" and policy.device == "cpu":
        policy = replace(policy, fit=measured_policy(settings.paths.data / "cache" / "speed.json"))
        log.info("device %s; dtypes are measured with the first model of each kind", device or "cpu")
        return policy
    on_cpu = f"; on the CPU: {', '.join(sorted(policy.cpu_parts))}" if policy.cpu_parts else ""
    log.info("device %s, %s, VAE in %s%s", device or policy.device, policy.dtype, policy.vae_dtype, on_cpu)
    return policy


def _loader(spec: ModelFormatSpec, owner: str) -> Callable[[CheckpointInfo, DevicePolicy], LoadedModel | None]:
    def load(info: CheckpointInfo, policy: DevicePolicy) -> LoadedModel | None:
        path = Path(info.filename)
        with blamed(owner, f"model format {spec.name!r}"):
            return spec.load(path, policy.device) if spec.recognise(path, _keys(path)) else None

    return load


def _keys(path: Path) -> list[str]:
    """The tensors' names in a safetensors file; none for other kinds."""
    if path.suffix != ".safetensors":
        return []
    try:
        return [key for key in read_header(path) if key != "__metadata__"]
    except LatentdError as error:
        log.info("%s: %s", path.name, error)
        return []
