"""Devices and precision of models, which are decided here only, and the report of the memory endpoint.

This module can be imported without torch; the functions that need torch import it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from latentd.errors import NotConfigured
from latentd.models.allocator import give_back_memory
from latentd.models.memory_sums import added
from latentd.models.precision import Measured, Part, Precision
from latentd.types import JsonValue

if TYPE_CHECKING:
    import torch

Offload = Literal["none", "parts"]

_OUT_OF_MEMORY = (
    "MPS backend out of memory",
    "not enough memory: you tried to allocate",
    "can't allocate memory",
    "std::bad_alloc",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """Device and precision of each part of a model, spelled as in torch (``cuda:0``, ``float16``).

    :param offload: with ``parts``, only the part that is computing is on the device; the others are in main memory.
    :param offload_sdxl: whether ``offload`` is ``parts`` for models of the SDXL family.
    :param tile_vae: whether the VAE works in tiles from the start, not only when memory runs out.
    :param upcast_attention: whether attention scores are computed in float32.
    :param channels_last: whether the weights of UNet and VAE have this memory layout.
    :param direct_convolution: whether no convolution is computed by Winograd's algorithm.
    :param parts: dtype and layout of single parts, which replace the above.
    :param measured: what was measured to choose them, if anything was.
    :param fit: makes the policy for a model's family from this one; None if all have the same.
    """

    device: str = "cpu"
    dtype: str = "float32"
    vae_dtype: str = "float32"
    cpu_parts: frozenset[Part] = frozenset()
    offload: Offload = "none"
    tile_vae: bool = False
    upcast_attention: bool = False
    offload_sdxl: bool = False
    channels_last: bool = False
    direct_convolution: bool = False
    parts: Mapping[Part, Precision] = field(default_factory=dict)
    measured: Measured | None = None
    fit: Callable[[DevicePolicy, str], DevicePolicy] | None = field(default=None, repr=False)

    def for_family(self, family: str) -> DevicePolicy:
        """The policy for a model of ``family``; measures the machine if it is to be chosen so, on the worker."""
        if self.fit is not None:
            return replace(self.fit(self, family), fit=None)
        if self.offload_sdxl and family.startswith("sdxl"):
            return replace(self, offload="parts")
        return self

    def home_of(self, part: Part) -> torch.device:
        """The device to which ``part`` is loaded, and where it is while it does not compute."""
        import torch

        return torch.device("cpu") if self.offload == "parts" else self.device_of(part)

    def device_of(self, part: Part) -> torch.device:
        """The device on which ``part`` computes."""
        import torch

        return torch.device("cpu" if part in self.cpu_parts else self.device)

    def dtype_of(self, part: Part) -> torch.dtype:
        """The dtype of ``part``'s weights; float32 for a part that computes on the CPU of a machine with a GPU."""
        import torch

        if part in self.cpu_parts and self.device != "cpu":
            return torch.float32
        found = getattr(torch, self.precision_of(part).dtype)
        assert isinstance(found, torch.dtype)
        return found

    def precision_of(self, part: Part) -> Precision:
        """Dtype and layout of ``part``, as far as the whole part has one."""
        usual = Precision(self.vae_dtype if part == "vae" else self.dtype, self.channels_last and part != "text")
        return self.parts.get(part, usual)


def choose_policy(
    *,
    no_half: bool = False,
    no_half_vae: bool = False,
    precision: str = "autocast",
    upcast_sampling: bool = False,
    medvram: bool = False,
    medvram_sdxl: bool = False,
    lowvram: bool = False,
    channels_last: bool = False,
    use_ipex: bool = False,
    use_cpu: Collection[str] = (),
    device_id: str | int | None = None,
    dtype: str | None = None,
) -> DevicePolicy:
    """The policy for this machine with AUTOMATIC1111's flags. Imports torch.

    Without an accelerator, or with ``all`` in ``use_cpu``: the CPU in float32. On CUDA and MPS, and on an Intel XPU
    with ``use_ipex``: float16, unless ``no_half`` or ``precision`` ``full``. ``use_cpu`` may name ``sd`` (UNet and
    text encoder) and ``vae``.

    :param dtype: float32, float16 or bfloat16, which replaces the dtype by the flags, also on the CPU.
    :raises NotConfigured: an unknown dtype, or a ``device_id`` that does not exist.
    """
    import torch

    if dtype is not None and dtype not in ("float32", "float16", "bfloat16"):
        raise NotConfigured(f"dtype {dtype!r} is not one of float32, float16, bfloat16")
    device = "cpu" if "all" in use_cpu else _accelerator(torch, device_id, use_ipex)
    if device == "cpu":
        # float16 overflows in SDXL's VAE; there is no need for it here.
        vae_dtype = "bfloat16" if dtype == "bfloat16" and not no_half_vae else "float32"
        return DevicePolicy(dtype=dtype or "float32", vae_dtype=vae_dtype, channels_last=channels_last)
    half = dtype or ("float32" if no_half or precision == "full" else "float16")
    cpu_parts: set[Part] = set()
    if "sd" in use_cpu:
        cpu_parts |= {"unet", "text"}
    if "vae" in use_cpu:
        cpu_parts.add("vae")
    return DevicePolicy(
        device=device,
        dtype=half,
        vae_dtype="float32" if no_half_vae else half,
        cpu_parts=frozenset(cpu_parts),
        offload="parts" if medvram or lowvram else "none",
        tile_vae=lowvram,
        upcast_attention=upcast_sampling,
        offload_sdxl=medvram_sdxl,
        channels_last=channels_last,
    )


