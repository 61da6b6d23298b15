"""The configured folders, absolute: AUTOMATIC1111's layout below one data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from latentd.settings.file_flags import FileFlags

# Kind of model → flags that name its folders; the first is AUTOMATIC1111's own, the others are searched after it.
FOLDER_FLAGS: dict[str, tuple[str, ...]] = {
    "Stable-diffusion": ("ckpt_dir",),
    "VAE": ("vae_dir",),
    "Lora": ("lora_dir", "lyco_dir_backcompat"),
    "embeddings": ("embeddings_dir",),
    "hypernetworks": ("hypernetwork_dir",),
    "ControlNet": ("controlnet_dir",),
    "Codeformer": ("codeformer_models_path",),
    "GFPGAN": ("gfpgan_models_path", "gfpgan_dir"),
    "ESRGAN": ("esrgan_models_path",),
    "BSRGAN": ("bsrgan_models_path",),
    "RealESRGAN": ("realesrgan_models_path",),
    "DAT": ("dat_models_path",),
    "LDSR": ("ldsr_models_path",),
    "ScuNET": ("scunet_models_path",),
    "SwinIR": ("swinir_models_path",),
    "CLIP": ("clip_models_path",),
    "annotators": ("controlnet_annotator_models_path",),
}
# Kinds that always have a folder below models/.
BELOW_MODELS = frozenset({"Stable-diffusion", "VAE", "ControlNet"})
MODELS_PREFIX = "models/"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Configured folders and files. Nothing here touches the disk; folders need not exist."""

    data: Path
    models_root: Path
    config_file: Path
    styles_patterns: tuple[str, ...]
    checkpoint: Path
    folders: dict[str, list[Path]] = field(default_factory=dict)
    vae: Path | None = None

    @classmethod
    def from_settings(cls, settings: FileFlags) -> Paths:
        """The folders that ``settings`` name; relative ones are taken from the data folder."""
        data = Path(os.path.normpath(Path(settings.data_dir).expanduser().absolute()))
        paths = cls(
            data=data,
            models_root=data / Path(settings.models_dir or "models").expanduser(),
            config_file=data / settings.ui_settings_file,
            styles_patterns=tuple(str(data / entry) for entry in settings.styles_file or ("styles.csv",)),
            checkpoint=data / settings.ckpt,
            vae=data / settings.vae_path if settings.vae_path else None,
        )
        for kind, flags in FOLDER_FLAGS.items():
            named = [paths.place(value) for flag in flags if (value := getattr(settings, flag))]
            own = [paths.models_root / kind] if kind in BELOW_MODELS else []
            paths.folders[kind] = list(dict.fromkeys(own + named))
        return paths

    def models(self, kind: str) -> list[Path]:
        """Folders of one kind (``Stable-diffusion``, ``Lora``, ``ESRGAN``, ``ControlNet``...), in order of precedence.

        A kind without a flag has the folder of its name below the models folder.
        """
        return list(self.folders.get(kind) or [self.models_root / kind])

    def model_place(self, path: Path) -> tuple[str, str] | None:
        """The kind of the folder of models that has ``path``, and its name there; None outside those folders.

        Of two folders, one inside the other, the inner one counts.
        """
        folders = [(kind, folder) for kind in self.folders for folder in self.folders[kind]]
        having = [(kind, folder) for kind, folder in folders if path.is_relative_to(folder)]
        if having:
            kind, folder = max(having, key=lambda found: len(found[1].parts))
            return kind, path.relative_to(folder).as_posix()
        if not path.is_relative_to(self.models_root):
            return None
        kind, *rest = path.relative_to(self.models_root).parts
        return (kind, "/".join(rest)) if rest else None

    def place(self, text: str) -> Path:
        """A folder or file named by a flag, absolute; ``models/...`` follows ``--models-dir``."""
        if text.startswith(MODELS_PREFIX):
            return self.models_root / text.removeprefix(MODELS_PREFIX)
        return self.resolve(text)

    def resolve(self, text: str) -> Path:
        """``text`` as an absolute path; a relative one is relative to the data folder (output folders, ``--ckpt``)."""
        return Path(os.path.normpath(self.data / Path(text).expanduser()))

    def contains(self, path: Path) -> bool:
        """Whether ``path`` lies in the data folder after links are followed."""
        return path.resolve().is_relative_to(self.data.resolve())
