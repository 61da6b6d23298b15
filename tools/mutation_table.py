"""The mutations of ``tools/mutations.py``: seams of the pipeline, and faults that were there once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """``mutated`` in place of ``original``, which occurs once in ``file``; noticed by ``test``, a pytest id."""

    name: str
    file: str
    original: str
    mutated: str
    test: str


_PIPELINE = "core/latentd/pipeline"
_PASSES = "tests/stages/test_passes.py"
_TEXT = "tests/stages/test_text.py"
_IMG2IMG = "tests/stages/test_img2img.py"
_STOPPING = "tests/stages/test_stopping.py"
_TOGETHER = "tests/stages/test_together.py"

STAGES = (
    # --- models -----------------------------------------------------------------------------------------------------
    Mutation(
        "the base model after the refiner",
        f"{_PIPELINE}/run.py",
        ".in_use = base\n",
        ".in_use\n",
        f"{_PASSES}::test_every_batch_begins_with_the_base_model",
    ),
    Mutation(
        "the base model of the second pass after the refiner",
        f"{_PIPELINE}/txt2img.py",
        "hires.checkpoint or gen.plan.checkpoint",
        "hires.checkpoint or gen.model.info.title",
        f"{_PASSES}::test_hires_fix_begins_with_the_base_model",
    ),
    Mutation(
        "the pass that the refiner acts in",
        f"{_PIPELINE}/passes/refiner.py",
        '"second pass" if gen.pass_name == "hires" else "first pass"',
        '"first pass" if gen.pass_name == "hires" else "second pass"',
        f"{_PASSES}::test_the_refiner_acts_in_the_pass_of_the_option",
    ),
    Mutation(
        "the networks over the refiner",
        f"{_PIPELINE}/passes/conditioning.py",
        "if refiner.family == base.family else ()",
        "if refiner.family != base.family else ()",
        f"{_TEXT}::test_a_refiner_from_the_first_step_on_is_the_model",
    ),
    Mutation(
        "the VAE of a checkpoint's own choice",
        f"{_PIPELINE}/generation.py",
        'vae_overrides=bool(options["sd_vae_overrides_per_model_preferences"])',
        "vae_overrides=True",
        f"{_PASSES}::test_a_setting_beats_a_checkpoints_own_vae_where_the_option_says_so",
    ),
    Mutation(
        "the trim when a lease is released",
        "core/latentd/models/cache.py",
        "entry.leases -= 1\n                self._trim()",
        "entry.leases -= 1",
        "tests/stages/test_models_in_use.py::test_of_two_checkpoints_at_work_one_stays",
    ),
    Mutation(
        "the trim of a budget when a lease is released",
        "core/latentd/models/cache.py",
        "entry.leases -= 1\n                self._trim()",
        "entry.leases -= 1",
        "tests/stages/test_models_in_use.py::test_a_budget_counts_again_when_a_lease_ends",
    ),
    Mutation(
        "tiling's end",
        "core/latentd/models/vae.py",
        "m.padding_mode = mode",
        "del mode",
        f"{_PASSES}::test_tiling_wraps_the_edges_and_ends_with_its_job",
    ),
    # --- text -------------------------------------------------------------------------------------------------------
    Mutation(
        "networks in the key of encoded text",
        f"{_PIPELINE}/passes/conditioning.py",
        "options, size, networks=tuple(",
        "options, size, networks=() and tuple(",
        f"{_TEXT}::test_text_is_encoded_again_under_other_settings[networks]",
    ),
    Mutation(
        "the strength of networks in the key of encoded text",
        f"{_PIPELINE}/passes/conditioning.py",
        "options, size, networks=tuple(r.key() for",
        "options, size, networks=tuple(type(r) for",
        f"{_TEXT}::test_a_networks_strength_counts",
    ),
    Mutation(
        "settings in the key of encoded text",
        "core/latentd/conditioning/encode.py",
        "key = (tuple(texts), settings, ",
        "key = (tuple(texts), settings.networks, ",
        f"{_TEXT}::test_text_is_encoded_again_under_other_settings[clip skip]",
    ),
    Mutation(
        "the second pass's prompts",
        f"{_PIPELINE}/generation.py",
        "hires_prompts=hires.prompts[cut]",
        "hires_prompts=plan.prompts[cut]",
        f"{_PASSES}::test_the_second_pass_has_its_own_prompt",
    ),
    Mutation(
        "the second pass's networks",
        f"{_PIPELINE}/txt2img.py",
        "activate_networks(gen, batch.hires_prompts, stack)",
        "activate_networks(gen, batch.prompts, stack)",
        f"{_TEXT}::test_the_second_pass_has_the_networks_of_its_own_prompt",
    ),
    # --- seeds and samplers -----------------------------------------------------------------------------------------
    Mutation(
        "standing options",
        f"{_PIPELINE}/planning/build.py",
        "standing = services.options",
        "standing = options",
        f"{_PASSES}::test_overrides_of_what_the_request_was_filled_with_come_too_late[s_noise-1.5]",
    ),
    Mutation(
        "the second pass's sampler",
        f"{_PIPELINE}/txt2img.py",
        "choice=hires.sampler",
        "choice=gen.plan.sampler",
        f"{_PASSES}::test_the_second_pass_has_its_own_sampler",
    ),
    Mutation(
        "seeds of each batch",
        f"{_PIPELINE}/generation.py",
        "begin = index * plan.batch_size",
        "begin = 0",
        f"{_PASSES}::test_every_picture_of_every_batch_has_its_own_seed[1-3]",
    ),
    Mutation(
        "variation seeds",
        f"{_PIPELINE}/txt2img.py",
        "subseeds=batch.subseeds",
        "subseeds=batch.seeds",
        f"{_PASSES}::test_a_variation_of_full_strength_is_the_picture_of_its_subseed",
    ),
    Mutation(
        "the strength of variations",
        f"{_PIPELINE}/txt2img.py",
        "subseed_strength=request.subseed_strength",
        "subseed_strength=0.0",
        f"{_PASSES}::test_a_variation_of_full_strength_is_the_picture_of_its_subseed",
    ),
    Mutation(
        "one seed for all variations",
        f"{_PIPELINE}/planning/build.py",
        "(i if request.subseed_strength == 0 else 0)",
        "i",
        f"{_PASSES}::test_variations_in_a_batch_have_subseeds_of_their_own",
    ),
    Mutation(
        "eta noise seed delta",
        f"{_PIPELINE}/txt2img.py",
        'ensd=int(options["eta_noise_seed_delta"] or 0)',
        "ensd=0",
        f"{_PASSES}::test_eta_noise_seed_delta_moves_the_noise_of_the_steps_alone",
    ),
    Mutation(
        "extra noise of hires fix",
        f"{_PIPELINE}/txt2img.py",
        'extra_noise=float(gen.options["img2img_extra_noise"])',
        "extra_noise=0.0",
        f"{_PASSES}::test_extra_noise_is_added_to_what_a_pass_starts_from[hires]",
    ),
    Mutation(
        "extra noise of img2img",
        f"{_PIPELINE}/img2img.py",
        'extra_noise=float(options["img2img_extra_noise"])',
        "extra_noise=0.0",
        f"{_PASSES}::test_extra_noise_is_added_to_what_a_pass_starts_from[img2img]",
    ),
    Mutation(
        "the noise multiplier",
        f"{_PIPELINE}/img2img.py",
        "noise_multiplier=plan.initial_noise_multiplier",
        "noise_multiplier=1.0",
        f"{_IMG2IMG}::test_the_noise_multiplier_acts",
    ),
    Mutation(
        "what hires fix cuts off",
        f"{_PIPELINE}/txt2img.py",
        "x // 2 : width",
        "0 : width",
        f"{_PASSES}::test_a_size_of_another_shape_is_cut_from_the_middle",
    ),
    # --- inpainting and finishing -----------------------------------------------------------------------------------
    Mutation(
        "the final blend of inpainting",
        f"{_PIPELINE}/img2img.py",
        "return blended if replaced is None",
        "return samples if replaced is None",
        f"{_IMG2IMG}::test_the_latents_outside_the_mask_are_the_pictures_own[DDIM]",
    ),
    Mutation(
        "the blend of inpainting in each step",
        f"{_PIPELINE}/passes/denoiser.py",
        "return x * self.nmask + self.init * self.mask",
        "return x",
        f"{_IMG2IMG}::test_the_mask_acts_during_sampling_and_not_at_its_end_alone",
    ),
    Mutation(
        "latent noise under the mask",
        f"{_PIPELINE}/img2img.py",
        "latent * (1.0 - nmask) + noise * nmask",
        "latent",
        f"{_IMG2IMG}::test_what_fills_the_mask_is_seen",
    ),
    Mutation(
        "the overlay outside the mask",
        f"{_PIPELINE}/output/finish.py",
        "finished, before = apply_overlay(picture, overlay, init.box)",
        "finished, before = picture, picture",
        f"{_IMG2IMG}::test_the_picture_is_laid_over_the_result_outside_the_mask",
    ),
    Mutation(
        "the box of the masked part",
        f"{_PIPELINE}/output/finish.py",
        "finished, before = apply_overlay(picture, overlay, init.box)",
        "finished, before = apply_overlay(picture, overlay, None)",
        f"{_IMG2IMG}::test_only_the_masked_part_is_put_back_where_it_came_from",
    ),
    Mutation(
        "each picture's own overlay",
        f"{_PIPELINE}/output/finish.py",
        "return items[index] if index < len(items) else None",
        "return items[0] if items else None",
        f"{_IMG2IMG}::test_two_pictures_make_a_batch_each_with_its_own_overlay",
    ),
    Mutation(
        "colour correction",
        f"{_PIPELINE}/output/finish.py",
        "picture = correct_colours(target, picture)",
        "correct_colours(target, picture)",
        f"{_IMG2IMG}::test_colours_are_corrected_to_those_of_the_picture",
    ),
    # --- stopping ---------------------------------------------------------------------------------------------------
    Mutation(
        "a cancelled pass",
        f"{_PIPELINE}/passes/sampling_pass.py",
        'stop_requested() != "cancel"',
        "stop_requested() is not None",
        f"{_STOPPING}::test_a_cancelled_pass_is_the_end_and_gives_no_picture[one pass]",
    ),
    Mutation(
        "a cancel between batches",
        f"{_PIPELINE}/run.py",
        'if control.stop_requested() == "cancel":\n                raise',
        'if control.stop_requested() == "cancel":\n                pass',
        f"{_STOPPING}::test_a_cancelled_pass_is_the_end_and_gives_no_picture[one pass]",
    ),
    Mutation(
        "no second pass after an interrupt",
        f"{_PIPELINE}/txt2img.py",
        "if plan.hires is None or gen.control.stop_requested() is not None:",
        "if plan.hires is None:",
        f"{_STOPPING}::test_an_interrupted_first_pass_has_no_second",
    ),
    Mutation(
        "a skip ends with its batch",
        "core/latentd/engine/job.py",
        "self.progress.skipped = False\n        stop",
        "stop",
        f"{_STOPPING}::test_a_skip_cuts_one_batch_short_and_goes_on",
    ),
    # --- sampling together ------------------------------------------------------------------------------------------
    Mutation(
        "the merged image_index",
        f"{_PIPELINE}/passes/sampling.py",
        "c.image_index + start for",
        "c.image_index for",
        f"{_TOGETHER}::test_rows_name_the_pictures_of_the_whole_batch",
    ),
    Mutation(
        "the image_index of a call by itself",
        f"{_PIPELINE}/passes/sampling.py",
        "len(calls) == 1 and starts[0] == 0",
        "len(calls) == 1",
        f"{_TOGETHER}::test_rows_name_the_pictures_of_the_whole_batch",
    ),
    Mutation(
        "each pass's rows of the outcome",
        f"{_PIPELINE}/passes/sampling.py",
        "slice(start, start := start + p.x.shape[0])",
        "slice(0, p.x.shape[0])",
        f"{_TOGETHER}::test_each_picture_is_the_one_it_is_alone",
    ),
)

FAULTS = (
    Mutation(
        "previews after the first pass or batch",
        "core/latentd/types.py",
        "        self.preview_step = 0\n",
        "",
        "tests/stages/test_names_and_previews.py::test_every_batch_and_pass_has_previews",
    ),
    Mutation(
        "a colon under --unix-filenames-sanitization",
        "core/latentd/images/saving.py",
        '(_WINDOWS and ":" in relative)',
        '(":" in relative)',
        "tests/stages/test_names_and_previews.py::test_generations_and_scripts_name_their_files_alike",
    ),
    Mutation(
        "names of scripts' grids",
        f"{_PIPELINE}/script_runs.py",
        "            **name_limits(self.services.settings, plan.options),\n",
        "",
        "tests/stages/test_names_and_previews.py::test_generations_and_scripts_name_their_files_alike",
    ),
    Mutation(
        "limits of a request, whoever plans",
        f"{_PIPELINE}/planning/build.py",
        "    check_request(request, services.settings)\n",
        "",
        "tests/stages/test_limits.py::test_a_request_out_of_all_proportion_is_planned_for_nobody",
    ),
    Mutation(
        "limits of a plan, whoever plans",
        f"{_PIPELINE}/planning/build.py",
        "    check_plan(plan, services.settings)\n",
        "",
        "tests/stages/test_limits.py::test_what_only_the_plan_tells_is_limited_too",
    ),
    Mutation(
        "the umask at every save",
        "core/latentd/atomic.py",
        '        with scratch.open("xb") as file:',
        '        os.umask(os.umask(0))\n        with scratch.open("xb") as file:',
        "tests/workspace/test_atomic.py::test_files_follow_the_umask_and_leave_it_alone",
    ),
)

MUTATIONS = (*STAGES, *FAULTS)
