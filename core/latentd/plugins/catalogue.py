"""Which package brings a feature that is not installed: said at the end of the error about it."""

from __future__ import annotations

from typing import NamedTuple

CONTROLNET = "latentd-controlnet"
FACERESTORE = "latentd-facerestore"
INTERROGATORS = "latentd-interrogators"
SCRIPTS = "latentd-scripts"
TRAINING = "latentd-training"
UPSCALERS = "latentd-upscalers"

# Names as clients send them, in lower case, by the kind of registry they are looked up in.
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
    """A prefix of request paths and the package that serves them."""

    prefix: str
    package: str


PATHS = (
    PathFeature("/controlnet/", CONTROLNET),
    PathFeature("/sdapi/v1/train/", TRAINING),
    PathFeature("/sdapi/v1/create/", TRAINING),
    PathFeature("/sdapi/v1/preprocess", TRAINING),
)


def package_hint(kind: str, name: str) -> str | None:
    """What to install for a known feature that is missing, as a sentence; None for names that nobody knows.

    :param kind: ``script``, ``upscaler``, ``face restorer`` or ``interrogator``.
    """
    package = FEATURES.get(kind, {}).get(name.strip().lower())
    return _install(package) if package else None


def path_hint(path: str) -> str | None:
    """What to install for the route ``path``, as a sentence; None for paths that nobody knows."""
    for feature in PATHS:
        if path.startswith(feature.prefix) or path == feature.prefix.rstrip("/"):
            return _install(feature.package)
    return None


def _install(package: str) -> str:
    return f"pip install {package}"
