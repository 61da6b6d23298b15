/** What the server has: models, samplers, networks and so on. */

import { signal } from "@preact/signals";
import { ask } from "./api.ts";
import type { Checkpoint, ControlNet, Lora, Named, Parameters, Sampler, Scheduler, Slider, Vae } from "./documents.ts";
import { split } from "./infotext.ts";
import { change, firstVisit, settings } from "./settings.ts";

export interface Catalogue {
  /** Whether the lists have been read. */
  ready: boolean;
  models: Checkpoint[];
  /** Name of the checkpoint that the server has selected. */
  selected: string;
  vaes: string[];
  samplers: Sampler[];
  schedulers: Scheduler[];
  upscalers: string[];
  loras: string[];
  embeddings: string[];
  styles: string[];
  /** Null where ControlNet's plugin is not there. */
  control: ControlNet | null;
}

const NOTHING: Catalogue = {
  ready: false,
  models: [],
  selected: "",
  vaes: [],
  samplers: [],
  schedulers: [],
  upscalers: [],
  loras: [],
  embeddings: [],
  styles: [],
  control: null,
};

/** The checkpoint that comes with the repository, and the size of its pictures. */
const TINY = { name: "latentd-tiny", size: 128 };

export const catalogue = signal<Catalogue>(NOTHING);

/** Read every list anew. */
export async function readCatalogue(): Promise<void> {
  const list = <T>(path: string) => ask<T>("GET", `sdapi/v1/${path}`);
  const [models, options, vaes, samplers, schedulers, upscalers, latent, loras, embeddings, styles, scripts] = await Promise.all([
    list<Checkpoint[]>("sd-models"),
    list<Parameters>("options"),
    list<Vae[]>("sd-vae"),
    list<Sampler[]>("samplers"),
    list<Scheduler[]>("schedulers"),
    list<Named[]>("upscalers"),
    list<Named[]>("latent-upscale-modes"),
    list<Lora[]>("loras"),
    list<{ loaded: object; skipped: object }>("embeddings"),
    list<Named[]>("prompt-styles"),
    list<{ txt2img: string[] }>("scripts"),
  ]);
  const chosen = String(options["sd_model_checkpoint"] ?? "");
  catalogue.value = {
    ready: true,
    models,
    selected: (models.find((one) => one.title === chosen) ?? models[0])?.model_name ?? "",
    vaes: vaes.map((one) => one.model_name),
    samplers: samplers.filter((one) => !split(one.name, schedulers).scheduler),
    schedulers,
    upscalers: [...latent, ...upscalers].map((one) => one.name),
    loras: loras.map((one) => one.name).sort(),
    embeddings: Object.keys({ ...embeddings.loaded, ...embeddings.skipped }).sort(),
    styles: styles.map((one) => one.name),
    control: scripts.txt2img.includes("controlnet") ? await readControl() : null,
  };
  if (firstVisit && settings.peek().width === 512 && catalogue.value.selected === TINY.name) {
    change({ width: TINY.size, height: TINY.size });
  }
}

/** Have the server look through its folders, then read every list anew. */
export async function refreshCatalogue(): Promise<void> {
  const kinds = ["checkpoints", "vae", "loras", "embeddings"];
  await Promise.all(kinds.map((kind) => ask("POST", `sdapi/v1/refresh-${kind}`)));
  await readCatalogue();
}

async function readControl(): Promise<ControlNet> {
  const [modules, models, options] = await Promise.all([
    ask<{ module_list: string[]; module_detail: Record<string, { sliders: Slider[] }> }>("GET", "controlnet/module_list"),
    ask<{ model_list: string[] }>("GET", "controlnet/model_list"),
    ask<{ control_net_unit_count: number }>("GET", "controlnet/settings"),
  ]);
  return {
    modules: modules.module_list.map((name) => ({ name, sliders: modules.module_detail[name]?.sliders ?? [] })),
    models: models.model_list,
    most: options.control_net_unit_count,
  };
}
