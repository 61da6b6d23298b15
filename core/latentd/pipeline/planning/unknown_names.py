"""Warnings about unknown names in a request, and refusals of tags that cannot be carried out, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from latentd.errors import near_matches
from latentd.generations import Plan
from latentd.plugins.blame import blamed, owner_of
from latentd.prompts.networks import extract_networks
from latentd.types import GenerationRequest

if TYPE_CHECKING:
    from latentd.pipeline.needs import PlanningServices
    from latentd.types import OptionValues

_NO_STYLE = ("", "None", "none")


def unknown_names(request: GenerationRequest, services: PlanningServices, options: OptionValues) -> list[str]:
    """A sentence for each style of the request and each network of the options that does not exist."""
    styles = services.styles.by_name
    found = []
    for name in dict.fromkeys(request.styles):
        if name not in styles and name not in _NO_STYLE:
            near = near_matches(name, styles)
            found.append(f"style {name!r} not found; it changes nothing" + (f" ({near})" if near else ""))
    for key, _, known in option_networks(services):
        if (name := options[key]) and name != "None" and known(name) is None:
            found.append(f"option {key}: {name!r} not found; it is left out")
    return found


def option_networks(services: PlanningServices) -> Sequence[tuple[str, str, Callable[[str], object]]]:
    """The options for networks that are always added, with the kind of their tag and the function that finds them."""
    return (
        ("sd_lora", "lora", services.networks.find),
        ("sd_hypernetwork", "hypernet", services.hypernetworks.get),
    )


def check_networks(plan: Plan, services: PlanningServices) -> Plan:
    """The plan, with the tags of its prompts checked by their kinds, and a warning for tags of unknown kinds.

    Tags of a selectable script's plan are not checked here, because its generations are planned one by one.

    :raises LatentdError: the error of a kind's check.
    """
    if plan.script is not None or plan.request.disable_extra_networks:
        return plan
    kinds = services.registry.extra_networks
    specs = {name: spec for spec in kinds.values() for name in (spec.name, *spec.aliases)}
    prompts = (*plan.prompts[:: plan.batch_size], *(plan.hires.prompts[:: plan.batch_size] if plan.hires else ()))
    unknown: dict[str, None] = {}
    for prompt in dict.fromkeys(prompts):
        for tag in extract_networks(prompt)[1]:
            if (spec := specs.get(tag.name)) is None:
                unknown[tag.name] = None
                continue
            with blamed(owner_of(kinds, spec.name), f"extra network {spec.name!r}"):
                spec.check(services, tag)
    told = [f"<{name}:...> is a tag of no known kind; it is left out" for name in unknown]
    return plan.with_changes(warnings=(*plan.warnings, *told)) if told else plan
