"""Scripts of a request: names to scripts, arguments to typed values (rules: a1111-scripts)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from latentd.arguments import InvalidArguments, parse_exact
from latentd.errors import InvalidRequest, LatentdError, near_matches
from latentd.generations import AnyScript, Plan, Script, ScriptCall
from latentd.pipeline.job_hooks import script_place
from latentd.pipeline.planning.limits import check_plan
from latentd.plugins.blame import blamed, outcome, owner_of
from latentd.plugins.catalogue import package_hint
from latentd.types import GenerationRequest, Mode, RawArgs

if TYPE_CHECKING:
    from latentd.pipeline.needs import PlanningServices

A = TypeVar("A")

_SHOWN = 10
_SHOWN_LENGTH = 100


def plan_scripts(plan: Plan, services: PlanningServices) -> Plan:
    """``plan`` with its selectable script and its always-on scripts, arguments checked.

    :raises InvalidRequest: an unknown script, in A1111's words.
    :raises InvalidArguments: an argument does not fit.
    """
    request = plan.request
    warnings: list[str] = []
    alwayson = _alwayson(plan, services, warnings)
    plan = plan.with_changes(alwayson=tuple(alwayson), warnings=(*plan.warnings, *warnings))
    for call in plan.alwayson:
        plan, args, finished = _plan_with(call.script, plan, call.args, services, warnings)
        instead = () if finished else (replace(call, args=args),)
        calls = [new for other in plan.alwayson for new in (instead if other is call else (other,))]
        plan = plan.with_changes(alwayson=tuple(calls))
    if not request.script_name:
        return plan
    script = _find(request.script_name, services, request.mode)
    if script is None or script.alwayson:
        raise _unknown(request.script_name, services, request.mode)
    sent = request.script_args or None
    with _refusing(script, services, ("script_args", script.title)):
        own_parser = type(script).parse_args is not Script.parse_args
        parsed = script.parse_args(sent, request) if own_parser else parse_exact(script.Args, sent, title=script.title)
    told = _without_effect(script, sent, request)
    plan = plan.with_changes(script=script, script_args=parsed, warnings=(*plan.warnings, *told))
    plan, parsed, _ = _plan_with(script, plan, parsed, services, told)
    return plan.with_changes(script_args=parsed)


@contextmanager
def _refusing(script: AnyScript, services: PlanningServices, loc: Sequence[str]) -> Iterator[None]:
    """A context in which errors about the script's arguments name the script.

    :param loc: the place of the arguments in the body.
    :raises InvalidArguments: instead of the errors of the script's model.
    """
    with blamed(owner_of(services.registry.scripts, script.title), script_place(script, "parse_args")):
        try:
            yield
        except ValidationError as error:
            raise InvalidArguments(script.title, loc, error) from error


def _plan_with(
    script: AnyScript, plan: Plan, args: A, services: PlanningServices, told: Sequence[str]
) -> tuple[Plan, A, bool]:
    """The plan and the script's arguments after its method ``plan``, and whether the script is finished with them.

    :param told: the arguments without effect, which may explain an error.
    :raises LatentdError: the arguments are invalid, or the plan that the script has made is over a limit.
    """
    try:
        with blamed(owner_of(services.registry.scripts, script.title), script_place(script, "plan")):
            planned = outcome(script.plan(plan, args, services))
    except LatentdError as error:
        error.hint = "; ".join(filter(None, (error.hint, *told))) or None
        raise
    if planned is None:
        return plan, args, False
    if planned.plan is not None:
        check_plan(planned.plan, services.settings)
    return planned.plan or plan, args if planned.args is None else planned.args, planned.finished


def _alwayson(plan: Plan, services: PlanningServices, warnings: list[str]) -> list[ScriptCall]:
    """The always-on scripts of the job; arguments without effect are added to ``warnings``."""
    request, calls, seen = plan.request, [], set()
    for title, entry in request.alwayson_scripts.items():
        if not title:
            raise InvalidRequest(f"always on script {title} not found")
        script = _find(title, services, request.mode)
        if script is None:
            raise _unknown(title, services, request.mode)
        if not script.alwayson:
            raise InvalidRequest("Cannot have a selectable script in the always on scripts params")
        if not isinstance(entry, Mapping):
            raise InvalidRequest(f"alwayson_scripts.{title} must be an object with 'args'")
        seen.add(script.title.lower())
        if "args" in entry:
            with _refusing(script, services, ("alwayson_scripts", title, "args")):
                args = script.parse_args(entry["args"], request)
            warnings += _without_effect(script, entry["args"], request)
            if args is not None:
                calls.append(ScriptCall(script=script, args=args))
        if stray := [str(key)[:_SHOWN_LENGTH] for key in entry if key != "args"][:_SHOWN]:
            named = ", ".join(repr(key) for key in stray)
            warnings.append(f"alwayson_scripts.{script.title}: {named} has no effect: arguments stand in 'args'")
    for name in services.registry.scripts:
        script = services.registry.scripts[name]
        if script.always and request.mode in script.modes and script.title.lower() not in seen:
            with _refusing(script, services, ("alwayson_scripts", script.title, "args")):
                args = script.parse_args(None, request)
            if args is not None:
                calls.append(ScriptCall(script=script, args=args))
    return sorted(calls, key=lambda call: call.script.order)


def _without_effect(script: AnyScript, args: RawArgs, request: GenerationRequest) -> list[str]:
    return [f"script {script.title!r}: no effect of {what}" for what in script.ignored_args(args, request)]


def _find(title: str, services: PlanningServices, mode: Mode) -> AnyScript | None:
    script: AnyScript | None = services.registry.scripts.find(title)
    return script if script is not None and mode in script.modes else None


def _unknown(title: str, services: PlanningServices, mode: Mode) -> InvalidRequest:
    """The error for a title that means no script here; it says where a script of that title belongs."""
    known: AnyScript | None = services.registry.scripts.find(title)
    if known is None:
        hint = package_hint("script", title) or near_matches(title, services.registry.scripts)
    elif mode not in known.modes:
        hint = f"it is a script of {' and '.join(known.modes)} alone"
    else:
        hint = "it is an always-on script: its place is alwayson_scripts"
    return InvalidRequest(f"Script '{title}' not found", hint=hint)
