/** From what an infotext says to the form. */

import type { Checkpoint, ControlNet, Parameters, Sampler, Scheduler } from "./documents.ts";
import { DEFAULTS, type Settings, type Unit } from "./settings.ts";
import { unitsOf } from "./units.ts";

export interface Known {
  models: Checkpoint[];
  vaes: string[];
  samplers: Sampler[];
  schedulers: Scheduler[];
  control: ControlNet | null;
}

/** The settings that an infotext names, and what it names that this server does not have.
 *  @param present the units of the form, whose pictures stay where they are. */
export function settingsOf(said: Parameters, known: Known, present: Unit[]): { found: Partial<Settings>; missing: string[] } {
  const found: Partial<Settings> = {
    mode: "txt2img",
    prompt: text(said["Prompt"]),
    negative: text(said["Negative prompt"]),
    styles: names(said["Styles array"]),
    hires: said["Hires upscale"] !== undefined || said["Hires upscaler"] !== undefined,
    clipSkip: number(said["Clip skip"]) ?? DEFAULTS.clipSkip,
    variation: number(said["Variation seed strength"]) ?? DEFAULTS.variation,
    tiling: text(said["Tiling"]) === "True",
    ...numbers(said),
  };
  if (said["Seed"] !== undefined) found.seed = text(said["Seed"]);
  if (said["Variation seed"] !== undefined) found.variationSeed = text(said["Variation seed"]);
  if (said["Hires upscaler"] !== undefined) found.hiresUpscaler = text(said["Hires upscaler"]);
  const denoising = number(said["Denoising strength"]);
  if (denoising !== undefined) Object.assign(found, { denoising, hiresDenoising: denoising });
  const { units, missing: lacking } = unitsOf(said, present, known.control);
  found.units = units;
  const missing = [...sampling(said, known, found), ...files(said, known, found), ...lacking];
  return { found, missing };
}

function numbers(said: Parameters): Partial<Settings> {
  const fields: [keyof Settings, string][] = [
    ["steps", "Steps"],
    ["cfg", "CFG scale"],
    ["width", "Size-1"],
    ["height", "Size-2"],
    ["refinerAt", "Refiner switch at"],
    ["hiresScale", "Hires upscale"],
    ["hiresSteps", "Hires steps"],
    ["maskBlur", "Mask blur"],
  ];
  const read = fields.map(([field, key]) => [field, number(said[key])] as const);
  return Object.fromEntries(read.filter(([, value]) => value !== undefined));
}

function sampling(said: Parameters, known: Known, found: Partial<Settings>): string[] {
  const name = text(said["Sampler"]);
  if (!name) return [];
  const { sampler, scheduler } = split(name, known.schedulers);
  const here = known.samplers.some((one) => one.name === sampler);
  const schedule = text(said["Schedule type"]) || scheduler || "Automatic";
  if (here) found.sampler = sampler;
  if (known.schedulers.some((one) => one.label === schedule)) found.scheduler = schedule;
  return here ? [] : [`sampler ${name}`];
}

/** Sampler and schedule of a name that has both, as AUTOMATIC1111 had before 1.9 ("DPM++ 2M Karras"). */
export function split(name: string, schedulers: Scheduler[]): { sampler: string; scheduler: string } {
  const ending = schedulers.find(({ label }) => name.endsWith(` ${label}`));
  if (!ending) return { sampler: name, scheduler: "" };
  return { sampler: name.slice(0, -ending.label.length - 1), scheduler: ending.label };
}

function files(said: Parameters, known: Known, found: Partial<Settings>): string[] {
  const missing: string[] = [];
  const model = text(said["Model"]);
  const hash = text(said["Model hash"]);
  if (model || hash) {
    const here = known.models.find((one) => one.hash === hash) ?? known.models.find((one) => one.model_name === model);
    if (here) found.model = here.title;
    else missing.push(`model ${model || hash}`);
  }
  const refiner = text(said["Refiner"]);
  // It is named with its hash behind it: "name [0123456789]".
  const second = known.models.find((one) => refiner === one.model_name || refiner === `${one.model_name} [${one.hash}]`);
  found.refiner = second?.title ?? "";
  if (refiner && !second) missing.push(`refiner ${refiner}`);
  const vae = text(said["VAE"]);
  if (vae) {
    if (known.vaes.includes(vae)) found.vae = vae;
    else missing.push(`VAE ${vae}`);
  }
  return missing;
}

function names(value: unknown): string[] {
  return Array.isArray(value) ? value.map(text) : [];
}

function text(value: unknown): string {
  return value === undefined || value === null ? "" : String(value);
}

function number(value: unknown): number | undefined {
  const read = Number.parseFloat(text(value));
  return Number.isFinite(read) ? read : undefined;
}
