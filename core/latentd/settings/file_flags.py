"""Flags that name files and folders, and flags about the settings file."""

from __future__ import annotations

from dataclasses import dataclass

from latentd.settings.flag import integer, switch, text, texts

GROUP = "files and folders"
SETTINGS = "settings file"
DIRECTORY = "DIR"


@dataclass(frozen=True, kw_only=True)
class FileFlags:
    """The places of models, settings and pictures. Relative folders are relative to the data folder."""

    data_dir: str = text(
        ".", "base folder of models, embeddings, outputs and config.json", group=GROUP, metavar=DIRECTORY
    )
    models_dir: str | None = text(
        None, "folder of models in place of the data folder's 'models'", group=GROUP, metavar=DIRECTORY, listed=False
    )
    ckpt: str = text("model.ckpt", "checkpoint file to list and to select at start", group=GROUP, metavar="FILE")
    ckpt_dir: str | None = text(None, "a further folder of checkpoints", group=GROUP, metavar=DIRECTORY)
    config: str = text(
        "configs/v1-inference.yaml", "model configuration for checkpoints without one", group=GROUP, metavar="FILE"
    )
    vae_dir: str | None = text(None, "a further folder of VAE files", group=GROUP, metavar=DIRECTORY)
    vae_path: str | None = text(
        None, "VAE file to use always; switches the VAE options off", group=GROUP, metavar="FILE"
    )
    embeddings_dir: str = text("embeddings", "folder of textual-inversion embeddings", group=GROUP, metavar=DIRECTORY)
    hypernetwork_dir: str = text("models/hypernetworks", "folder of hypernetworks", group=GROUP, metavar=DIRECTORY)
    lora_dir: str = text("models/Lora", "folder of LoRA networks", group=GROUP, metavar=DIRECTORY)
    lyco_dir_backcompat: str = text(
        "models/LyCORIS",
        "folder of LyCORIS networks",
        group=GROUP,
        metavar=DIRECTORY,
        extra_names=("--lyco-dir",),
    )
    controlnet_dir: str | None = text(None, "a further folder of ControlNet models", group=GROUP, metavar=DIRECTORY)
    controlnet_annotator_models_path: str | None = text(
        None, "folder of the preprocessors' models", group=GROUP, metavar=DIRECTORY
    )
    codeformer_models_path: str = text("models/Codeformer", "folder of CodeFormer models", group=GROUP, metavar="DIR")
    gfpgan_models_path: str = text("models/GFPGAN", "folder of GFPGAN models", group=GROUP, metavar="DIR")
    gfpgan_dir: str = text("./GFPGAN", "a further folder of GFPGAN models", group=GROUP, metavar=DIRECTORY)
    gfpgan_model: str | None = text(None, "name of the GFPGAN model file", group=GROUP, metavar="FILE")
    esrgan_models_path: str = text("models/ESRGAN", "folder of ESRGAN models", group=GROUP, metavar="DIR")
    bsrgan_models_path: str = text("models/BSRGAN", "folder of BSRGAN models", group=GROUP, metavar="DIR")
    realesrgan_models_path: str = text("models/RealESRGAN", "folder of Real-ESRGAN models", group=GROUP, metavar="DIR")
    dat_models_path: str = text("models/DAT", "folder of DAT models", group=GROUP, metavar="DIR")
    ldsr_models_path: str = text("models/LDSR", "folder of LDSR models", group=GROUP, metavar="DIR")
    scunet_models_path: str = text("models/ScuNET", "folder of ScuNET models", group=GROUP, metavar="DIR")
    swinir_models_path: str = text("models/SwinIR", "folder of SwinIR models", group=GROUP, metavar="DIR")
    clip_models_path: str | None = text(None, "folder of CLIP models for interrogation", group=GROUP, metavar="DIR")
    styles_file: tuple[str, ...] = texts(
        (), "styles file or pattern; may be given several times (default: styles.csv)", group=GROUP, metavar="FILE"
    )
    textual_inversion_templates_dir: str = text(
        "textual_inversion_templates", "folder of training templates", group=GROUP, metavar=DIRECTORY
    )
    localizations_dir: str = text(
        "localizations", "folder of translations of the web page", group=GROUP, metavar=DIRECTORY, acts=False
    )
    output_dir: tuple[str, ...] = texts(
        (),
        "a folder in which output folders set over the API may lie, beside the data folder's output, outputs and log "
        "and those of the settings file; may be given several times",
        group=GROUP,
        metavar=DIRECTORY,
        listed=False,
    )
    training_dir: tuple[str, ...] = texts(
        (),
        "a folder in which pictures to train on, and the logs of trainings, may lie; may be given several times "
        "(default: train)",
        group=GROUP,
        metavar=DIRECTORY,
        listed=False,
    )
    unix_filenames_sanitization: bool = switch("keep every character but '/' in file names", group=GROUP)
    filenames_max_length: int = integer(128, "longest file name of a saved picture", group=GROUP)

    ui_settings_file: str = text("config.json", "file in which the options are kept", group=SETTINGS, metavar="FILE")
    ui_config_file: str = text(
        "ui-config.json", "file of the web page's defaults", group=SETTINGS, metavar="FILE", acts=False
    )
    freeze_settings: bool = switch("refuse every change of an option", group=SETTINGS)
    freeze_settings_in_sections: str | None = text(
        None, "refuse changes in these sections, separated by commas (saving-images,upscaling)", group=SETTINGS
    )
    freeze_specific_settings: str | None = text(
        None, "refuse changes of these options, separated by commas", group=SETTINGS
    )
    hide_ui_dir_config: bool = switch("ignore changes of output folders and file-name patterns", group=SETTINGS)
    no_prompt_history: bool = switch("do not write params.txt", group=SETTINGS, listed=False)
