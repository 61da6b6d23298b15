"""The always-on script ``Dynamic Prompts``: every picture gets a text of its own from the request's templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentd.api import GenerationRequest, InvalidRequest, JsonValue, Mode, Plan, Planned, RawArgs, Services
from latentd_scripts.arguments import FormScript
from latentd_scripts.dynamic.arguments import ALWAYS, WITHOUT_EFFECT, DynamicPromptsArgs
from latentd_scripts.dynamic.expansion import Expansion
from latentd_scripts.dynamic.grammar import is_template
from latentd_scripts.dynamic.texts import NEGATIVE_TEMPLATE, TEMPLATE, Texts
from latentd_scripts.dynamic.wildcards import WildcardFiles

_FOLDERS = ("wildcards", "extensions/sd-dynamic-prompts/wildcards")
_VERSION = "2.17.1"
_JINJA = ("{%", "{{", "{#")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; ``by_option`` if it does not name the script, so that only the option can ask for it."""

    args: DynamicPromptsArgs
    by_option: bool


class DynamicPrompts(FormScript[Asked]):
    """Expands the templates while the request is planned; nothing is left to do while it runs."""

    title = f"Dynamic Prompts v{_VERSION}"
    # Clients name the version that their server had.
    aliases = ("Dynamic Prompts", *(
        f"Dynamic Prompts v2.{minor}.{patch}" for minor in range(18) for patch in range(10)
        if f"2.{minor}.{patch}" != _VERSION
    ))  # fmt: skip
    alwayson = True
    always = True
    order = -100  # other scripts see the texts
    Args = DynamicPromptsArgs

    def __init__(self) -> None:
        self._files: dict[str, WildcardFiles] = {}

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> Asked | None:
        """The arguments; None if the script is switched off."""
        parsed = self._parsed(args, request)
        return Asked(parsed, by_option=args is None) if parsed.is_enabled else None

    def ignored_args(self, args: RawArgs, request: GenerationRequest) -> Sequence[str]:
        """Also the arguments that nothing here can follow."""
        parsed = self._parsed(args, request)
        on = [f"{name}: {why}" for name, why in WITHOUT_EFFECT.items() if getattr(parsed, name)]
        return [*super().ignored_args(args, request), *(on if parsed.is_enabled else ())]

    def _parsed(self, args: RawArgs, request: GenerationRequest) -> DynamicPromptsArgs:
        parsed: JsonValue = super().parse_args(args, request)  # an object of class Args, whatever this script returns
        assert isinstance(parsed, DynamicPromptsArgs)
        return parsed

    def from_infotext(self, entries: Mapping[str, JsonValue], args: JsonValue, mode: Mode) -> list[JsonValue] | None:
        """Off for the text of a picture, which is expanded already."""
        return [False] if args is None and (TEMPLATE in entries or NEGATIVE_TEMPLATE in entries) else None

    def plan(self, plan: Plan, args: Asked, services: Services) -> Planned[Asked]:
        """The plan with the pictures' texts.

        :raises InvalidRequest: a template cannot be read.
        :raises TooLarge: there are too many combinations, or texts that are too long.
        """
        hires = (*plan.hires.prompts, *plan.hires.negative_prompts) if plan.hires else ()
        templates = {*plan.prompts, *plan.negative_prompts, *hires}
        if (args.by_option and not plan.options[ALWAYS]) or not any(map(is_template, templates)):
            return Planned(finished=True)
        if args.args.enable_jinja_templates and any(mark in text for text in templates for mark in _JINJA):
            raise InvalidRequest("Dynamic Prompts: Jinja templates are not offered", hint="use {a|b} and __lists__")
        texts = Texts(self._expansion(services), plan, args.args, services)
        try:
            return Planned(plan=texts.planned(), finished=True)
        except InvalidRequest as error:
            if not args.by_option:
                raise
            # Clients whose prompts have braces of their own do not know of the option.
            told = f"option {ALWAYS}: the prompts stay as they are written: {error.detail}"
            return Planned(plan=plan.with_changes(warnings=(*plan.warnings, told)), finished=True)

    def _expansion(self, services: Services) -> Expansion:
        data = services.paths.data
        files = self._files.setdefault(str(data), WildcardFiles([data / folder for folder in _FOLDERS]))
        return Expansion(files, longest=services.settings.max_prompt_length)
