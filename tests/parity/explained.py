"""Recorded cases that latentd answers otherwise on purpose, each with its reason; docs/compatibility lists them."""

from __future__ import annotations

EXPLAINED: dict[str, str] = {
    "noise/randn-gpu": "GPU noise without a GPU: latentd draws an NVIDIA card's numbers, the original its CPU's",
    "noise/randn-gpu-euler-a-batch": "as noise/randn-gpu",
    "prompts/backtrack-74": "the original reused the conditioning of the request before, which had another backtrack",
    "controlnet/err-bad-model": "the original goes on without ControlNet; latentd answers 422",
    "controlnet/err-no-image": "the original goes on without ControlNet; latentd answers 422",
    "controlnet/err-too-many-units": "the original drops units beyond three; latentd runs all of them",
    "errors/options-bad-type": "the original answers 200 and keeps its value; latentd says what is wrong, with a 422",
    "errors/unknown-checkpoint": "the original draws with the model it has; latentd answers 404 with near matches",
    "xl-models/vae-missing": "the original draws with the VAE it has; latentd answers 404 with near matches",
    "controlnet/effective-region": "the original swallows a grey mask; latentd reads it",
    "errors/interrogate-missing-model": "the original's caption is '<error>'; latentd says which file goes where",
    "controlnet/detect-mediapipe_face": "needs mediapipe below 0.10.30, whose numpy 1 nothing else here works with",
    "scripts/prompt-matrix": "the legend's letters: this Pillow adds up overlapping glyphs, nine pixels differ",
    "scripts/prompt-matrix-start": "as scripts/prompt-matrix, three pixels",
}
"""Why the picture or the status differs."""

EXPLAINED_TEXT: dict[str, str] = {
    "hires/checkpoint": "the original had not hashed the second checkpoint yet when it wrote its name",
}
"""Why the infotext differs while the picture agrees."""
