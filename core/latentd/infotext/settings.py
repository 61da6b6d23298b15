"""The options that stand in infotexts, and their keys there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


def truth(text: str) -> bool:
    """False for ``False`` and the empty text, True for any other text."""
    return text not in {"", "False"}


def whole(text: str) -> int:
    """The whole number that ``text`` is; some programs write ``20.0``.

    :raises ValueError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


@dataclass(frozen=True, slots=True)
class Setting:
    """An option, and the function that reads its value from text and raises ValueError if it cannot."""

    option: str
    convert: Callable[[str], object] = str


OPTION_SCHEDULES = ("karras", "exponential", "polyexponential")
"""Schedules of 1.8's option ``k_sched_type``, as 1.8 writes them into infotexts; 1.9 and later write labels."""

SETTINGS: Mapping[str, Setting] = {
    "Face restoration": Setting("face_restoration", truth),
    "Model hash": Setting("sd_model_checkpoint"),
    "Emphasis": Setting("emphasis"),
    "Clip skip": Setting("CLIP_stop_at_last_layers", whole),
    "RNG": Setting("randn_source"),
    "Tiling": Setting("tiling", truth),
    "Hires refiner": Setting("hires_fix_refiner_pass"),
    "VAE": Setting("sd_vae"),
    "VAE Encoder": Setting("sd_vae_encode_method"),
    "VAE Decoder": Setting("sd_vae_decode_method"),
    "Conditional mask weight": Setting("inpainting_mask_weight", float),
    "Noise multiplier": Setting("initial_noise_multiplier", float),
    "Extra noise": Setting("img2img_extra_noise", float),
    "Token merging ratio": Setting("token_merging_ratio", float),
    "Token merging ratio hr": Setting("token_merging_ratio_hr", float),
    "Step cache": Setting("step_cache_threshold", float),
    "Pad conds": Setting("pad_cond_uncond", truth),
    "Pad conds v0": Setting("pad_cond_uncond_v0", truth),
    "Old prompt editing timelines": Setting("use_old_scheduling", truth),
    "Downcast alphas_cumprod": Setting("use_downcasted_alpha_bar", truth),
    "Refiner switch by sampling steps": Setting("refiner_switch_by_sample_steps", truth),
    "Eta DDIM": Setting("eta_ddim", float),
    "Eta": Setting("eta_ancestral", float),
    "Sigma churn": Setting("s_churn", float),
    "Sigma tmin": Setting("s_tmin", float),
    "Sigma tmax": Setting("s_tmax", float),
    "Sigma noise": Setting("s_noise", float),
    "Schedule type": Setting("k_sched_type"),
    "Schedule min sigma": Setting("sigma_min", float),
    "Schedule max sigma": Setting("sigma_max", float),
    "Schedule rho": Setting("rho", float),
    "ENSD": Setting("eta_noise_seed_delta", whole),
    "Discard penultimate sigma": Setting("always_discard_next_to_last_sigma", truth),
    # Misspelt in AUTOMATIC1111 1.8, which writes the word correctly and so never reads it back.
    "SGM noise multplier": Setting("sgm_noise_multiplier", truth),
    "SGM noise multiplier": Setting("sgm_noise_multiplier", truth),
    "UniPC variant": Setting("uni_pc_variant"),
    "UniPC skip type": Setting("uni_pc_skip_type"),
    "UniPC order": Setting("uni_pc_order", whole),
    "UniPC lower order final": Setting("uni_pc_lower_order_final", truth),
    "Noise Schedule": Setting("sd_noise_schedule"),
    "Hypertile U-Net": Setting("hypertile_enable_unet", truth),
    "Hypertile U-Net second pass": Setting("hypertile_enable_unet_secondpass", truth),
    "Hypertile U-Net max depth": Setting("hypertile_max_depth_unet", whole),
    "Hypertile U-Net max tile size": Setting("hypertile_max_tile_unet", whole),
    "Hypertile U-Net swap size": Setting("hypertile_swap_size_unet", whole),
    "Hypertile VAE": Setting("hypertile_enable_vae", truth),
    "Hypertile VAE max depth": Setting("hypertile_max_depth_vae", whole),
    "Hypertile VAE max tile size": Setting("hypertile_max_tile_vae", whole),
    "Hypertile VAE swap size": Setting("hypertile_swap_size_vae", whole),
    "NGMS all steps": Setting("s_min_uncond_all", truth),
    "Skip Early CFG": Setting("skip_early_cond", float),
    # AUTOMATIC1111 1.10 reads these under the first name and writes them under the second.
    "Beta scheduler alpha": Setting("beta_dist_alpha", float),
    "Beta scheduler beta": Setting("beta_dist_beta", float),
    "Beta schedule alpha": Setting("beta_dist_alpha", float),
    "Beta schedule beta": Setting("beta_dist_beta", float),
}
"""Infotext key → option (options reference, column "infotext key")."""
