"""``latentd generate "PROMPT" -o FILE``: one picture without a server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.cli.serve import set_up_logging
from latentd.cli.settings import UNUSABLE, read_settings
from latentd.errors import InvalidRequest, LatentdError
from latentd.models.allocator import keep_freed_memory
from latentd.settings.parse import CommandParser, flags_parser

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.server.services import AppServices
    from latentd.types import GeneratedImage, GenerationRequest, Result

REFUSED = 1
POLL_SECONDS = 0.1
FILE_HELP = "file; its suffix is the format: png, jpg, webp or avif (default: picture.png)"


def run(arguments: Sequence[str]) -> int:
    """Draw and write the pictures; returns 1 if the request is refused or fails, 2 if flags are wrong."""
    parser = make_parser()
    own, rest = parser.parse_known_args(list(arguments))
    settings = read_settings(rest, flags_parser("latentd generate", also=parser.spellings))
    set_up_logging(settings, "WARNING")
    try:
        check_output(own.output, (own.width, own.height))
    except ValueError as error:
        parser.exit(UNUSABLE, f"{parser.prog}: {error}\n")
    keep_freed_memory()

    from latentd.server.services import create_services

    try:
        services = create_services(settings, serve_http=False)
        result = asyncio.run(_draw(services, make_request(own, max_pixels=services.images.max_pixels), quiet=own.quiet))
    except LatentdError as error:
        print(f"latentd: {error.detail}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130
    for path in write_pictures(result, own.output):
        print(path)
    return 0


def make_parser() -> CommandParser:
    """The parser of the command's own arguments; all others are flags of the server."""
    parser = CommandParser(
        "latentd generate",
        description="Draw a picture. Flags of the server (latentd serve --help) are understood too, as --data-dir.",
    )
    parser.add_argument("prompt", help="what to draw")
    parser.add_argument("-o", "--output", type=Path, default=Path("picture.png"), help=FILE_HELP)
    parser.add_argument("-n", "--negative", default="", metavar="PROMPT", help="what not to draw")
    parser.add_argument("--model", metavar="NAME", help="checkpoint (default: the selected one)")
    parser.add_argument("--sampler", default="Euler a", metavar="NAME", help="sampler (default: Euler a)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="sampling steps (default: 20)")
    parser.add_argument("--cfg", type=float, default=7.0, metavar="X", help="guidance scale (default: 7)")
    parser.add_argument("--width", type=int, default=512, metavar="PX", help="width (default: 512)")
    parser.add_argument("--height", type=int, default=512, metavar="PX", help="height (default: 512)")
    parser.add_argument("--seed", type=int, default=-1, metavar="N", help="seed (default: random)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="pictures to draw (default: 1)")
    parser.add_argument("--image", type=Path, metavar="FILE", help="picture to start from (img2img)")
    parser.add_argument(
        "--strength", type=float, default=0.75, metavar="X", help="how much to change it (default: 0.75)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    return parser


def make_request(given: argparse.Namespace, *, max_pixels: int) -> GenerationRequest:
    """The request that the arguments describe.

    :param max_pixels: bound on the size of ``--image``.
    :raises InvalidImage: ``--image`` does not exist or is not a picture.
    :raises TooLarge: it is over the bound.
    """
    from latentd.types import GenerationRequest

    fields: dict[str, Any] = {}  # of the request, each of a type of its own
    if given.image is not None:
        picture = _opened(given.image, max_pixels)
        fields = {"mode": "img2img", "init_images": (picture,), "denoising_strength": given.strength}
    return GenerationRequest(
        prompt=given.prompt,
        negative_prompt=given.negative,
        sampler_name=given.sampler,
        steps=given.steps,
        cfg_scale=given.cfg,
        width=given.width,
        height=given.height,
        seed=given.seed,
        n_iter=given.count,
        override_settings={"sd_model_checkpoint": given.model} if given.model else {},
        **fields,
    )


def _opened(path: Path, max_pixels: int) -> Image:
    from latentd.errors import InvalidImage
    from latentd.images.codecs import open_image

    try:
        return open_image(path.read_bytes(), max_pixels)
    except OSError as error:
        raise InvalidImage(f"{path} cannot be read: {error}") from error
    except InvalidImage as error:
        raise InvalidImage(f"{path} is no picture", hint=error.hint) from error


async def _draw(services: AppServices, request: GenerationRequest, *, quiet: bool) -> Result:
    from latentd.cli.bar import ProgressBar

    services.start()
    try:
        job = await services.submit(request)
        finished = asyncio.ensure_future(job.wait())
        with ProgressBar(sys.stderr, silent=quiet) as bar:
            while not (await asyncio.wait([finished], timeout=POLL_SECONDS))[0]:
                state = job.progress
                bar.show(state.job_no, state.job_count, state.sampling_step, state.sampling_steps)
        return await finished
    finally:
        services.close()


def check_output(output: Path, size: tuple[int, int]) -> None:
    """Check that a picture of ``size`` can be written to ``output``, and create its folder if it is missing.

    :raises ValueError: in one sentence: an unknown format, a picture too large for the format, or an unusable path.
    """
    from latentd.images.codecs import fits

    try:
        has_room = fits(size, output.suffix)
    except InvalidRequest as error:
        raise ValueError(f"-o {output}: pictures are written as .png, .jpg, .webp or .avif") from error
    if not has_room:
        raise ValueError(f"-o {output}: {output.suffix} holds no picture of {size[0]}x{size[1]}; use .png")
    if output.is_dir():
        raise ValueError(f"-o {output}: this is a folder; name a file in it")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"-o {output}: {error}") from error
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"-o {output}: the folder cannot be written")


def write_pictures(result: Result, output: Path) -> list[Path]:
    """Write the pictures with their infotexts; returns their paths: ``output``, then with -2, -3 before its suffix."""
    written = []
    for number, picture in enumerate(result.images, start=1):
        path = output if number == 1 else output.with_stem(f"{output.stem}-{number}")
        _write(picture, path)
        written.append(path)
    return written


def _write(picture: GeneratedImage, path: Path) -> None:
    from latentd.atomic import write_atomically
    from latentd.images.codecs import encode_image

    info = {"parameters": picture.infotext or "", **picture.info}
    write_atomically(path, encode_image(picture.image, format=path.suffix, info=info))
