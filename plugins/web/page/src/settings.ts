/** What the form says. It outlives a reload, in each tab by itself; a new tab begins with what was said last in any. */

import { effect, signal } from "@preact/signals";
import { base } from "./api.ts";
import { keepText, readText } from "./texts.ts";

export type Mode = "txt2img" | "img2img";

/** A unit of ControlNet. */
export interface Unit {
  /** What its picture is kept under; no other unit has it. */
  key: string;
  enabled: boolean;
  module: string;
  model: string;
  weight: number;
  start: number;
  end: number;
  mode: string;
  /** How the control map is fitted to the picture, by the server's name. */
  resize: string;
  /** Whether the preprocessor works at the size of what is drawn; if not, at `resolution`. */
  pixelPerfect: boolean;
  /** The preprocessor's sliders; negative: its own values. */
  resolution: number;
  thresholdA: number;
  thresholdB: number;
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
  units: Unit[];
}

/** A unit as it begins. Its key is the one that the page used when it had a single unit. */
export const UNIT: Unit = {
  key: "control",
  enabled: false,
  module: "none",
  model: "None",
  weight: 1,
  start: 0,
  end: 1,
  mode: "Balanced",
  resize: "Crop and Resize",
  pixelPerfect: true,
  resolution: -1,
  thresholdA: -1,
  thresholdB: -1,
};

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
  units: [UNIT],
};

const PLACE = `latentd:settings:${base.pathname}`;

const KEPT = readText("passing", PLACE) ?? readText("lasting", PLACE);

/** Whether nothing was kept: this browser is here for the first time. */
export const firstVisit = KEPT === null;

export const settings = signal<Settings>(kept());

effect(() => {
  const text = JSON.stringify(settings.value);
  keepText("passing", PLACE, text);
  keepText("lasting", PLACE, text);
});

/** Change some of the settings. */
export function change(part: Partial<Settings>): void {
  settings.value = { ...settings.peek(), ...part };
}

function kept(): Settings {
  try {
    // The page once had a single unit, `control`.
    const { control, ...found } = JSON.parse(KEPT ?? "{}") as Partial<Settings> & { control?: Partial<Unit> };
    const units: Partial<Unit>[] = found.units ?? (control ? [control] : DEFAULTS.units);
    return { ...DEFAULTS, ...found, units: units.map((one) => ({ ...UNIT, ...one })) };
  } catch {
    return DEFAULTS;
  }
}
