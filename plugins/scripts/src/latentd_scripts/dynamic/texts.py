"""The texts of one request's pictures: drawn from their seeds, or every combination."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, product

from latentd.api import JsonValue, Plan, Services, check_images
from latentd_scripts.dynamic.arguments import IGNORE_WHITESPACE, WRITE_TEMPLATE, DynamicPromptsArgs
from latentd_scripts.dynamic.expansion import Expansion
from latentd_scripts.dynamic.grammar import is_template

TEMPLATE, NEGATIVE_TEMPLATE, TEMPLATE_SEED = "Template", "Negative Template", "Template seed"
"""Infotext keys; the last one is written where a text was drawn from another seed than its picture's."""
_SHOWN = 10
_SHOWN_LENGTH = 100


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture's texts: the place of their templates in the plan, and the seed that drew them, if one did."""

    place: int
    prompt: str
    negative_prompt: str
    seed: int | None


class Texts:
    """The texts of one request's pictures.

    :param plan: the plan with the templates as its prompts.
    """

    def __init__(self, expansion: Expansion, plan: Plan, args: DynamicPromptsArgs, services: Services) -> None:
        self._expansion = expansion
        self._plan = plan
        self._args = args
        self._settings = services.settings

    def planned(self) -> Plan:
        """The plan with a text for each picture, and as many pictures as there are texts.

        :raises InvalidRequest: a template cannot be read. :raises TooLarge: it is over a bound.
        """
        pictures = list(self._combined() if self._args.is_combinatorial else self._drawn())
        if self._args.no_image_generation:
            pictures = pictures[:1]
        plan = self._with_seeds(len(pictures)).with_changes(
            prompts=tuple(picture.prompt for picture in pictures),
            negative_prompts=tuple(picture.negative_prompt for picture in pictures),
            n_iter=math.ceil(len(pictures) / self._plan.batch_size),
        )
        plan = self._with_templates(self._with_hires(plan, pictures), pictures)
        if missing := list(self._expansion.missing)[:_SHOWN]:
            names = ", ".join(f"__{name[:_SHOWN_LENGTH]}__" for name in missing)
            told = f"no list in the folder 'wildcards' is named {names}; the name stays in the prompt"
            plan = plan.with_changes(warnings=(*plan.warnings, told))
        return plan

    # --- texts -------------------------------------------------------------------------------------------------------

    def _drawn(self) -> Iterator[_Picture]:
        plan = self._plan
        seeds: Sequence[int] = plan.seeds
        if self._args.unlink_seed_from_prompt:
            seeds = [secrets.randbelow(1 << 32) for _ in seeds]
        for place, (prompt, negative, seed) in enumerate(zip(plan.prompts, plan.negative_prompts, seeds, strict=True)):
            yield _Picture(place, self._draw(prompt, seed), self._draw(negative, seed), seed)

    def _draw(self, template: str, seed: int) -> str:
        return self._tidy(self._expansion.draw(template, seed)) if is_template(template) else template

    def _combined(self) -> Iterator[_Picture]:
        """The combinations of every different pair of templates; all together as often as is asked for."""
        plan, repeats = self._plan, max(self._args.combinatorial_batches, 1)
        pairs = {
            pair: place
            for place, pair in reversed(list(enumerate(zip(plan.prompts, plan.negative_prompts, strict=True))))
        }
        found: list[_Picture] = []
        for (prompt, negative), place in sorted(pairs.items(), key=lambda entry: entry[1]):
            found += [_Picture(place, *texts, None) for texts in self._pairs(prompt, negative)]
            check_images(len(found) * repeats, self._settings)
        return (picture for _ in range(repeats) for picture in found)

    def _pairs(self, prompt: str, negative: str) -> Iterator[tuple[str, str]]:
        """With a bound, as many prompts with a negative prompt each in turn; without, every prompt with every one."""
        bound = self._args.max_generations
        most = bound or self._settings.max_images + 1
        prompts, negatives = self._combinations(prompt, most), self._combinations(negative, most)
        if bound:
            return zip(prompts, cycle(negatives), strict=False)
        return islice(product(prompts, negatives), most)

    def _combinations(self, template: str, most: int) -> list[str]:
        if not is_template(template):
            return [template]
        most = min(most, self._settings.max_images + 1)
        return [self._tidy(text) for text in islice(self._expansion.combinations(template, self._plan.seeds[0]), most)]

    def _tidy(self, text: str) -> str:
        return " ".join(text.split()) if self._plan.options[IGNORE_WHITESPACE] else text

    # --- the plan ----------------------------------------------------------------------------------------------------

    def _with_seeds(self, count: int) -> Plan:
        """The plan with a seed for each of ``count`` pictures, counted up unless a fixed one is asked for."""
        plan, args = self._plan, self._args
        seed, subseed = plan.seeds[0], plan.subseeds[0]
        numbers: Sequence[int] = range(count)
        if args.use_fixed_seed:
            # Each repetition of the combinations has a seed of its own.
            once = count // max(args.combinatorial_batches, 1) if args.is_combinatorial else count
            numbers = [number // max(once, 1) for number in numbers]
        varied = plan.request.subseed_strength != 0
        return plan.with_changes(
            seeds=tuple(seed + (0 if varied else number) for number in numbers),
            subseeds=tuple(subseed + number for number in (range(count) if varied else numbers)),
        )

    def _with_hires(self, plan: Plan, pictures: Sequence[_Picture]) -> Plan:
        """The texts of the second pass: those of the first unless they have templates of their own."""
        hires = self._plan.hires
        if hires is None:
            return plan
        prompts, negatives = [], []
        for picture, seed in zip(pictures, plan.seeds, strict=True):
            place, drawn = picture.place, seed if picture.seed is None else picture.seed
            own, negative = hires.prompts[place], hires.negative_prompts[place]
            same, same_negative = own == self._plan.prompts[place], negative == self._plan.negative_prompts[place]
            prompts.append(picture.prompt if same else self._draw(own, drawn))
            negatives.append(picture.negative_prompt if same_negative else self._draw(negative, drawn))
        return plan.with_changes(hires=replace(hires, prompts=tuple(prompts), negative_prompts=tuple(negatives)))

    def _with_templates(self, plan: Plan, pictures: Sequence[_Picture]) -> Plan:
        """The templates as infotext entries: of the job if all pictures have the same, else of each picture."""
        if not plan.options[WRITE_TEMPLATE]:
            return plan
        entries = [self._entries(picture, seed) for picture, seed in zip(pictures, plan.seeds, strict=True)]
        if all(entry == entries[0] for entry in entries):
            return plan.with_changes(infotext={**plan.infotext, **entries[0]})
        return plan.with_changes(own_infotext=tuple(entries))

    def _entries(self, picture: _Picture, seed: int) -> dict[str, JsonValue]:
        texts = {
            TEMPLATE: self._plan.prompts[picture.place],
            NEGATIVE_TEMPLATE: self._plan.negative_prompts[picture.place],
        }
        entries: dict[str, JsonValue] = {key: text for key, text in texts.items() if is_template(text)}
        return entries if picture.seed in (None, seed) else {**entries, TEMPLATE_SEED: picture.seed}
