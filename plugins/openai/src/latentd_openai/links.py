"""Signed URLs of pictures, as OpenAI has them: whoever has one may fetch that picture and no other."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from latentd.api import NotFound

if TYPE_CHECKING:
    from fastapi import Request

    from latentd_openai.drawing import Order

PATH = "/v1/images/files"


class Links:
    """Makes and checks URLs; they are valid until the process ends, as are the results behind them."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def to(self, request: Request, job_id: str, index: int, order: Order) -> str:
        """The URL of picture ``index`` of a job, by the host name under which the client reaches this server."""
        name = f"{index}.{order.format}"
        signature = self._signature(job_id, name, order.compression)
        query = urlencode({"job": job_id, "compression": order.compression, "signature": signature})
        return f"{str(request.base_url).rstrip('/')}{PATH}/{name}?{query}"

    def check(self, job_id: str, name: str, compression: int, signature: str) -> None:
        """Check the parts of a URL.

        :raises NotFound: this process did not make it.
        """
        if not hmac.compare_digest(self._signature(job_id, name, compression).encode(), signature.encode()):
            raise NotFound("there is no such picture", hint="URLs are valid until the server is started again")

    def _signature(self, job_id: str, name: str, compression: int) -> str:
        text = f"{job_id}\n{name}\n{compression}".encode(errors="surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()
