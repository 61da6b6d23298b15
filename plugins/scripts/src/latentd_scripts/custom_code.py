"""The script ``Custom code``: Python code from the request, offered only with ``--allow-code``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from types import CodeType
from typing import Any

from PIL import Image

from latentd.api import GeneratedImage, InvalidRequest, JobControl, Plan, Result, ScriptRuns, Services
from latentd_scripts.arguments import Arguments, FormScript, control

_FUNCTION = "custom_code"


class CustomCodeArgs(Arguments):
    """``script_args`` of ``Custom code``."""

    code: str = control("", "Python code")
    indent_level: int = control(2, "Indent level", minimum=0, maximum=10, step=1, ge=0, le=40)


class CustomCode(FormScript[CustomCodeArgs]):
    """Runs code as the body of a function with the names ``runs``, ``plan``, ``services``, ``control``, ``display``.

    The reply is what the code returns, or the pictures for which it calls ``display(images, infotext)``.
    """

    title = "Custom code"
    listed = False
    Args = CustomCodeArgs

    def plan(self, plan: Plan, args: CustomCodeArgs, services: Services) -> None:
        """Compile the code.

        :raises InvalidRequest: the server does not allow code, or the code cannot be compiled.
        """
        if not services.settings.allow_code:
            raise InvalidRequest(f"Script '{self.title}' not found", hint="the server must run with --allow-code")
        _compiled(args)

    def run(self, services: Services, plan: Plan, args: CustomCodeArgs, control: JobControl) -> Result:
        """The pictures that the code returns or displays."""
        runs = ScriptRuns(services, plan, control)
        shown: list[GeneratedImage] = []

        def display(images: Image.Image | Iterable[Image.Image], infotext: str | None = None) -> None:
            several = [images] if isinstance(images, Image.Image) else images
            shown.extend(runs.picture(image, infotext) for image in several)

        names: dict[str, Any] = {  # what the code sees, and what it makes
            "runs": runs, "plan": plan, "services": services, "control": control, "display": display, "Image": Image,
        }  # fmt: skip
        exec(_compiled(args), names)
        returned = names[_FUNCTION]()
        if isinstance(returned, Result):
            return returned
        if returned is not None:
            display(returned)
        return runs.reply(shown, {"infotexts": [picture.infotext for picture in shown]})


def _compiled(args: CustomCodeArgs) -> CodeType:
    indent = " " * max(args.indent_level, 1)
    body = textwrap.indent(textwrap.dedent(args.code), indent) + f"\n{indent}return None"
    try:
        return compile(f"def {_FUNCTION}():\n{body}\n", "<custom code>", "exec")
    except SyntaxError as error:
        raise InvalidRequest(f"custom code, line {(error.lineno or 1) - 1}: {error.msg}") from error
