"""Decoding and encoding pictures of requests and replies, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from latentd.errors import NotConfigured, TooLarge
from latentd.settings import Settings
from latentd.types import OptionValues

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
MEBIBYTE = 1 << 20
_URL = ("http://", "https://")


#: Results of a line of pictures that may wait to be encoded while the next one is worked on.
BEHIND = 1


class _Budget:
    """What the pictures of one request may have together.

    :param pixels: how many, and ``flag``, which says so. :param fetched: bytes of those behind URLs.
    """

    def __init__(self, pixels: int, flag: str, fetched: int) -> None:
        self._left = self._most = pixels
        self._flag = flag
        self.fetched = fetched

    def take(self, image: Image) -> Image:
        """Return ``image``, and subtract its pixels.

        :raises TooLarge: fewer are left.
        """
        self._left -= image.width * image.height
        if self._left < 0:
            raise TooLarge(f"the pictures of one request have over {self._most} pixels", hint=self._flag)
        return image


class ImageIO:
    """Decodes and encodes pictures in two threads of its own.

    :param options: the option store, read at every call.
    :ivar max_pixels: the most that a picture's width times height may be.
    """

    def __init__(self, settings: Settings, options: OptionValues) -> None:
        self._settings = settings
        self._allow_urls = settings.allow_image_urls
        self.max_pixels = settings.max_pixels
        self._max_bytes = int(settings.max_request_mb * MEBIBYTE)
        self._options = options
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="images")

    async def decode(self, text: str) -> Image:
        """The picture in base64 or a data URL, or behind an http(s) URL.

        :raises InvalidImage: it is no picture.
        :raises TooLarge: it is over the bounds.
        :raises NotConfigured: URLs are not enabled.
        """
        return await self.run(lambda: self.decode_now(text))

    async def decode_all(self, texts: Sequence[str]) -> list[Image]:
        """The pictures of one request, in order; their number and sizes are checked before any is decoded.

        :raises TooLarge: more than ``--max-images``, or over ``--max-batch-mp`` in all; also all of :meth:`decode`.
        """
        return await self.run(lambda: self._decode_all(texts))

    async def decode_later(self, texts: Sequence[str]) -> list[Callable[[], Image]]:
        """What decodes each picture of a request that goes through them one by one, see :meth:`through`.

        They are counted and measured now, and together bounded by the work that they are, not by the memory.

        :raises TooLarge: more than ``--max-images``, or together over ``--max-total-mp``; else as :meth:`decode`.
        """
        return await self.run(lambda: self._decode_later(texts))

    def through(
        self, pictures: Sequence[Callable[[], Image]], work: Callable[[Image], tuple[Image, Mapping[str, str]]]
    ) -> list[str]:
        """Base64 texts of what ``work`` makes of each picture, a picture and its texts, in order; called on the worker.

        On the threads of this class one picture is decoded ahead and :data:`BEHIND` are encoded behind, so that few
        pictures are in memory at once, however many there are.

        :raises InvalidImage: a picture is damaged. :raises Exception: what ``work`` raises.
        """
        encoded: list[Future[str]] = []
        coming = (self._pool.submit(decode) for decode in pictures)
        following = next(coming, None)
        try:
            while following is not None:
                picture = following.result()
                following = next(coming, None)
                encoded.append(self._pool.submit(self.encode_now, *work(picture)))
                if len(encoded) > BEHIND:
                    encoded[-1 - BEHIND].result()
            return [one.result() for one in encoded]
        finally:
            for pending in (*encoded, *([following] if following else ())):
                pending.cancel()

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
        """Call ``work`` on one of the threads and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def decode_now(self, text: str) -> Image:
        """Decode on the calling thread: see :meth:`decode`."""
        return self.decoder()(text)

    def decoder(self) -> Callable[[str], Image]:
        """A :meth:`decode_now` for the pictures of one request, which may have ``--max-batch-mp`` in all.

        The function raises TooLarge for the picture that exceeds this sum.
        """
        from latentd.images import codecs

        budget = self._at_once()
        return lambda text: codecs.load_image(self._opened(text, budget))

    def _at_once(self) -> _Budget:
        """For pictures that are in memory together."""
        return _Budget(self._settings.max_batch_pixels, "--max-batch-mp", self._max_bytes)

    def _decode_all(self, texts: Sequence[str]) -> list[Image]:
        from latentd.images import codecs
        from latentd.pipeline.planning.limits import check_images

        check_images(len(texts), self._settings)
        budget = self._at_once()
        return [codecs.load_image(image) for image in [self._opened(text, budget) for text in texts]]

    def _decode_later(self, texts: Sequence[str]) -> list[Callable[[], Image]]:
        from latentd.images import codecs
        from latentd.pipeline.planning.limits import check_images

        def decode(source: str | bytes) -> Image:
            data = source if isinstance(source, bytes) else self._data(source, budget)
            return codecs.load_image(codecs.open_header(data, self.max_pixels))

        check_images(len(texts), self._settings)
        budget = _Budget(self._settings.max_total_pixels, "--max-total-mp", self._max_bytes)
        # What was fetched is kept; what the request itself holds is read again, rather than kept twice.
        sources = [self._data(text, budget) if text.startswith(_URL) else text for text in texts]
        for source in sources:
            data = source if isinstance(source, bytes) else self._data(source, budget)
            budget.take(codecs.open_header(data, self.max_pixels))
        return [partial(decode, source) for source in sources]

    def _opened(self, text: str, budget: _Budget) -> Image:
        """The picture behind ``text``, measured, no pixel of it decoded."""
        from latentd.images import codecs

        return budget.take(codecs.open_header(self._data(text, budget), self.max_pixels))

    def _data(self, text: str, budget: _Budget) -> bytes:
        """The file's bytes behind ``text``."""
        from latentd.images import codecs

        if not text.startswith(_URL):
            return codecs.decode_base64(text, max_bytes=self._max_bytes)
        data = self._fetched(text, budget.fetched)
        budget.fetched -= len(data)
        return data

    def encode_now(self, image: Image, info: Mapping[str, str] | None = None, *, format: str | None = None) -> str:
        """Encode on the calling thread: see :meth:`encode`."""
        from latentd.images import codecs

        chosen = str(self._options["samples_format"]) if format is None else format
        return codecs.encode_base64(image, format=chosen, quality=int(self._options["jpeg_quality"]), info=info)

    def _fetched(self, url: str, most: int) -> bytes:
        from latentd.server.fetch import fetch

        if not self._allow_urls:
            raise NotConfigured("Requests not allowed", hint="start the server with --allow-image-urls")
        if not self._options["api_enable_requests"]:
            raise NotConfigured("Requests not allowed", hint="option api_enable_requests is off")
        return fetch(
            url,
            max_bytes=most,
            user_agent=str(self._options["api_useragent"] or ""),
            forbid_local=bool(self._options["api_forbid_local_requests"]),
        )

    def close(self) -> None:
        """End the threads; waiting work is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
