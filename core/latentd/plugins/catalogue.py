"""Which plugin offers a feature that is not installed, for the hints of errors."""

from __future__ import annotations

from typing import NamedTuple

# Folders below plugins/ in the repository.
CONTROLNET = "controlnet"
FACERESTORE = "facerestore"
GUIDANCE = "guidance"
INTERROGATORS = "interrogators"
SCRIPTS = "scripts"
TINYMODEL = "tinymodel"
TRAINING = "training"
UPSCALERS = "upscalers"

# Names as clients send them, in lower case, by the kind of registry in which they are looked up.
FEATURES: dict[str, dict[str, str]] = {
    "script": {
        "controlnet": CONTROLNET,
        **dict.fromkeys(
            (
                "prompt matrix",
                "prompts from file or textbox",
                "x/y/z plot",
                "x/y plot",
                "img2img alternative test",
                "loopback",
                "outpainting mk2",
                "poor man's outpainting",
                "sd upscale",
                "custom code",
                "soft inpainting",
                "hypertile",
            ),
            SCRIPTS,
        ),
        **dict.fromkeys(
            (
                "dynamicthresholding (cfg-fix) integrated",
                "dynamicthresholding (cfg-fix) integrated (sd 1.x, sd 2.x, sdxl)",
                "dynamic thresholding (cfg scale fix)",
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
    PathFeature("/controlnet/", CONTROLNET),
    PathFeature("/sdapi/v1/train/", TRAINING),
    PathFeature("/sdapi/v1/create/", TRAINING),
    PathFeature("/sdapi/v1/preprocess", TRAINING),
    PathFeature("/latentd/v1/train/", TRAINING),
)


def package_hint(kind: str, name: str) -> str | None:
    """What to install for a known feature that is missing, as a sentence; None for unknown names.

    :param kind: ``script``, ``upscaler``, ``face restorer`` or ``interrogator``.
    """
    plugin = FEATURES.get(kind, {}).get(name.strip().lower())
    return install_hint(plugin) if plugin else None


def path_hint(path: str) -> str | None:
    """What to do about the missing route ``path``, as a sentence; None for unknown paths."""
    for feature in PATHS:
        if path.startswith(feature.prefix) or path == feature.prefix.rstrip("/"):
            return install_hint(feature.plugin)
    return None


def install_hint(plugin: str, extra: str = "") -> str:
    """How to install one of latentd's own plugins, as a sentence that is true while none of them is published.

    :param plugin: its folder, such as ``controlnet``.
    :param extra: one of its extras, such as ``annotators``.
    """
    place = f"'./plugins/{plugin}[{extra}]'" if extra else f"./plugins/{plugin}"
    return f"pip install {place} in a clone of latentd's repository"
