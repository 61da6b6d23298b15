/** From the form to the body of a request: AUTOMATIC1111's fields, and `mode`. */

import type { Input } from "./inputs.ts";
import type { Settings, Unit } from "./settings.ts";

type Pictures = Readonly<Record<string, Input>>;

/** A body for `POST /latentd/v1/jobs`. Of `pictures`, what the settings have no use for is left out. */
export function requestBody(form: Settings, pictures: Pictures): Record<string, unknown> {
  return {
    mode: form.mode,
    prompt: form.prompt,
    negative_prompt: form.negative,
    styles: form.styles,
    sampler_name: form.sampler || null,
    scheduler: form.scheduler || null,
    steps: form.steps,
    cfg_scale: form.cfg,
    width: form.width,
    height: form.height,
    seed: seed(form.seed),
    subseed: seed(form.variationSeed),
    subseed_strength: form.variation,
    n_iter: form.batches,
    batch_size: form.batchSize,
    tiling: form.tiling,
    restore_faces: form.faces,
    save_images: form.save,
    override_settings: overrides(form),
    ...(form.refiner ? { refiner_checkpoint: form.refiner, refiner_switch_at: form.refinerAt } : {}),
    ...(form.mode === "img2img" ? fromPicture(form, pictures) : hires(form)),
    ...control(form, pictures),
  };
}

function overrides(form: Settings): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  if (form.model) options["sd_model_checkpoint"] = form.model;
  if (form.vae) options["sd_vae"] = form.vae;
  if (form.clipSkip > 1) options["CLIP_stop_at_last_layers"] = form.clipSkip;
  if (form.previewEvery > 0) options["show_progress_every_n_steps"] = form.previewEvery;
  return options;
}

function hires(form: Settings): Record<string, unknown> {
  if (!form.hires) return {};
  return {
    enable_hr: true,
    hr_scale: form.hiresScale,
    hr_upscaler: form.hiresUpscaler,
    hr_second_pass_steps: form.hiresSteps,
    denoising_strength: form.hiresDenoising,
  };
}

function fromPicture(form: Settings, pictures: Pictures): Record<string, unknown> {
  const source = pictures["source"]?.url;
  const mask = pictures["mask"]?.url;
  const body: Record<string, unknown> = {
    init_images: source ? [source] : [],
    denoising_strength: form.denoising,
    resize_mode: form.resizeMode,
  };
  if (!mask) return body;
  return {
    ...body,
    mask,
    mask_blur: form.maskBlur,
    inpainting_fill: form.maskFill,
    inpainting_mask_invert: form.maskInvert ? 1 : 0,
    inpaint_full_res: form.onlyMasked,
    inpaint_full_res_padding: form.padding,
  };
}

function control({ units }: Settings, pictures: Pictures): Record<string, unknown> {
  if (!units.some((one) => one.enabled)) return {};
  // Units that are off are sent as such, so that the server counts as the page does.
  const args = units.map((one) => (one.enabled ? unit(one, pictures) : { enabled: false }));
  return { alwayson_scripts: { controlnet: { args } } };
}

function unit(form: Unit, pictures: Pictures): Record<string, unknown> {
  return {
    enabled: true,
    image: pictures[form.key]?.url ?? null,
    module: form.module,
    model: form.model,
    weight: form.weight,
    guidance_start: form.start,
    guidance_end: form.end,
    control_mode: form.mode,
    resize_mode: form.resize,
    pixel_perfect: form.pixelPerfect,
    processor_res: form.resolution,
    threshold_a: form.thresholdA,
    threshold_b: form.thresholdB,
  };
}

/** A number where JavaScript keeps it exactly, else the text, which the server takes, too. */
function seed(text: string): number | string {
  const value = Number(text.trim() || "-1");
  return Number.isSafeInteger(value) ? value : text.trim();
}
