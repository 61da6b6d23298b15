"""Prompt templates: a line each, in which ``[name]`` and ``[filewords]`` are filled in."""

from __future__ import annotations

from pathlib import Path

from latentd.api import InvalidRequest, NotFound, Services, near_matches, read_regular

NAME, WORDS = "[name]", "[filewords]"
MAX_BYTES = 1 << 20

#: Under the names of AUTOMATIC1111's own files; ``captions.txt`` takes each picture's caption as it is.
CARRIED: dict[str, tuple[str, ...]] = {
    "subject.txt": (
        "a photo of [name]",
        "a picture of one [name]",
        "a clear photo of [name]",
        "[name] from near",
        "a bright picture of [name]",
        "[name] seen from the front",
        "a drawing of [name]",
        "[name]",
    ),
    "subject_filewords.txt": (
        "a photo of [name], [filewords]",
        "a picture of one [name], [filewords]",
        "a clear photo of [name], [filewords]",
        "a drawing of [name], [filewords]",
        "[name], [filewords]",
    ),
    "style.txt": (
        "a painting in the style of [name]",
        "a picture in the style of [name]",
        "a drawing in the style of [name]",
        "art by [name]",
        "[name]",
    ),
    "style_filewords.txt": (
        "[filewords], a painting in the style of [name]",
        "a picture of [filewords] in the style of [name]",
        "[filewords], art by [name]",
        "[filewords], [name]",
    ),
    "hypernetwork.txt": (
        "a photo of [filewords]",
        "a picture of [filewords]",
        "a drawing of [filewords]",
        "[filewords]",
    ),
    "none.txt": ("picture",),
    "captions.txt": ("[filewords]",),
}


def read_template(services: Services, name: str, field: str = "template_filename") -> list[str]:
    """The lines of the template ``name``: a file of ``--textual-inversion-templates-dir``, else one that is carried.

    :raises NotFound: there is none, as a 422. :raises InvalidRequest: it is empty or too large.
    """
    if not name.strip():
        raise InvalidRequest(f"{field}: Prompt template file not selected")
    files = _files(services)
    for wanted in (name, f"{name}.txt"):
        if wanted in files:
            lines = _lines(files[wanted], field)
            break
        if wanted in CARRIED:
            lines = list(CARRIED[wanted])
            break
    else:
        hint = near_matches(name, [*files, *CARRIED]) or f"there are {', '.join(sorted({*files, *CARRIED}))}"
        raise NotFound(f"{field}: Prompt template file {name} not found", hint=hint, status=422)
    if not lines:
        raise InvalidRequest(f"{field}: {name} has no line")
    return lines


def _files(services: Services) -> dict[str, Path]:
    """The files of the folder and those below it by name, as AUTOMATIC1111 lists them."""
    folder = services.paths.resolve(services.settings.textual_inversion_templates_dir)
    if not folder.is_dir():
        return {}
    return {path.name: path for path in sorted(folder.rglob("*.txt"))}


def _lines(path: Path, field: str) -> list[str]:
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{field}: {path.name} cannot be read", hint=str(error)) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
