"""Lists of samplers, upscalers, styles, scripts and so on; no request searches a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

from latentd.images.resize import LATENT_MODES
from latentd.images.upscalers import RESIZERS
from latentd.plugins.script_info import script_info
from latentd.prompts.styles import Style
from latentd.server.json_reply import json_reply
from latentd.server.routing import APIRouter
from latentd.server.schemas import lists
from latentd.types import JsonValue

if TYPE_CHECKING:
    from latentd.generations import AnyScript
    from latentd.server.services import AppServices
    from latentd.types import Mode

_FACE_RESTORERS = ("CodeFormer", "GFPGAN")
_REALESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
_REALESRGAN_MODELS = (
    ("R-ESRGAN General 4xV3", "v0.2.5.0/realesr-general-x4v3.pth", 4),
    ("R-ESRGAN General WDN 4xV3", "v0.2.5.0/realesr-general-wdn-x4v3.pth", 4),
    ("R-ESRGAN AnimeVideo", "v0.2.5.0/realesr-animevideov3.pth", 4),
    ("R-ESRGAN 4x+", "v0.1.0/RealESRGAN_x4plus.pth", 4),
    ("R-ESRGAN 4x+ Anime6B", "v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth", 4),
    ("R-ESRGAN 2x+", "v0.2.1/RealESRGAN_x2plus.pth", 2),
)
_MODES: tuple[Mode, ...] = ("txt2img", "img2img")
_WITHOUT_ROW = "Hypertile"
_SECTIONS = ("extra options", "hypertile", "soft inpainting", "controlnet", "controlnet m2m", "refiner", "seed")


def router(services: AppServices) -> APIRouter:
    """The list routes that concern no model file."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["lists"])
    _add_sampling(routes, services)
    _add_pictures(routes, services)
    _add_scripts(routes, services)
    return routes


def _add_sampling(routes: APIRouter, services: AppServices) -> None:
    @routes.get("/samplers", name="get_samplers", response_model=list[lists.SamplerItem])
    async def samplers() -> list[dict[str, JsonValue]]:
        """Samplers with their aliases and options; option values are texts."""
        return [
            {"name": spec.name, "aliases": list(spec.aliases), "options": spec.api_options()}
            for spec in services.registry.samplers.values()
            if spec.listed
        ]

    @routes.get("/schedulers", name="get_schedulers", response_model=list[lists.SchedulerItem])
    async def schedulers() -> list[dict[str, JsonValue]]:
        """Noise schedules."""
        return [
            {
                "name": spec.name,
                "label": spec.label,
                "aliases": list(spec.aliases) or None,
                "default_rho": spec.default_rho,
                "need_inner_model": spec.need_inner_model,
            }
            for spec in services.registry.schedulers.values()
        ]

    @routes.get(
        "/latent-upscale-modes", name="get_latent_upscale_modes", response_model=list[lists.LatentUpscalerModeItem]
    )
    async def latent_upscale_modes() -> list[dict[str, str]]:
        """Names for ``hr_upscaler`` that enlarge the latent."""
        return [{"name": name} for name in LATENT_MODES]


def _add_pictures(routes: APIRouter, services: AppServices) -> None:
    @routes.get("/upscalers", name="get_upscalers", response_model=list[lists.UpscalerItem])
    async def upscalers() -> list[dict[str, JsonValue]]:
        """Upscalers: None, Lanczos and Nearest, then the others by name."""
        core = [resizer.name for resizer in RESIZERS]
        others = [spec for spec in services.registry.upscalers.values() if spec.name not in core]
        rows = [{"name": name, "model_name": None, "model_path": None, "scale": 4.0} for name in core]
        rows += [
            {"name": spec.name, "model_name": spec.model_name, "model_path": spec.model_path, "scale": spec.scale}
            for spec in sorted(others, key=lambda spec: spec.name.lower())
        ]
        return [{**row, "model_url": None} for row in rows]

    @routes.get("/face-restorers", name="get_face_restorers", response_model=list[lists.FaceRestorerItem])
    async def face_restorers() -> list[dict[str, JsonValue]]:
        """Face restorers: those of AUTOMATIC1111 first."""
        known = services.registry.face_restorers
        names = sorted(known, key=lambda name: (name not in _FACE_RESTORERS, name.lower()))
        return [{"name": name, "cmd_dir": known[name].cmd_dir} for name in names]

    @routes.get("/realesrgan-models", name="get_realesrgan_models", response_model=list[lists.RealesrganItem])
    async def realesrgan_models() -> list[dict[str, JsonValue]]:
        """AUTOMATIC1111's catalogue of Real-ESRGAN models, installed or not."""
        return [{"name": name, "path": _REALESRGAN + path, "scale": scale} for name, path, scale in _REALESRGAN_MODELS]

    @routes.get("/prompt-styles", name="get_prompt_styles", response_model=list[lists.PromptStyleItem])
    async def prompt_styles() -> Response:
        """Rows of the styles files."""
        return await json_reply(await services.run_in_thread(lambda: _style_rows(services.styles.by_name)))


def _style_rows(styles: Mapping[str, Style]) -> list[dict[str, str | None]]:
    return [
        {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
        for style in styles.values()
    ]


def _add_scripts(routes: APIRouter, services: AppServices) -> None:
    def offered(mode: Mode) -> list[AnyScript]:
        scripts = [script for script in services.registry.scripts.values() if script.listed and mode in script.modes]
        return sorted(scripts, key=_listed_place)

    @routes.get("/scripts", name="get_scripts_list", response_model=lists.ScriptsList)
    async def scripts() -> dict[str, list[str]]:
        """Titles of scripts in lower case: selectable ones, then always-on ones."""
        return {mode: [_listed_title(script) for script in offered(mode)] for mode in _MODES}

    @routes.get("/script-info", name="get_script_info", response_model=list[lists.ScriptInfo])
    async def scripts_info() -> list[dict[str, JsonValue]]:
        """Arguments of every script, by mode."""
        return [script_info(s, mode) for mode in _MODES for s in offered(mode) if s.title != _WITHOUT_ROW]

    @routes.get("/extensions", name="get_extensions_list", response_model=list[lists.ExtensionItem])
    async def extensions() -> list[dict[str, JsonValue]]:
        """Extensions that come from git: none, since latentd's plugins are packages (see /latentd/v1/plugins)."""
        return []


def _listed_title(script: AnyScript) -> str:
    # The one script of AUTOMATIC1111 that sets its own name, so that it keeps its capital and is not in /script-info.
    title: str = script.title
    return title if title == _WITHOUT_ROW else title.lower()


def _listed_place(script: AnyScript) -> tuple[bool, int]:
    """Selectable scripts first, then AUTOMATIC1111's sections in its order, then others."""
    title = script.title.lower()
    known = title in _SECTIONS
    return script.alwayson or known, _SECTIONS.index(title) if known else len(_SECTIONS)
