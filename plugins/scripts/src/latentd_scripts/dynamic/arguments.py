"""The arguments of ``Dynamic Prompts``, and its options."""

from __future__ import annotations

from latentd.api import OptionSpec
from latentd_scripts.arguments import Arguments, control

ALWAYS = "dynamic_prompts_always"
WRITE_TEMPLATE = "dp_write_raw_template"
IGNORE_WHITESPACE = "dp_ignore_whitespace"

OPTIONS = [
    OptionSpec(
        key=ALWAYS,
        default=False,
        help="Expand the template language of Dynamic Prompts in every request's prompts, as the extension does",
    ),
    OptionSpec(
        key=WRITE_TEMPLATE,
        default=True,
        help="Write the templates of Dynamic Prompts into infotexts",
        affects="saving",
    ),
    OptionSpec(
        key=IGNORE_WHITESPACE,
        default=False,
        help="Dynamic Prompts: one space in place of line breaks, tabs and several spaces",
    ),
]


class DynamicPromptsArgs(Arguments):
    """``alwayson_scripts["Dynamic Prompts v2.17.1"].args``."""

    is_enabled: bool = control(True, "Dynamic Prompts enabled")
    is_combinatorial: bool = control(False, "Combinatorial generation")
    combinatorial_batches: int = control(1, "Combinatorial batches", minimum=1, maximum=10, step=1, ge=0, le=1000)
    is_magic_prompt: bool = control(False, "Magic prompt")
    is_feeling_lucky: bool = control(False, "I'm feeling lucky")
    is_attention_grabber: bool = control(False, "Attention grabber")
    min_attention: float = control(1.1, "Minimum attention", minimum=-1, maximum=2, step=0.1)
    max_attention: float = control(1.5, "Maximum attention", minimum=-1, maximum=2, step=0.1)
    magic_prompt_length: int = control(100, "Max magic prompt length", minimum=30, maximum=300, step=10)
    magic_temp_value: float = control(0.7, "Magic prompt creativity", minimum=0.1, maximum=3.0, step=0.1)
    use_fixed_seed: bool = control(False, "Fixed seed")
    unlink_seed_from_prompt: bool = control(False, "Unlink seed from prompt")
    disable_negative_prompt: bool = control(True, "Don't apply to negative prompts")
    enable_jinja_templates: bool = control(False, "Enable Jinja2 templates")
    no_image_generation: bool = control(False, "Don't generate images")
    max_generations: int = control(
        0,
        "Max generations (0 = all combinations - the batch count value is ignored)",
        minimum=0,
        maximum=1000,
        step=1,
        ge=0,
    )
    magic_model: str | None = control("", "Magic prompt model")
    magic_blocklist_regex: str | None = control("", "Magic prompt blocklist regex")


WITHOUT_EFFECT = {
    "is_magic_prompt": "no language model continues prompts here",
    "is_feeling_lucky": "the server asks no other site for prompts",
    "is_attention_grabber": "no model picks words to emphasise here",
}
"""Arguments that have no effect when they are on, and why."""
