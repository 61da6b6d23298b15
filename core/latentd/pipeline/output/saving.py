"""Writing a generation's pictures to the output folders (rules: a1111-saving)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from latentd.images.saving import SavedFiles, SaveOptions, save_image
from latentd.pipeline.generation import running
from latentd.pipeline.output.describe import describe, file_context
from latentd.prompts.filenames import FileContext, default_pattern, expand, relative_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.generations import Generation
    from latentd.pipeline.generation import RunningGeneration
    from latentd.types import OptionValues


def save_options(options: OptionValues) -> SaveOptions:
    """The saving options of a snapshot."""
    return SaveOptions(**{f.name: options[f.name] for f in fields(SaveOptions)})


def save_sample(
    gen: RunningGeneration, image: Image, index: int, infotext: str | None, *, suffix: str = ""
) -> SavedFiles | None:
    """Save picture ``index`` of the current batch; returns its files, or None if the job does not save."""
    if not gen.plan.save_samples or (is_cut_short(gen) and not gen.options["save_incomplete_images"]):
        return None
    kind = "img2img" if gen.plan.is_img2img else "txt2img"
    folder = gen.services.paths.resolve(gen.options[f"outdir_{kind}_samples"])
    return _save(gen, image, index, infotext, folder=folder, suffix=suffix, format=gen.options["samples_format"])


def is_cut_short(gen: RunningGeneration) -> bool:
    """Whether the present batch was ended early, by an interrupt or a skip."""
    if gen.cut_short is not None:
        return gen.cut_short
    return bool(gen.control.progress.interrupted or gen.control.progress.skipped)


def save_intermediate(generation: Generation, image: Image, index: int, *, suffix: str) -> None:
    """Save what picture ``index`` of the batch is before a later step, with the infotext so far.

    Nothing is written where the job saves no pictures.

    :param suffix: the end of the file's name, such as ``-before-highres-fix``.
    """
    gen = running(generation)
    save_sample(gen, image, index, describe(gen, index), suffix=suffix)


def save_grid(gen: RunningGeneration, grid: Image, infotext: str | None) -> SavedFiles | None:
    """Save the grid in the grid folder, named after the first picture; returns its files."""
    if not gen.request.save_images or not gen.options["grid_save"]:
        return None
    kind = "img2img" if gen.plan.is_img2img else "txt2img"
    folder = gen.services.paths.resolve(gen.options[f"outdir_{kind}_grids"])
    return _save(
        gen, grid, 0, infotext, folder=folder, suffix="", format=gen.options["grid_format"], basename="grid", grid=True
    )


def save_init_picture(gen: RunningGeneration, image: Image, digest: str) -> None:
    """Save an init picture under its MD5 hash (option ``save_init_img``)."""
    folder = gen.services.paths.resolve(gen.options["outdir_init_images"])
    try:
        save_image(image, folder, forced_name=digest, format="png", options=save_options(gen.options))
    except OSError as error:
        gen.warn(unsaved("an init picture", error))


def unsaved(what: str, error: OSError) -> str:
    """The warning for a picture that was made but could not be written."""
    return f"{what} could not be saved: {error.strerror or type(error).__name__}"


def _save(
    gen: RunningGeneration,
    image: Image,
    index: int,
    infotext: str | None,
    *,
    folder: Path,
    suffix: str,
    format: str,
    basename: str = "",
    grid: bool = False,
) -> SavedFiles | None:
    context = file_context(gen, image, index, now=datetime.datetime.now().astimezone(), grid=grid)
    saved = write_picture(
        image,
        context,
        infotext,
        gen.options,
        folder=folder,
        suffix=suffix,
        format=format,
        basename=basename,
        grid=grid,
        warn=gen.warn,
    )
    if saved is None:
        return None
    gen.hooks.before_save(gen, image, index, str(saved.image))
    return saved


def write_picture(
    image: Image,
    context: FileContext,
    infotext: str | None,
    options: OptionValues,
    *,
    folder: Path,
    format: str,
    warn: Callable[[str], None],
    suffix: str = "",
    basename: str = "",
    grid: bool = False,
) -> SavedFiles | None:
    """Write a picture of a generation or a script; returns its files, or None if the disk is full or read-only.

    :param context: the values for file-name patterns.
    :param folder: the output folder.
    :param warn: called with a sentence if the picture cannot be written; it can still be part of the reply.
    """
    to_dirs = options["grid_save_to_dirs"] if grid else options["save_to_dirs"]
    subfolder = str(relative_folder(options["directories_filename_pattern"], context)) if to_dirs else ""
    name = ""
    if not grid or options["grid_extended_filename"]:
        name = expand(default_pattern(options["samples_filename_pattern"], bool(to_dirs)), context)
    try:
        return save_image(
            image,
            folder,
            name=name,
            subfolder=subfolder,
            basename=basename,
            suffix=suffix,
            format=format,
            info={"parameters": infotext} if infotext and options["enable_pnginfo"] else None,
            options=save_options(options),
        )
    except OSError as error:
        warn(unsaved("a grid" if grid else "a picture", error))
        return None
