"""``latentd generate "PROMPT" -o FILE``: one picture without a server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentd.cli.bar import ProgressBar
from latentd.cli.serve import set_up_logging
from latentd.errors import LatentdError
from latentd.settings import parse_settings
from latentd.settings.parse import flags_parser

if TYPE_CHECKING:
    from PIL.Image import Image

    from latentd.server.services import AppServices
    from latentd.types import GeneratedImage, GenerationRequest, Result

REFUSED = 1
POLL_SECONDS = 0.1


def run(arguments: Sequence[str]) -> int:
    """Draw and write the pictures; gives 1 when the request is refused or fails."""
    own, rest = make_parser().parse_known_args(list(arguments))
    settings = parse_settings(rest, parser=flags_parser("latentd generate"))
    set_up_logging(settings, "WARNING")

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


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's own arguments; what is left are flags of the server."""
    parser = argparse.ArgumentParser(
        "latentd generate",
        allow_abbrev=False,
        description="Draw a picture. Flags of the server (latentd serve --help) are understood too, as --data-dir.",
    )
    parser.add_argument("prompt", help="what to draw")
    parser.add_argument("-o", "--output", type=Path, default=Path("picture.png"), help="file (default: picture.png)")
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
    :raises InvalidImage: ``--image`` is not there or no picture. :raises TooLarge: it is over the bound.
    """
    from latentd.types import GenerationRequest

    fields: dict[str, Any] = {}
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


def write_pictures(result: Result, output: Path) -> list[Path]:
    """Write the pictures and give their paths: ``output``, then ``output`` with -2, -3 before the suffix."""
    output.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for number, picture in enumerate(result.images, start=1):
        path = output if number == 1 else output.with_stem(f"{output.stem}-{number}")
        _write(picture, path)
        written.append(path)
    return written


def _write(picture: GeneratedImage, path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    if path.suffix.lower() != ".png":
        picture.image.convert("RGB").save(path)
        return
    texts = PngInfo()
    for key, value in {"parameters": picture.infotext or "", **picture.info}.items():
        texts.add_text(key, value)
    picture.image.save(path, pnginfo=texts)
