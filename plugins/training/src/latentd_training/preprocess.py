"""``/sdapi/v1/preprocess`` of early 2023: a folder of pictures cut, mirrored and captioned into another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from latentd.api import (
    InvalidRequest,
    JobControl,
    JsonValue,
    LatentdError,
    NotConfigured,
    Services,
    check_cover,
    check_size,
    install_hint,
    picture_bytes,
)
from latentd_training.captions import MAX_BYTES, readable, text_beside
from latentd_training.crops import FocusWeights, about_focus, best_size, cover, split
from latentd_training.dataset import picture_files, read_picture
from latentd_training.folders import existing_folder, folder_inside
from latentd_training.schemas import Preprocess
from latentd_training.storage import shortened, write_file

CAPTIONERS = (("process_caption", "clip"), ("process_caption_deepbooru", "deepdanbooru"))


def check_preprocess(body: Preprocess, services: Services) -> tuple[Path, Path]:
    """The folders read and written.

    :raises LatentdError: a field is impossible; it is named.
    """
    source = existing_folder(services, body.process_src, "process_src")
    target = folder_inside(services, body.process_dst, "process_dst")
    if source == target:
        raise InvalidRequest("process_dst: same directory specified as source and destination")
    if body.process_focal_crop_debug:
        raise InvalidRequest("process_focal_crop_debug: drawings of where it looks are not offered")
    check_size(body.process_width, body.process_height, services.settings)
    for field, name in CAPTIONERS:
        if getattr(body, field) and services.registry.interrogators.find(name) is None:
            raise NotConfigured(f"{field}: interrogator {name!r} not found", hint=install_hint("interrogators"))
    return source, target


def preprocess(
    body: Preprocess, source: Path, target: Path, services: Services, control: JobControl
) -> dict[str, JsonValue]:
    """Prepare every picture; broken ones are told and left out. On the worker.

    :raises LatentdError: the disk is full; an interrogator cannot run. :raises Interrupted: the job was stopped.
    """
    for message in body.unknown_warnings:
        control.warn(message)
    if body.process_focal_crop and body.process_focal_crop_face_weight > 0:
        control.warn("process_focal_crop_face_weight: faces are not looked for; edges and detail say where to cut")
    files = picture_files(source)
    if not files:
        raise InvalidRequest("process_src: no pictures")
    control.progress.job_count = len(files)
    written = 0
    for number, path in enumerate(files):
        control.check()
        control.progress.textinfo = f"Preprocessing [Image {number}/{len(files)}]"
        try:
            picture = read_picture(path, services)
            if not body.process_multicrop:
                check_cover(picture.size, (body.process_width, body.process_height), services.settings)
            text = text_beside(path, services) or ""
        except (LatentdError, OSError, ValueError) as error:
            control.warn(f"{readable(path.name)} is left out: {getattr(error, 'detail', error)}")
            continue
        for part in _parts(body, picture, readable(path.name), control):
            control.check()
            for index, flipped in enumerate([part, ImageOps.mirror(part)] if body.process_flip else [part]):
                name = f"{number:05}-{written}-{index}-{readable(path.stem)}"
                _write(body, flipped, target, shortened(name), text, services, control)
            written += 1
        control.progress.next_job()
    return {"pictures": written, "warnings": list(control.progress.warnings)}


def _parts(body: Preprocess, picture: Image.Image, name: str, control: JobControl) -> Iterator[Image.Image]:
    width, height = body.process_width, body.process_height
    picture = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    if body.process_multicrop:
        size = best_size(
            picture.size,
            sides=(body.process_multicrop_mindim, body.process_multicrop_maxdim),
            areas=(body.process_multicrop_minarea, body.process_multicrop_maxarea),
            largest=body.process_multicrop_objective == "Maximize area",
            threshold=body.process_multicrop_threshold,
        )
        if size is None:
            control.warn(f"{name} is left out: no size within process_multicrop's bounds fits it")
            return
        yield cover(picture, *size)
    elif body.process_focal_crop:
        weights = FocusWeights(
            edges=body.process_focal_crop_edges_weight, entropy=body.process_focal_crop_entropy_weight
        )
        yield about_focus(picture, width, height, weights)
    elif body.process_split:
        yield from split(
            picture, width, height, threshold=max(0.0, min(1.0, body.split_threshold)), overlap=body.overlap_ratio
        )
    else:
        yield cover(picture, width, height)


def _write(
    body: Preprocess,
    picture: Image.Image,
    target: Path,
    name: str,
    given: str,
    services: Services,
    control: JobControl,
) -> None:
    captions = []
    for field, interrogator in CAPTIONERS:
        if getattr(body, field):
            spec = services.registry.interrogators.require(interrogator)
            captions.append(spec.interrogate(picture.convert("RGB"), services.worker_context(control)))
    caption = ", ".join(captions)
    action = body.preprocess_txt_action
    if action == "copy" and given:
        caption = given
    elif action == "prepend" and given:
        caption = f"{given} {caption}"
    elif action == "append" and given:
        caption = f"{caption} {given}"
    caption = caption.strip()
    write_file(target / f"{name}.png", picture_bytes(picture, format="png"))
    if caption:
        write_file(target / f"{name}.txt", caption.encode()[:MAX_BYTES])
