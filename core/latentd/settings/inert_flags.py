"""AUTOMATIC1111's flags for its web page and its launcher, which are accepted and listed and have no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentd.settings.flag import json_object, switch, text, texts

PAGE = "web page (without effect)"
LAUNCHER = "launcher (without effect)"


def _page(help_text: str, *, default: bool = False) -> bool:
    return switch(help_text, default=default, group=PAGE, acts=False)


def _launcher(help_text: str, *, default: bool = False, extra_names: Sequence[str] = ()) -> bool:
    return switch(help_text, default=default, group=LAUNCHER, acts=False, extra_names=extra_names)


@dataclass(frozen=True, kw_only=True)
class InertFlags:
    """Flags that an old start script may contain; at start the server logs which of the given flags have no effect."""

    api: bool = _page("the API is always there")
    share: bool = _page("public address by gradio")
    ngrok: str | None = text(None, "token for an ngrok tunnel", group=PAGE, acts=False, secret=True)
    ngrok_region: str = text("", "region of the ngrok tunnel", group=PAGE, acts=False)
    ngrok_options: dict[str, object] = json_object("options of the ngrok tunnel", group=PAGE, acts=False, secret=True)
    enable_insecure_extension_access: bool = _page("extensions by the web page")
    gradio_debug: bool = _page("gradio's debug mode")
    gradio_auth: str | None = text(None, "users of the web page", group=PAGE, acts=False, secret=True)
    gradio_auth_path: str | None = text(None, "file of users of the web page", group=PAGE, acts=False)
    gradio_img2img_tool: str | None = text(None, "drawing tool of the web page", group=PAGE, acts=False)
    gradio_inpaint_tool: str | None = text(None, "drawing tool of the web page", group=PAGE, acts=False)
    gradio_allowed_path: tuple[str, ...] = texts(
        (), "folder that the web page may serve", group=PAGE, acts=False, metavar="DIR"
    )
    gradio_queue: bool = _page("gradio's queue", default=True)
    no_gradio_queue: bool = _page("no gradio queue")
    autolaunch: bool = _page("open a browser at start")
    theme: str | None = text(None, "light or dark page", group=PAGE, acts=False)
    use_textbox_seed: bool = _page("text box for seeds")
    disable_console_progressbars: bool = _page("no progress bars on the server's console")
    enable_console_prompts: bool = _page("prompts on the server's console")
    no_progressbar_hiding: bool = _page("the page's progress bar")
    show_negative_prompt: bool = _page("the page's negative prompt")
    administrator: bool = _page("run as administrator")
    always_batch_cond_uncond: bool = _page("one UNet call for both prompts: so in any case")
    unload_gfpgan: bool = _page("obsolete")
    deepdanbooru: bool = _page("obsolete")
    skip_version_check: bool = _page("versions of torch are not checked")
    add_stop_route: bool = _page("obsolete; see --api-server-stop")
    disable_all_extensions: bool = _page("extensions of the web page; see --core-only")
    disable_extra_extensions: bool = _page("extensions of the web page; see --core-only")
    disable_tls_verify: bool | None = switch(
        "check of self-signed certificates by the page", default=None, group=PAGE, acts=False
    )

    f: bool = _launcher("run as root", extra_names=("-f",))
    update_all_extensions: bool = _launcher("update extensions")
    skip_python_version_check: bool = _launcher("do not check Python's version")
    skip_torch_cuda_test: bool = _launcher("do not check CUDA")
    reinstall_xformers: bool = _launcher("install xformers again")
    reinstall_torch: bool = _launcher("install torch again")
    update_check: bool = _launcher("look for updates")
    test_server: bool = _launcher("settings for AUTOMATIC1111's own tests")
    log_startup: bool = _launcher("log what happens at start")
    skip_prepare_environment: bool = _launcher("do not prepare the environment")
    skip_install: bool = _launcher("do not install packages")
    dump_sysinfo: bool = _launcher("write system information and exit")
