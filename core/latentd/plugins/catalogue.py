"""Which plugin offers a feature that is not installed, for the hints of errors."""

from __future__ import annotations

import re
from typing import NamedTuple

from latentd.plugins.extensions import EXTENSIONS, explain

# Folders below plugins/ in the repository.
CONTROLNET = "controlnet"
DETAILER = "detailer"
FACERESTORE = "facerestore"
GUIDANCE = "guidance"
INTERROGATORS = "interrogators"
OPENAI = "openai"
OPERATIONS = "operations"
RAY = "ray"
REMBG = "rembg"
SCRIPTS = "scripts"
TINYMODEL = "tinymodel"
TRAINING = "training"
UPSCALERS = "upscalers"
WEB = "web"

# Names as clients send them, in lower case, by the kind of registry in which they are looked up.
FEATURES: dict[str, dict[str, str]] = {
    "script": {
        "adetailer": DETAILER,
        "after detailer": DETAILER,
        "controlnet": CONTROLNET,
        **dict.fromkeys(
            (
                "prompt matrix",
                "prompts from file or textbox",
                "x/y/z plot",
                "img2img alternative test",
                "loopback",
                "outpainting mk2",
                "poor man's outpainting",
                "sd upscale",
                "custom code",
                "soft inpainting",
                "dynamic prompts",
                "ultimate sd upscale",
            ),
            SCRIPTS,
        ),
        **dict.fromkeys(
            (
                "dynamicthresholding (cfg-fix) integrated",
                "dynamicthresholding (cfg-fix) integrated (sd 1.x, sd 2.x, sdxl)",
                "dynamic thresholding (cfg scale fix)",
                "forge couple",
                "freeu integrated",
                "freeu integrated (sd 1.x, sd 2.x, sdxl)",
                "kohya hrfix integrated",
                "multidiffusion integrated",
                "multidiffusion integrated (sd 1.x, sd 2.x, sdxl)",
                "perturbed attention guidance integrated",
                "perturbedattentionguidance integrated",
                "perturbedattentionguidance integrated (sd 1.x, sd 2.x, sdxl)",
                "rescalecfg for reforge",
                "selfattentionguidance integrated",
                "selfattentionguidance integrated (sd 1.x, sd 2.x, sdxl)",
            ),
            GUIDANCE,
        ),
    },
    "upscaler": dict.fromkeys(
        (
            "esrgan_4x",
            "r-esrgan 4x+",
            "r-esrgan 4x+ anime6b",
            "r-esrgan general 4xv3",
            "r-esrgan general wdn 4xv3",
            "r-esrgan animevideo",
            "r-esrgan 2x+",
            "swinir 4x",
            "swinir_4x",
            "scunet",
            "scunet gan",
            "scunet psnr",
            "dat x2",
            "dat x3",
            "dat x4",
            "ldsr",
            "bsrgan",
        ),
        UPSCALERS,
    ),
    "face restorer": {"codeformer": FACERESTORE, "gfpgan": FACERESTORE},
    "interrogator": {"clip": INTERROGATORS, "deepdanbooru": INTERROGATORS, "deepbooru": INTERROGATORS},
}


class PathFeature(NamedTuple):
    """A prefix of request paths and the plugin that serves them."""

    prefix: str
    plugin: str


PATHS = (
    PathFeature("/adetailer/", DETAILER),
    PathFeature("/controlnet/", CONTROLNET),
    PathFeature("/tagger/", INTERROGATORS),
    PathFeature("/rembg/", REMBG),
    PathFeature("/sdapi/v1/rembg/", REMBG),
    PathFeature("/v1/images/", OPENAI),
    PathFeature("/v1/models", OPENAI),
    PathFeature("/metrics", OPERATIONS),
    PathFeature("/agent-scheduler/", OPERATIONS),
    PathFeature("/sdapi/v1/train/", TRAINING),
    PathFeature("/sdapi/v1/create/", TRAINING),
    PathFeature("/sdapi/v1/preprocess", TRAINING),
    PathFeature("/latentd/v1/train/", TRAINING),
)


# Titles of extensions may end in their version ("Dynamic Prompts v2.17.1"); a hint does not depend on it.
_VERSION = re.compile(r"\s+v\d[\w.]*$")


def package_hint(kind: str, name: str) -> str | None:
    """What to do about a known feature that is missing, as a sentence; None for unknown names.

    It says what to install, or that latentd has nothing of that name.

    :param kind: ``script``, ``upscaler``, ``face restorer`` or ``interrogator``.
    """
    known = FEATURES.get(kind, {})
    folded = name.strip().lower()
    plugin = known.get(folded) or known.get(_VERSION.sub("", folded))
    if plugin:
        return install_hint(plugin)
    title = _VERSION.sub("", folded)
    return next((explain(each) for each in EXTENSIONS if kind == "script" and title in each.titles), None)


def path_hint(path: str) -> str | None:
    """What to do about the missing route ``path``, as a sentence; None for unknown paths."""
    for feature in PATHS:
        if _is_below(path, feature.prefix):
            return install_hint(feature.plugin)
    return next((explain(each) for each in EXTENSIONS if any(_is_below(path, prefix) for prefix in each.paths)), None)


def _is_below(path: str, prefix: str) -> bool:
    return path.startswith(prefix) or path == prefix.rstrip("/")


def install_hint(plugin: str, extra: str = "") -> str:
    """How to install one of latentd's own plugins, as a sentence that is true while none of them is published.

    :param plugin: its folder, such as ``controlnet``.
    :param extra: one of its extras, such as ``annotators``.
    """
    place = f"'./plugins/{plugin}[{extra}]'" if extra else f"./plugins/{plugin}"
    return f"pip install {place} in a clone of latentd's repository"