def _accelerator(torch: ModuleType, device_id: str | int | None, use_ipex: bool) -> str:
    if use_ipex and torch.xpu.is_available():
        return "xpu"
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        index = str(0 if device_id is None else device_id)
        if not index.isdecimal() or int(index) >= count:
            raise NotConfigured(f"--device-id {device_id} does not exist: this machine has {count} CUDA devices")
        return f"cuda:{index}"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def free_cache() -> None:
    """Return memory that no tensor uses to the system and to the accelerator's driver."""
    give_back_memory()
    torch = _torch()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out: Python's or CUDA's class, or the messages of MPS and the CPU."""
    if isinstance(error, MemoryError):
        return True
    torch = _torch()
    if torch is None:
        return False
    written = isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    return written or isinstance(error, torch.cuda.OutOfMemoryError)


def is_device_error(error: BaseException) -> bool:
    """Whether an accelerator's driver reported ``error``, memory aside: the device may be lost for this process."""
    if is_out_of_memory(error):
        return False
    reported = getattr(_torch(), "AcceleratorError", ())
    return isinstance(error, reported) or (isinstance(error, RuntimeError) and str(error).startswith("CUDA error"))


def _torch() -> ModuleType | None:
    """The module torch if it is imported completely; None if not, or while another thread imports it."""
    torch = sys.modules.get("torch")
    return None if getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def cpu_threads() -> int | None:
    """Threads of one operation on the CPU; None before torch is imported."""
    torch = _torch()
    return None if torch is None else int(torch.get_num_threads())


def memory_report() -> dict[str, Mapping[str, JsonValue]]:
    """Bytes in use, in the shape of ``/sdapi/v1/memory``: ``ram`` and ``cuda``. Does not import torch by itself."""
    return {"ram": _ram(), "cuda": _cuda()}


def _ram() -> Mapping[str, JsonValue]:
    try:
        import psutil  # type: ignore[import-untyped]

        process = psutil.Process()
        resident, percent = process.memory_info().rss, process.memory_percent()
        # AUTOMATIC1111 computes the total from this process's share of it; the numbers keep that meaning.
        total = 100 * resident / percent
        return {"free": total - resident, "used": resident, "total": total}
    except (ImportError, OSError, ZeroDivisionError) as error:
        return {"error": str(error)}


def _cuda() -> Mapping[str, JsonValue]:
    """Of all devices on which this process has memory, added up."""
    torch = _torch()
    if torch is None or not torch.cuda.is_available():
        return {"error": "unavailable"}
    devices = [number for number in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(number)]
    return reduce(added, [_cuda_device(torch, number) for number in devices or [torch.cuda.current_device()]])


def _cuda_device(torch: ModuleType, number: int) -> Mapping[str, JsonValue]:
    free, total = torch.cuda.mem_get_info(number)
    stats = dict(torch.cuda.memory_stats(number))

    def pair(name: str) -> dict[str, JsonValue]:
        return {"current": stats.get(f"{name}.all.current", 0), "peak": stats.get(f"{name}.all.peak", 0)}

    return {
        "system": {"free": free, "used": total - free, "total": total},
        "active": pair("active_bytes"),
        "allocated": pair("allocated_bytes"),
        "reserved": pair("reserved_bytes"),
        "inactive": pair("inactive_split_bytes"),
        "events": {"retries": stats.get("num_alloc_retries", 0), "oom": stats.get("num_ooms", 0)},
    }
