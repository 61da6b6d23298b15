"""Every option of AUTOMATIC1111, declared once, in the order of its ``GET /sdapi/v1/options``.

Rules: a1111-options.
"""

from __future__ import annotations

from latentd.contributions import OptionSpec
from latentd.options.declared import extensions, generations, images, interface, models, networks, sampling, server

CORE_OPTIONS: tuple[OptionSpec, ...] = (
    *images.SAVING_IMAGES,
    *images.SAVING_PATHS,
    *images.SAVING_TO_DIRS,
    *images.UPSCALING,
    *images.FACE_RESTORATION,
    *server.SYSTEM,
    *server.API,
    *server.TRAINING,
    *models.SD,
    *models.SDXL,
    *models.VAE,
    *sampling.IMG2IMG,
    *models.OPTIMIZATIONS,
    *models.COMPATIBILITY,
    *server.INTERROGATE,
    *networks.EXTRA_NETWORKS,
    *interface.UI_PROMPT_EDITING,
    *interface.UI_GALLERY,
    *interface.UI_ALTERNATIVES,
    *interface.UI,
    *sampling.INFOTEXT,
    *sampling.LIVE_PREVIEWS,
    *sampling.SAMPLER_PARAMS,
    *sampling.POSTPROCESSING,
    *interface.HIDDEN,
    *networks.EXTRA_NETWORKS_LORA,
    *interface.CANVAS_HOTKEY,
    *interface.SETTINGS_IN_UI,
    *extensions.COMMENTS,
    *extensions.HYPERTILE,
    *extensions.UPSCALERS,
    *generations.EARLY,
    *generations.LATER,
)
