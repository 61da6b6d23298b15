"""The field ``infotext`` of a request: values for the fields, options and scripts that the request leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentd.errors import LatentdError
from latentd.infotext.apply import override_settings, request_fields
from latentd.infotext.other_names import sampler_name
from latentd.infotext.parse import Infotext, ParseOptions, read_infotext
from latentd.infotext.settings import SETTINGS, Setting
from latentd.prompts.styles import Style, apply_styles
from latentd.sampling.catalogue import SamplerCatalogue, resolve_sampler
from latentd.server.convert import given_fields, mode_of
from latentd.server.schemas.generation import GenerationBody, Img2ImgRequest
from latentd.types import JsonValue, OptionValues

if TYPE_CHECKING:
    from latentd.pipeline.needs import WorkerServices
    from latentd.plugins.registry import Registries

_NO_VAE = ("automatic", "none")


def parse_options(options: OptionValues, styles: Mapping[str, Style]) -> ParseOptions:
    """The settings with which to read infotexts under ``options``."""
    return ParseOptions(
        styles=list(styles.values()),
        infotext_styles=str(options["infotext_styles"]),
        skip=frozenset(options["infotext_skip_pasting"]),
        auto_backcompat=bool(options["auto_backcompat"]),
        old_hires_size=bool(options["use_old_hires_fix_width_height"]),
    )


def with_infotext(body: GenerationBody, services: WorkerServices) -> tuple[GenerationBody, list[str]]:
    """The body with its missing fields filled from its ``infotext``, and warnings about entries that could not be used.

    Rules: a1111-infotext-field.

    :raises InvalidRequest: the infotext has a text in place of a number.
    """
    if not body.infotext:
        return body, []
    options, given = services.options, given_fields(body)
    warnings: list[str] = []
    infotext = _read(body.infotext, options, services.styles.by_name)
    masked = isinstance(body, Img2ImgRequest) and bool(body.mask)
    changes = request_fields(infotext, mode_of(body), given, masked=masked)
    for field in ("sampler_name", "hr_sampler_name"):
        if field in changes:
            changes[field] = _own_name(str(changes[field]), services.registry)
    overrides = _overrides(infotext, given, services, warnings)
    if overrides:
        changes["override_settings"] = overrides | (body.override_settings or {})
    scripts = _scripts(infotext, body, services, warnings)
    if scripts:
        changes["alwayson_scripts"] = {**(body.alwayson_scripts or {}), **scripts}
    return body.model_copy(update=changes), warnings


def _read(text: str, options: OptionValues, styles: Mapping[str, Style]) -> Infotext:
    """The infotext; styles are removed from its prompts only if applying them again gives the same prompts."""
    how = parse_options(options, styles)
    infotext = read_infotext(text, how)
    whole = read_infotext(text, ParseOptions(infotext_styles="Ignore"))
    names = infotext.values.get("Styles array")
    if not isinstance(names, list):
        return infotext
    prompts = [str(infotext.values.get(key, "")) for key in ("Prompt", "Negative prompt")]
    if apply_styles(prompts[0], prompts[1], names, styles) == _prompts(whole):
        return infotext
    kept = {key: value for key, value in infotext.values.items() if key != "Styles array"}
    texts = {key: whole.values[key] for key in ("Prompt", "Negative prompt") if key in infotext.values}
    return Infotext(values=kept | texts, stated=infotext.stated - {"Styles array"})


def _prompts(infotext: Infotext) -> tuple[str, str]:
    return str(infotext.values["Prompt"]), str(infotext.values["Negative prompt"])


def _own_name(name: str, registry: Registries) -> str:
    """This server's name of a sampler: another program may write an alias, a name of its own, or another case."""
    catalogue = SamplerCatalogue(samplers=registry.samplers.values(), schedulers=registry.schedulers.values())
    if resolve_sampler(name, None, catalogue) is not None:
        return name
    found = registry.samplers.find(name)
    return (sampler_name(name) or name) if found is None else str(found.name)


def _overrides(
    infotext: Infotext, given: frozenset[str], services: WorkerServices, warnings: list[str]
) -> dict[str, JsonValue]:
    """Options that the infotext sets, checked; an unknown value becomes a warning instead."""
    options = services.options
    settings = {**{spec.infotext: Setting(spec.key) for spec in options.specs() if spec.infotext}, **SETTINGS}
    swap = bool(options["disable_weights_auto_swap"])
    found = override_settings(infotext, options, given, disable_weights_auto_swap=swap, settings=settings)
    overrides: dict[str, JsonValue] = {}
    for option, (key, value) in found.items():
        try:
            value = _checked(option, value, infotext, services)
            options.snapshot({option: value})
        except LatentdError as error:
            warnings.append(f"infotext: {key} {value!r} is not taken over: {error.detail}")
            continue
        overrides[option] = value
    return overrides


def _checked(option: str, value: object, infotext: Infotext, services: WorkerServices) -> object:
    """``value``, or the checkpoint's name if its hash is not known.

    :raises NotFound: there is no such model.
    """
    if option == "sd_model_checkpoint":
        name = infotext.get("Model")
        known = services.models.named(str(value)) or (services.models.named(str(name)) if name else None)
        return (known or services.models.checkpoints.require(str(value), fuzzy=False)).title
    if option == "sd_vae" and str(value).lower() not in _NO_VAE:
        services.models.vaes.require(str(value))
    return value


def _scripts(
    infotext: Infotext, body: GenerationBody, services: WorkerServices, warnings: list[str]
) -> dict[str, dict[str, object]]:
    """``alwayson_scripts`` for the scripts whose arguments the infotext contains."""
    sent = {title.lower(): (title, entry) for title, entry in (body.alwayson_scripts or {}).items()}
    entries = {key: infotext.values[key] for key in infotext.stated if key in infotext.values}
    found: dict[str, dict[str, object]] = {}
    for script in services.registry.scripts.values():
        if not script.alwayson or mode_of(body) not in script.modes:
            continue
        title, entry = sent.get(script.title.lower(), (script.title, None))
        own = entry.get("args") if isinstance(entry, Mapping) else None
        told = script.from_infotext(entries, own, mode_of(body))
        if told is None:
            continue
        if isinstance(told, str):
            warnings.append(f"infotext: {told}")
        else:
            found[title] = {"args": told}
    return found
