"""Putting a fetched model where the server looks for it, by what it is."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from latentd.cli.pull_sources import Source, SourceFile
from latentd.errors import InvalidRequest, LatentdError

#: Parts of tensors' names → the folder of such files; the first that fits counts.
_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lora_down", "lora_up", "lora_A", "lora_B", "hada_w", "lokr_w", "oft_blocks", "dora_scale"), "Lora"),
    (("controlnet_cond_embedding", "control_model.", "input_hint_block", "lllite"), "ControlNet"),
    (("model.diffusion_model.",), "Stable-diffusion"),
    (("emb_params", "string_to_param", "clip_g", "clip_l"), "embeddings"),
    (("decoder.up", "first_stage_model.decoder"), "VAE"),
    (("conv_first", "RRDB_trunk", "body.0.rdb"), "ESRGAN"),
)


def waiting_folder(data: Path, source: Source) -> Path:
    """The folder in which a download lies until it is whole, the same for the same address."""
    return data / "cache" / "pull" / hashlib.sha256(source.files[0].url.encode()).hexdigest()[:16]


def kind_of(path: Path) -> str:
    """The folder below models/ for a file, by the names of its tensors.

    :raises InvalidRequest: they do not say.
    """
    from latentd.models.files.shapes import read_shapes

    try:
        keys = list(read_shapes(path))
    except (LatentdError, OSError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", hint="say what it is by --kind") from error
    for signs, kind in _SIGNS:
        if any(sign in key for key in keys for sign in signs):
            return kind
    raise InvalidRequest(f"{path.name} does not say what it is", hint="say it by --kind, as --kind Lora")


def place(source: Source, files: Sequence[tuple[SourceFile, Path]], folder: Path, *, force: bool = False) -> list[str]:
    """Move the files to ``folder``, and say so, a line each.

    :raises InvalidRequest: another file of a name is there.
    """
    target = folder / source.folder if source.folder else folder
    lines = []
    for file, path in files:
        there = target / file.name
        if there.exists() and not force and not _same(there, path):
            raise InvalidRequest(f"{there} is there and differs", hint="--force replaces it")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, there)
        lines.append(f"{there}")
    waiting = files[0][1].parents[len(Path(files[0][0].name).parts) - 1]
    shutil.rmtree(waiting, ignore_errors=True)
    return lines


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    digests = []
    for path in (one, other):
        with path.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").digest())
    return digests[0] == digests[1]
