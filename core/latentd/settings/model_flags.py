"""Flags of models, devices and precision."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.settings.flag import integer, number, switch, text, texts

LOADING = "loading"
DEVICE = "device and precision"
KERNELS = "attention kernels"
CONTROLNET = "ControlNet"


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """How models are loaded and where they run."""

    no_hashing: bool = switch("compute no sha256 of model files; hashes are null", group=LOADING)
    disable_safe_unpickle: bool = switch(
        "pickled weight files are read through the allow-list in any case", group=LOADING, acts=False
    )
    converted_cache_mb: float = number(
        32768.0,
        "most MiB on disk for conversions of pickled weight files, in the data folder's cache/converted; those used "
        "longest ago go first; 0: none is kept",
        group=LOADING,
        listed=False,
    )
    skip_load_model_at_start: bool = switch("load the model with the first request, not at start", group=LOADING)
    no_download_sd_model: bool = switch("nothing is downloaded in any case", group=LOADING, acts=False)
    do_not_download_clip: bool = switch("nothing is downloaded in any case", group=LOADING, acts=False)
    disable_model_loading_ram_optimization: bool = switch(
        "weights are mapped, never loaded twice", group=LOADING, acts=False
    )
    ui_debug_mode: bool = switch("do not load a model at start", group=LOADING)
    disable_nan_check: bool = switch("do not fail a job whose latents are not numbers", group=LOADING)

    no_half: bool = switch("keep the model in 32-bit floats", group=DEVICE)
    no_half_vae: bool = switch("keep the VAE in 32-bit floats", group=DEVICE)
    precision: str = text("autocast", "precision of the evaluation", group=DEVICE, choices=("full", "autocast", "half"))
    upcast_sampling: bool = switch("sample in 32-bit floats on 16-bit weights", group=DEVICE)
    dtype: str | None = text(
        None,
        "floating-point type of the networks; the device's own choice if not given; "
        "auto: on a CPU, what is measured to be fastest",
        group=DEVICE,
        choices=("auto", "fp32", "fp16", "bf16"),
        listed=False,
    )
    model_cache_mb: float = number(
        0.0,
        "most memory in MiB for loaded models; those not in use go first; 0: no bound but the numbers of each kind",
        group=DEVICE,
        listed=False,
    )
    medvram: bool = switch("keep only the part of the model that is at work on the device", group=DEVICE)
    medvram_sdxl: bool = switch("--medvram for SDXL models only", group=DEVICE)
    lowvram: bool = switch("--medvram, and the VAE works in tiles", group=DEVICE)
    lowram: bool = switch("weights are mapped, never held twice in main memory", group=DEVICE, acts=False)
    use_cpu: tuple[str, ...] = texts(
        (), "parts to run on the CPU: all, or sd, interrogate, gfpgan...", group=DEVICE, separate=True, metavar="PART"
    )
    device_id: str | None = text(None, "number of the CUDA device to use", group=DEVICE)
    devices: tuple[str, ...] = texts(
        (),
        "devices that draw at the same time, each with models of its own, separated by commas (cuda:0,cuda:1)",
        group=DEVICE,
        listed=False,
        commas=True,
    )
    worker_processes: bool = switch(
        "drive each device from a process of its own, which is started again if it ends; a crash costs one job",
        group=DEVICE,
        listed=False,
    )
    split_batches: bool = switch(
        "divide a job of several pictures among the devices that have nothing to do when it begins",
        group=DEVICE,
        listed=False,
    )
    use_ipex: bool = switch("use an Intel XPU", group=DEVICE)
    opt_channelslast: bool = switch("lay tensors out channels-last", group=DEVICE)
    direct_convolution: bool = switch(
        "compute convolutions term by term, not by Winograd's algorithm, which a CPU uses for large ones",
        group=DEVICE,
        listed=False,
    )
    max_batch_count: int = integer(16, "largest batch count that the web page offers", group=DEVICE, acts=False)

    xformers: bool = switch("attention by PyTorch's kernels is used instead", group=KERNELS, acts=False)
    force_enable_xformers: bool = switch("as --xformers", group=KERNELS, acts=False)
    xformers_flash_attention: bool = switch("as --xformers", group=KERNELS, acts=False)
    opt_split_attention: bool = switch("as --xformers", group=KERNELS, acts=False)
    opt_sub_quad_attention: bool = switch("as --xformers", group=KERNELS, acts=False)
    sub_quad_q_chunk_size: int = integer(1024, "query chunk of --opt-sub-quad-attention", group=KERNELS, acts=False)
    sub_quad_kv_chunk_size: int | None = integer(
        None, "key chunk of --opt-sub-quad-attention", group=KERNELS, acts=False
    )
    sub_quad_chunk_threshold: int | None = integer(
        None, "memory threshold of --opt-sub-quad-attention", group=KERNELS, acts=False
    )
    opt_split_attention_invokeai: bool = switch("as --xformers", group=KERNELS, acts=False)
    opt_split_attention_v1: bool = switch("as --xformers", group=KERNELS, acts=False)
    opt_sdp_attention: bool = switch("this is what is used in any case", group=KERNELS, acts=False)
    opt_sdp_no_mem_attention: bool = switch(
        "scaled-dot-product attention without its memory-efficient kernel", group=KERNELS, acts=False
    )
    disable_opt_split_attention: bool = switch("as --xformers", group=KERNELS, acts=False)

    no_half_controlnet: bool | None = switch("keep ControlNet models in 32-bit floats", default=None, group=CONTROLNET)
    controlnet_preprocessor_cache_size: int = integer(16, "results of preprocessors to keep", group=CONTROLNET)
    controlnet_loglevel: str = text(
        "INFO",
        "how much ControlNet logs",
        group=CONTROLNET,
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    controlnet_tracemalloc: bool | None = switch(
        "trace ControlNet's memory", default=None, group=CONTROLNET, acts=False
    )
