/** The server's documents, as far as the page reads them. */

export type State = "queued" | "running" | "completed" | "failed" | "cancelled";

export interface JobDocument {
  id: string;
  kind: string;
  state: State;
  position: number;
  created: number;
  progress: number;
  eta: number | null;
  step: number;
  steps: number;
  batch: number;
  batches: number;
  preview_id: number;
  interrupted: boolean;
  expired: boolean;
  warnings: string[];
  meta: { width?: number; height?: number; images?: number };
  error: { type: string; detail: string } | null;
}

export interface JobPicture {
  width: number;
  height: number;
  seed: number | null;
  role: "image" | "grid" | "extra";
  /** Null where the picture has none (a control map, say). */
  infotext: string | null;
}

export interface Job extends JobDocument {
  images: JobPicture[];
}

export interface Checkpoint {
  title: string;
  model_name: string;
  hash: string | null;
}

export interface Named {
  name: string;
}

export interface Sampler extends Named {
  options: Record<string, string>;
}

export interface Scheduler extends Named {
  label: string;
}

export interface Lora extends Named {
  alias: string;
}

export interface Vae {
  model_name: string;
}

/** A slider of a preprocessor. */
export interface Slider {
  name: string;
  value: number;
  min: number;
  max: number;
  step: number;
}

/** What ControlNet's routes tell. */
export interface ControlNet {
  modules: { name: string; sliders: Slider[] }[];
  models: string[];
  /** How many units the server wants a page to show. */
  most: number;
}

/** What an infotext says, by AUTOMATIC1111's keys; values are texts, mostly. */
export type Parameters = Record<string, unknown>;

export interface PictureInfo {
  info: string;
  parameters: Parameters;
}
