"""The manager of models: the selected checkpoint, and leases of loaded ones. torch is imported only for loading."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.model_services import CacheReport
from latentd.models.architecture import WeightStorage
from latentd.models.cache import Key, ModelCache
from latentd.models.devices import DevicePolicy, choose_policy, free_cache
from latentd.models.files.checkpoints import CheckpointInfo, Checkpoints
from latentd.models.files.hashes import file_stamp
from latentd.models.files.vae_files import VaeFiles, VaeInfo
from latentd.models.here import this_device
from latentd.models.untyped import DiffusersVae
from latentd.types import OptionValues

if TYPE_CHECKING:
    from torch import nn

    from latentd.models.files.state_dict import StateDict
    from latentd.models.loaded import LoadedModel

CHECKPOINT, VAE = "checkpoint", "vae"
#: Kinds of weight files whose contents are kept in memory, and the options for how many.
FILES = {CHECKPOINT: ("checkpoint file", "sd_checkpoint_cache"), VAE: ("vae file", "sd_vae_checkpoint_cache")}
DEFAULTS: OptionValues = {
    "fp8_storage": "Disable",
    "cache_fp16_weight": False,
    "sd_checkpoints_keep_in_cpu": True,
    "sd_checkpoint_cache": 0,
    "sd_vae_checkpoint_cache": 0,
    "disable_mmap_load_safetensors": False,
}


class ModelManager:
    """Lists and loads checkpoints and VAEs. Lists may be used on any thread, leases on a worker only.

    With several devices (:meth:`add_device`), each has its own policy and its own loaded models.

    :param selected: the value of option ``sd_model_checkpoint`` at start.
    :param policy: devices and precision, or a function for them that is called when the first model is loaded.
    :param loaders: formats of plugins, tried in order before the core's; each returns a ``LoadedModel`` or None.
    :param options: the server's options about models, read when they are needed.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        vaes: VaeFiles,
        *,
        cache: ModelCache | None = None,
        selected: str | None = None,
        policy: Callable[[], DevicePolicy] = choose_policy,
        loaders: list[Callable[[CheckpointInfo, DevicePolicy], LoadedModel | None]] | None = None,
        options: OptionValues | None = None,
    ) -> None:
        self.checkpoints = checkpoints
        self.vaes = vaes
        first = _DeviceModels(cache or ModelCache(limits={CHECKPOINT: 1, VAE: 1}), policy)
        self._of_devices: dict[str | None, _DeviceModels] = {None: first}
        self.loaders = loaders or []
        self._options = DEFAULTS if options is None else options
        self._selected = selected

    def add_device(self, name: str, cache: ModelCache, policy: Callable[[], DevicePolicy]) -> None:
        """Give the threads that work on ``name`` (:mod:`latentd.models.here`) a cache and a policy of their own."""
        if list(self._of_devices) == [None]:
            self._of_devices.clear()
        self._of_devices[name] = _DeviceModels(cache, policy)

    @property
    def _here(self) -> _DeviceModels:
        """The models of this thread's device; those of the first device for a thread that has none."""
        found = self._of_devices.get(this_device())
        return found or next(iter(self._of_devices.values()))

    @property
    def cache(self) -> ModelCache:
        """The loaded models of the device on which this thread works."""
        return self._here.cache

    @property
    def caches(self) -> list[ModelCache]:
        """The loaded models of every device."""
        return [models.cache for models in self._of_devices.values()]

    def cache_report(self) -> CacheReport:
        """What the caches of every device hold, and how they have been used."""
        return sum((cache.report() for cache in self.caches), CacheReport())

    @property
    def current(self) -> CheckpointInfo:
        """The selected checkpoint, or the first of the list if the selected one no longer exists.

        :raises NotFound: no checkpoint was found at all.
        """
        return self.checkpoints.default(self._selected)

    @property
    def policy(self) -> DevicePolicy:
        """Devices and precision of the device on which this thread works, decided once."""
        here = self._here
        if here.policy is None:
            here.policy = here.choose()
        return here.policy

    def select(self, name: str) -> CheckpointInfo:
        """Select the checkpoint that ``name`` names (``sd_model_checkpoint``); nothing is loaded yet.

        :raises NotFound: there is none.
        """
        info = self.checkpoints.require(name, fuzzy=False)
        self._selected = info.name
        return info

    def named(self, name: str) -> CheckpointInfo | None:
        """The checkpoint that ``name`` names (rules: a1111-checkpoint-names); a misspelt name counts where one fits."""
        return self.checkpoints.named(name)

    def find(self, name: str) -> CheckpointInfo | None:
        """The checkpoint with this name, else the one with the shortest title that contains it, else None."""
        return self.checkpoints.closest(name)

    def refresh(self) -> None:
        """Scan the folders of checkpoints and VAEs again."""
        self.checkpoints.refresh()
        self.vaes.refresh()

    @contextmanager
    def lease(
        self,
        checkpoint: str | CheckpointInfo | None = None,
        vae: str | None = None,
        *,
        vae_overrides: bool = True,
        storage: WeightStorage | None = None,
    ) -> Iterator[LoadedModel]:
        """A context manager for the loaded checkpoint, which is kept until the block is left.

        :param checkpoint: a name, looked up as that of the refiner; None for the selected one.
        :param vae: the value of option ``sd_vae``; None means ``Automatic``.
        :param vae_overrides: option ``sd_vae_overrides_per_model_preferences``.
        :param storage: the form of the weights; None for that of the server's options.
        :raises NotFound: no such checkpoint or VAE, or no checkpoint at all.
        :raises ModelLoadError: a file cannot be loaded.
        """
        info = self._find(checkpoint)
        chosen = self.vaes.resolve(info, vae, overrides=vae_overrides)
        with ExitStack() as stack:
            form = storage or WeightStorage.of(self._options)
            key = _key(CHECKPOINT, info.filename, form)
            load = partial(self._load, info, form)
            model = stack.enter_context(self.cache.lease(key, load, _model_bytes))
            self._make_room_for(model)
            if model.parked:
                model.to(None)
                model.parked = False
            # The same model may be leased already with another VAE, which is put back afterwards.
            before = model.vae, model.vae_info
            loaded: DiffusersVae | None = None
            model.vae, model.vae_info = model.own_vae, None
            try:
                if chosen is not None:
                    policy = model.policy
                    key = _key(VAE, chosen.filename, policy.precision_of("vae"))
                    load_vae = partial(self._load_vae, chosen, policy)
                    loaded = stack.enter_context(self.cache.lease(key, load_vae, _module_bytes))
                    model.vae, model.vae_info = loaded, replace(chosen, hash=self.vaes.short_hash(chosen))
                yield model
            finally:
                model.vae, model.vae_info = before
                if loaded is not None and model.policy.offload == "parts":
                    loaded.to("cpu")

    def unload(self) -> None:
        """Move checkpoints from an accelerator to main memory, or drop them on a CPU (``/unload-checkpoint``).

        Only those of the device on which this thread works. The selected checkpoint stays selected and is loaded again
        with the next lease.
        """
        policy = self._here.policy
        if policy is None or policy.device == "cpu":
            self.cache.drop(CHECKPOINT)
            self.cache.drop(VAE)
            return
        for model in self.cache.loaded(CHECKPOINT):
            model.to("cpu")
            model.parked = True
        free_cache()

    def reload(self) -> None:
        """Load the selected checkpoint to its device (``/reload-checkpoint``)."""
        with self.lease():
            pass

    def _find(self, checkpoint: str | CheckpointInfo | None) -> CheckpointInfo:
        if isinstance(checkpoint, CheckpointInfo):
            return checkpoint
        return self.current if checkpoint is None else self.checkpoints.require(checkpoint)

    def _make_room_for(self, model: LoadedModel) -> None:
        """Move loaded checkpoints that are not leased to main memory (``sd_checkpoints_keep_in_cpu``)."""
        if model.policy.device == "cpu" or not self._options["sd_checkpoints_keep_in_cpu"]:
            return
        for other in self.cache.idle(CHECKPOINT):
            if not other.parked:
                other.to("cpu")
                other.parked = True

    def _load(self, info: CheckpointInfo, storage: WeightStorage) -> LoadedModel:
        from latentd.models.loading.load import load_checkpoint

        with _for_training_too():
            for loader in self.loaders:
                if (model := loader(info, self.policy)) is not None:
                    break
            else:
                model = load_checkpoint(info, self.policy, storage, read=self._reader(CHECKPOINT))
        # Infotexts contain the hash, so it is computed before the first picture.
        self.checkpoints.ensure_hash(info)
        return model

    def _load_vae(self, info: VaeInfo, policy: DevicePolicy) -> DiffusersVae:
        from latentd.models.loading.load import load_vae

        with _for_training_too():
            return load_vae(Path(info.filename), policy, read=self._reader(VAE))

    def _reader(self, kind: str) -> Callable[[Path], StateDict]:
        """The function that opens weight files of ``kind``, from memory if the option keeps their contents there."""
        from latentd.models.files.state_dict import in_memory, open_state_dict

        files, option = FILES[kind]
        count = int(self._options[option])
        read = partial(open_state_dict, mapped=not self._options["disable_mmap_load_safetensors"])
        if count < 1:
            return read
        cache = next(iter(self._of_devices.values())).cache  # one copy serves every device
        cache.limit(files, count)
        return lambda path: cache.get(
            _key(files, str(path)), lambda: in_memory(read(path)), lambda contents: contents.nbytes
        )

    def keep_files(self, kind: str, count: int) -> None:
        """Keep the contents of at most ``count`` weight files of ``kind`` in memory from now on."""
        cache = next(iter(self._of_devices.values())).cache
        if count < 1:
            cache.drop(FILES[kind][0])
        else:
            cache.limit(FILES[kind][0], count)


@dataclass(slots=True)
class _DeviceModels:
    """The loaded models of one device, and its policy once it is decided."""

    cache: ModelCache
    choose: Callable[[], DevicePolicy]
    policy: DevicePolicy | None = None


def _key(kind: str, filename: str, *more: Hashable) -> Key:
    """The cache key of a file; it changes when the file is replaced."""
    return kind, filename, tuple(file_stamp(Path(filename))), *more


@contextmanager
def _for_training_too() -> Iterator[None]:
    """Weights loaded within are ordinary tensors: gradients flow through them, whichever job had them loaded.

    Generations run in torch's inference mode, and what is made there can never be part of a training.
    """
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


def _model_bytes(model: LoadedModel) -> int:
    return model.nbytes()


def _module_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
