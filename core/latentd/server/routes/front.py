"""The first page: what this server is, which models it has, and what to do next."""

from __future__ import annotations

import html
import json
import shlex
from typing import TYPE_CHECKING

from fastapi import Request, Response

from latentd import __version__
from latentd.plugins.catalogue import WEB, install_hint
from latentd.server.errors import error_body
from latentd.server.json_reply import SafeJSONResponse
from latentd.server.pages import plain_page
from latentd.server.routing import APIRouter

if TYPE_CHECKING:
    from latentd.server.services import AppServices

MOST_MODELS = 40
SIGN_IN = "sign-in"


def router(services: AppServices) -> APIRouter:
    """Route ``/``: one page, whatever ``Accept`` says, since clients ask for it to see whether a server is there.

    It is public. Who has not shown the credentials that the server asks for does not see the models.
    """
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False, openapi_extra={"x-public": True})
    async def front(request: Request) -> Response:
        """Name, models, documentation, and the next command."""
        known = _is_known(services, request)
        if not known and SIGN_IN in request.query_params:
            reply = error_body("HTTPException", "Not authenticated")
            return SafeJSONResponse(reply, 401, {"WWW-Authenticate": "Basic"})
        address = str(request.base_url).rstrip("/")
        parts = [_head(address)]
        parts += [_models(services, address), _command(services, address)] if known else [_stranger(services)]
        parts.append(_documentation(html.escape(request.scope.get("root_path", ""))))
        return plain_page("latentd", "\n".join(parts))

    return routes


def _is_known(services: AppServices, request: Request) -> bool:
    """Whether the caller may use the server: it asks for no credentials, they are right, or a plugin accepts them."""
    vouching = services.hooks.implemented("authenticate")
    if not (services.settings.api_auth or services.settings.api_key or vouching):
        return True
    if getattr(request.state, "user", None) is not None:
        return True
    return bool(vouching) and services.hooks.authenticate(request) is not None


def _head(address: str) -> str:
    where, package = html.escape(address), html.escape(install_hint(WEB))
    return (
        f"<h1>latentd <small>{html.escape(__version__)}</small></h1>\n"
        f"<p>A Stable Diffusion server that speaks AUTOMATIC1111's web API, at <code>{where}</code>.</p>\n"
        f"<p>The package <code>latentd-web</code> puts a page here that draws pictures: <code>{package}</code>.</p>"
    )


def _stranger(services: AppServices) -> str:
    link = f' <a href="?{SIGN_IN}">Sign in</a> to see its models.' if services.settings.api_auth else ""
    return f"<p>This server asks for credentials.{link}</p>"


def _models(services: AppServices, address: str) -> str:
    found = list(services.models.checkpoints)
    selected = services.models.checkpoints.default(services.options["sd_model_checkpoint"]) if found else None
    rows = [
        f"<li><code>{html.escape(info.title)}</code>{' (selected)' if info is selected else ''}</li>"
        for info in found[:MOST_MODELS]
    ]
    if len(found) > MOST_MODELS:
        rows.append(f"<li>and {len(found) - MOST_MODELS} more: <code>/sdapi/v1/sd-models</code></li>")
    listed = "<ul>\n" + "\n".join(rows) + "\n</ul>" if rows else "<p>There are none yet.</p>"
    return f"<h2>Models</h2>\n{listed}{'' if _own(services) else _how_to_add(services, address)}"


def _own(services: AppServices) -> bool:
    """Whether there is a checkpoint other than those in installed packages."""
    brought = {str(file.path) for file in services.registry.checkpoints.values()}
    return any(info.filename not in brought for info in services.models.checkpoints)


def _how_to_add(services: AppServices, address: str) -> str:
    folder = services.paths.models("Stable-diffusion")[0]
    refresh = f"curl -X POST {_credentials(services)}{shlex.quote(address + '/sdapi/v1/refresh-checkpoints')}"
    return (
        f"\n<p>For one of your own, put a <code>.safetensors</code> file into <code>{html.escape(str(folder))}</code>"
        f" and have the server look again:</p>\n<pre>{html.escape(refresh)}</pre>"
    )


def _command(services: AppServices, address: str) -> str:
    size = 512 if _own(services) else 128
    body = json.dumps({"prompt": "a sunflower", "steps": 20, "width": size, "height": size})
    command = (
        f"curl -s {_credentials(services)}{shlex.quote(address + '/sdapi/v1/txt2img')} \\\n"
        f"  -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n  -d '{body}' \\\n  -o sunflower.png"
    )
    return f"<h2>Draw a picture</h2>\n<pre>{html.escape(command)}</pre>"


def _credentials(services: AppServices) -> str:
    """The arguments of curl that show the caller's credentials."""
    if services.settings.api_auth:
        return "-u USER:PASSWORD "
    return "-H 'Authorization: Bearer KEY' " if services.settings.api_key else ""


def _documentation(root: str) -> str:
    entries = (
        ("docs", "every endpoint, to read and to try"),
        ("redoc", "the same, to read"),
        ("openapi.json", "the same, for programs: generators make clients of it"),
        ("readyz", "whether pictures can be drawn, and if not, why"),
    )
    rows = "\n".join(f'<li><a href="{root}/{path}">/{path}</a>: {words}</li>' for path, words in entries)
    return (
        f"<h2>Documentation</h2>\n<ul>\n{rows}\n</ul>\n"
        '<p class="faint">Guides and reference are in the folder <code>docs</code> of the source. On this machine, '
        "<code>latentd --help</code> lists the commands, and <code>latentd models</code> the files that are found.</p>"
    )
