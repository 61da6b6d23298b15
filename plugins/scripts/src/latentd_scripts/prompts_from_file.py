"""The script ``Prompts from file or textbox``: one generation for each line."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from latentd.api import (
    GeneratedImage,
    GenerationRequest,
    InvalidRequest,
    JobControl,
    JsonValue,
    Plan,
    RawArgs,
    Result,
    ScriptRuns,
    Services,
    check_images,
)
from latentd_scripts.arguments import Arguments, FormScript, control
from latentd_scripts.prompt_lines import read_line

_PROMPTS = ("prompt", "negative_prompt")


class PromptsFromFileArgs(Arguments):
    """``script_args`` of ``Prompts from file or textbox``."""

    iterate_seed: bool = control(False, "Iterate seed every line")
    same_seed: bool = control(False, "Use same random seed for all lines")
    position: Literal["start", "end"] = control("start", "Insert prompts at the", choices=("start", "end"))
    text: str = control("", "List of prompt inputs", max_length=1_000_000)


class PromptsFromFile(FormScript[PromptsFromFileArgs]):
    """Each line is a prompt, joined with the request's own, or a list of options."""

    title = "Prompts from file or textbox"
    Args = PromptsFromFileArgs

    def parse_args(self, args: RawArgs, request: GenerationRequest) -> PromptsFromFileArgs | None:
        """The arguments, in the order of 1.6 and later, or in the older order without ``position``."""
        if isinstance(args, (list, tuple)) and len(args) == 3:
            args = [*args[:2], "start", args[2]]
        if isinstance(args, (list, tuple)) and args and len(args) != 4:
            raise InvalidRequest(f"script {self.title!r} takes 4 arguments, {len(args)} were given")
        return super().parse_args(args, request)

    def plan(self, plan: Plan, args: PromptsFromFileArgs, services: Services) -> None:
        """Plan the generations of all lines.

        :raises LatentdError: a line cannot be read, or names something that does not exist.
        """
        runs = ScriptRuns(services, plan, None)
        requests = _requests(runs.request, plan, args)
        check_images(sum(request.n_iter * request.batch_size for request in requests), services.settings)
        runs.check_total([runs.plan_for(request) for request in requests])

    def run(self, services: Services, plan: Plan, args: PromptsFromFileArgs, control: JobControl) -> Result:
        """The pictures of all lines."""
        runs = ScriptRuns(services, plan, control)
        requests = _requests(runs.request, plan, args)
        total = sum(request.n_iter for request in requests)
        runs.start(total)
        images: list[GeneratedImage] = []
        prompts: list[str] = []
        texts: list[str] = []
        info: dict[str, JsonValue] = {}
        for request in requests:
            if runs.interrupted:
                break
            label = f"{control.progress.job_no + 1} out of {total}"
            result = runs.generate(runs.plan_for(request, grid=False), label)
            images += result.images
            prompts += result.info["all_prompts"]
            texts += result.info["infotexts"]
            info = info or dict(result.info)
        return runs.reply(images, info, **_document(plan, args, len(requests), prompts, texts))


def _requests(base: GenerationRequest, plan: Plan, args: PromptsFromFileArgs) -> list[GenerationRequest]:
    lines = [line.strip() for line in args.text.splitlines() if line.strip()]
    fixed = args.iterate_seed or args.same_seed or plan.request.seed != -1
    requests = []
    for number, line in enumerate(lines):
        given = read_line(line)
        seed = base.seed + number * base.batch_size * base.n_iter * args.iterate_seed if fixed else -1
        request = replace(base, seed=seed, subseed=plan.request.subseed)
        requests.append(_with_line(request, given, args.position))
    return requests


def _with_line(request: GenerationRequest, given: dict[str, JsonValue], position: str) -> GenerationRequest:
    given = dict(given)
    if (model := given.pop("sd_model", None)) is not None:
        given["override_settings"] = {**request.override_settings, "sd_model_checkpoint": model}
    if given.pop("do_not_save_samples", False):
        given["save_images"] = False
    for name in _PROMPTS:
        own = getattr(request, name)
        if given.get(name) and own:
            given[name] = f"{given[name]} {own}" if position == "start" else f"{own} {given[name]}"
    return replace(request, **given)


def _document(
    plan: Plan, args: PromptsFromFileArgs, lines: int, prompts: list[str], texts: list[str]
) -> dict[str, JsonValue]:
    """The info of the reply as in AUTOMATIC1111: the request's own settings, though no picture was made with them."""
    request = plan.request
    seed = request.seed if request.seed != -1 else plan.seeds[0]
    seed += lines * plan.batch_size * plan.n_iter * args.iterate_seed
    return {
        "prompt": prompts[0] if prompts else "",
        "all_prompts": prompts,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt],
        "seed": seed,
        "all_seeds": [seed],
        "subseed": request.subseed,
        "all_subseeds": [request.subseed],
        "restore_faces": request.restore_faces,
        **dict.fromkeys(("sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash")),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
    }
