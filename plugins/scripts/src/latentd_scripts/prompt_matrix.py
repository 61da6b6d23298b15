"""The script ``Prompt matrix``: every combination of a prompt's optional parts, ``base|one|two``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from latentd.api import (
    GenerationRequest,
    InvalidRequest,
    JobControl,
    Plan,
    Result,
    ScriptRuns,
    Services,
    annotate_grid,
    make_grid,
    prompt_matrix_legends,
)
from latentd_scripts.arguments import Arguments, FormScript, control
from latentd_scripts.legends import legend_style

MOST_PARTS = 10


class PromptMatrixArgs(Arguments):
    """``script_args`` of ``Prompt matrix``."""

    put_at_start: bool = control(False, "Put variable parts at start of prompt")
    different_seeds: bool = control(False, "Use different seed for each picture")
    prompt_type: Literal["positive", "negative"] = control(
        "positive", "Select prompt", choices=("positive", "negative")
    )
    variations_delimiter: Literal["comma", "space"] = control(
        "comma", "Select joining char", choices=("comma", "space")
    )
    margin_size: int = control(0, "Grid margins (px)", minimum=0, maximum=500, step=2, ge=0, le=2000)


class PromptMatrix(FormScript[PromptMatrixArgs]):
    """One job of 2^k pictures, and their grid with the parts in its legend."""

    title = "Prompt matrix"
    Args = PromptMatrixArgs

    def plan(self, plan: Plan, args: PromptMatrixArgs, services: Services) -> None:
        """Plan the job with all combinations.

        :raises InvalidRequest: too many parts.
        :raises TooLarge: too many pictures of that size.
        """
        prompts = _combinations(_text(plan.request, args), args)
        ScriptRuns(services, plan, None).check_total([plan], math.ceil(len(prompts) / len(plan.prompts)))

    def run(self, services: Services, plan: Plan, args: PromptMatrixArgs, control: JobControl) -> Result:
        """The grid with its legend, then the pictures of all combinations."""
        runs = ScriptRuns(services, plan, control)
        text = _text(plan.request, args)
        prompts = _combinations(text, args)
        request = replace(runs.request, n_iter=math.ceil(len(prompts) / plan.batch_size))
        if args.prompt_type == "positive":
            request = replace(request, prompt=prompts)
        else:
            request = replace(request, negative_prompt=prompts)
        matrix = runs.plan_for(request, grid=False)
        first = plan.seeds[0]
        seeds = tuple(first + (i if args.different_seeds else 0) for i in range(len(prompts)))
        result = runs.generate(matrix.with_changes(seeds=seeds))
        if not result.images:
            return result
        parts = text.split("|")[1:]
        cells = [picture.image for picture in result.images[: len(prompts)]]
        columns, rows = prompt_matrix_legends(parts)
        grid = annotate_grid(
            make_grid(cells, 1 << (len(parts) // 2)),
            cells[0].size,
            columns,
            rows,
            margin=args.margin_size,
            style=legend_style(plan.options),
        )
        texts = result.info["infotexts"]
        runs.save(grid, texts[0], result.info, basename="prompt_matrix", grid=True)
        return runs.reply(
            [runs.picture(grid, texts[0], grid=True), *result.images],
            result.info,
            index_of_first_image=1,
            infotexts=[texts[0], *texts],
        )


def _text(request: GenerationRequest, args: PromptMatrixArgs) -> str:
    prompt = request.prompt if args.prompt_type == "positive" else request.negative_prompt
    return str(prompt if isinstance(prompt, str) else prompt[0])


def _combinations(text: str, args: PromptMatrixArgs) -> list[str]:
    """The prompts, in the order of the binary numbers whose digits say which parts are active.

    :raises InvalidRequest: more than :data:`MOST_PARTS` parts; each doubles the number of prompts.
    """
    base, *parts = text.split("|")
    if len(parts) > MOST_PARTS:
        raise InvalidRequest(f"a prompt matrix of {len(parts)} parts has {1 << len(parts)} pictures",
                             hint=f"at most {MOST_PARTS} parts")  # fmt: skip
    joint = ", " if args.variations_delimiter == "comma" else " "
    prompts = []
    for number in range(1 << len(parts)):
        chosen = [part.strip().strip(",") for bit, part in enumerate(parts) if number >> bit & 1]
        prompts.append(joint.join([*chosen, base] if args.put_at_start else [base, *chosen]))
    return prompts
