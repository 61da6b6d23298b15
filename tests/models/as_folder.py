"""Loaded models saved as folders of diffusers."""

from __future__ import annotations

from pathlib import Path

from latentd.models.loaded import LoadedModel


def diffusers_folder(model: LoadedModel, folder: Path) -> Path:
    """``model``, of one text encoder, saved as a folder without a scheduler."""
    assert model.vae is not None
    model.unet.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")
    model.text_encoders[0].transformer.save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text("{}")
    return folder
