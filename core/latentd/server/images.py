"""Pictures in requests and replies, coded off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from latentd.errors import NotConfigured, TooLarge
from latentd.settings import Settings
from latentd.types import OptionValues

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
MEBIBYTE = 1 << 20
_URL = ("http://", "https://")


class _Budget:
    """The pixels that the pictures of one request may have together."""

    def __init__(self, settings: Settings) -> None:
        self._left = self._most = settings.max_batch_pixels

    def take(self, image: Image) -> Image:
        """``image``, its pixels taken off.

        :raises TooLarge: there were fewer.
        """
        self._left -= image.width * image.height
        if self._left < 0:
            raise TooLarge(f"the pictures of one request have over {self._most} pixels", hint="--max-batch-mp")
        return image


class ImageIO:
    """Decodes and encodes pictures in two threads of its own.

    :param options: the option store, read at every call.
    :ivar max_pixels: bound on a picture's width times height.
    """

    def __init__(self, settings: Settings, options: OptionValues) -> None:
        self._settings = settings
        self._allow_urls = settings.allow_image_urls
        self.max_pixels = settings.max_pixels
        self._max_bytes = int(settings.max_request_mb * MEBIBYTE)
        self._options = options
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="images")

    async def decode(self, text: str) -> Image:
        """The picture behind base64, a data URL or an http(s) URL.

        :raises InvalidImage: it is none. :raises TooLarge: over the bounds. :raises NotConfigured: URLs are off.
        """
        return await self.run(lambda: self.decode_now(text))

    async def decode_all(self, texts: Sequence[str]) -> list[Image]:
        """The pictures of one request, in order; counted and measured before one is decoded.

        :raises TooLarge: more than ``--max-images``, or together over ``--max-batch-mp``; else as :meth:`decode`.
        """
        return await self.run(lambda: self._decode_all(texts))

    async def encode(self, image: Image, info: Mapping[str, str] | None = None, *, format: str | None = None) -> str:
        """Base64 text of ``image`` in the format of option ``samples_format``.

        :raises InvalidRequest: that format is unknown.
        """
        return await self.run(lambda: self.encode_now(image, info, format=format))

    async def encode_bytes(self, image: Image, info: Mapping[str, str] | None = None, *, format: str) -> bytes:
        """File bytes of ``image``."""
        from latentd.images.codecs import encode_image

        quality = int(self._options["jpeg_quality"])
        return await self.run(lambda: encode_image(image, format=format, quality=quality, info=info))

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, called on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def decode_now(self, text: str) -> Image:
        """As :meth:`decode`, on this thread."""
        return self.decoder()(text)

    def decoder(self) -> Callable[[str], Image]:
        """As :meth:`decode_now`, for the pictures of one request, which together may have ``--max-batch-mp``.

        What it returns raises TooLarge for the picture that goes over it.
        """
        from latentd.images import codecs

        budget = _Budget(self._settings)
        return lambda text: codecs.load_image(budget.take(self._opened(text)))

    def _decode_all(self, texts: Sequence[str]) -> list[Image]:
        from latentd.images import codecs
        from latentd.pipeline.planning.limits import check_images

        check_images(len(texts), self._settings)
        budget = _Budget(self._settings)
        return [codecs.load_image(image) for image in [budget.take(self._opened(text)) for text in texts]]

    def _opened(self, text: str) -> Image:
        """The picture behind ``text``, no pixel of it decoded."""
        from latentd.images import codecs

        fetched = text.startswith(_URL)
        data = self._fetched(text) if fetched else codecs.decode_base64(text, max_bytes=self._max_bytes)
        return codecs.open_header(data, self.max_pixels)

    def encode_now(self, image: Image, info: Mapping[str, str] | None = None, *, format: str | None = None) -> str:
        """As :meth:`encode`, on this thread."""
        from latentd.images import codecs

        chosen = str(self._options["samples_format"]) if format is None else format
        return codecs.encode_base64(image, format=chosen, quality=int(self._options["jpeg_quality"]), info=info)

    def _fetched(self, url: str) -> bytes:
        from latentd.server.fetch import fetch

        if not self._allow_urls:
            raise NotConfigured("Requests not allowed", hint="start the server with --allow-image-urls")
        if not self._options["api_enable_requests"]:
            raise NotConfigured("Requests not allowed", hint="option api_enable_requests is off")
        return fetch(
            url,
            max_bytes=self._max_bytes,
            user_agent=str(self._options["api_useragent"] or ""),
            forbid_local=bool(self._options["api_forbid_local_requests"]),
        )

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
