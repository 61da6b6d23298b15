/** What the form says. It is kept in the browser, so that it is there after a reload. */

import { effect, signal } from "@preact/signals";
import { base } from "./api.ts";

export type Mode = "txt2img" | "img2img";

export interface Control {
  enabled: boolean;
  module: string;
  model: string;
  weight: number;
  start: number;
  end: number;
  mode: string;
}

export interface Settings {
  mode: Mode;
  prompt: string;
  negative: string;
  /** Names of the server's styles. */
  styles: string[];
  /** Title of a checkpoint; empty: the server's selection. */
  model: string;
  /** File name of a VAE; empty: the server's selection. */
  vae: string;
  /** Title of the checkpoint that ends each picture; empty: none does. */
  refiner: string;
  /** The part of the steps after which it takes over. */
  refinerAt: number;
  sampler: string;
  scheduler: string;
  steps: number;
  cfg: number;
  width: number;
  height: number;
  /** A text, since seeds go beyond the numbers that JavaScript keeps exactly; -1 draws one. */
  seed: string;
  batches: number;
  batchSize: number;
  hires: boolean;
  hiresScale: number;
  hiresUpscaler: string;
  hiresSteps: number;
  hiresDenoising: number;
  denoising: number;
  resizeMode: number;
  maskBlur: number;
  maskFill: number;
  maskInvert: boolean;
  onlyMasked: boolean;
  padding: number;
  clipSkip: number;
  variation: number;
  variationSeed: string;
  tiling: boolean;
  faces: boolean;
  save: boolean;
  /** Steps between live previews; 0: as the server has it. */
  previewEvery: number;
  control: Control;
}

export const DEFAULTS: Settings = {
  mode: "txt2img",
  prompt: "",
  negative: "",
  styles: [],
  model: "",
  vae: "",
  refiner: "",
  refinerAt: 0.8,
  sampler: "Euler a",
  scheduler: "Automatic",
  steps: 20,
  cfg: 7,
  width: 512,
  height: 512,
  seed: "-1",
  batches: 1,
  batchSize: 1,
  hires: false,
  hiresScale: 2,
  hiresUpscaler: "Latent",
  hiresSteps: 0,
  hiresDenoising: 0.5,
  denoising: 0.6,
  resizeMode: 1,
  maskBlur: 4,
  maskFill: 1,
  maskInvert: false,
  onlyMasked: false,
  padding: 32,
  clipSkip: 1,
  variation: 0,
  variationSeed: "-1",
  tiling: false,
  faces: false,
  save: false,
  previewEvery: 0,
  control: { enabled: false, module: "none", model: "None", weight: 1, start: 0, end: 1, mode: "Balanced" },
};

const PLACE = `latentd:settings:${base.pathname}`;

/** Whether nothing was kept: this browser is here for the first time. */
export const firstVisit = localStorage.getItem(PLACE) === null;

export const settings = signal<Settings>(kept());

effect(() => localStorage.setItem(PLACE, JSON.stringify(settings.value)));

/** Change some of the settings. */
export function change(part: Partial<Settings>): void {
  settings.value = { ...settings.peek(), ...part };
}

export function changeControl(part: Partial<Control>): void {
  change({ control: { ...settings.peek().control, ...part } });
}

function kept(): Settings {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? "{}") as Partial<Settings>;
    return { ...DEFAULTS, ...found, control: { ...DEFAULTS.control, ...found.control } };
  } catch {
    return DEFAULTS;
  }
}
