/** The pictures that go into a generation: source, mask and control map. Kept in this browser through reloads. */

import { signal, type Signal } from "@preact/signals";
import { change, changeControl } from "./settings.ts";
import { keep, recall } from "./storage.ts";

export interface Input {
  /** A data URL, as requests have it. */
  url: string;
  width: number;
  height: number;
}

export type Slot = "source" | "mask" | "control";

export const inputs: Record<Slot, Signal<Input | null>> = {
  source: signal<Input | null>(null),
  mask: signal<Input | null>(null),
  control: signal<Input | null>(null),
};

const STEP = 8;
const MOST_PIXELS = 2048 * 2048;

export function setInput(slot: Slot, input: Input | null): void {
  inputs[slot].value = input;
  void keep("inputs", slot, input);
}

/** Bring back the pictures of the last visit. */
export async function readInputs(): Promise<void> {
  for (const slot of ["source", "mask", "control"] as const) {
    const found = await recall<Input | null>("inputs", slot);
    if (found && !inputs[slot].peek()) inputs[slot].value = found;
  }
}

/** Take a picture as the source; pictures get its size, and a mask that was drawn for another one is removed. */
export async function takeSource(blob: Blob): Promise<void> {
  const input = await readInput(blob);
  setInput("source", input);
  setInput("mask", null);
  change({ mode: "img2img", ...sizeLike(input) });
}

export async function takeControl(blob: Blob): Promise<void> {
  setInput("control", await readInput(blob));
  changeControl({ enabled: true });
}

/** Read a picture file.
 *  @throws Error it is none that the browser can read. */
export async function readInput(blob: Blob): Promise<Input> {
  const url = await dataUrl(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw new Error("This file is not a picture that the browser can read.");
  }
  return { url, width: image.naturalWidth, height: image.naturalHeight };
}

export function dataUrl(blob: Blob): Promise<string> {
  return new Promise((settle, fail) => {
    const reader = new FileReader();
    reader.onload = () => settle(String(reader.result));
    reader.onerror = () => fail(new Error("This file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

/** Width and height in steps of eight pixels, of the picture's shape and no larger than what a server takes easily. */
function sizeLike({ width, height }: Input): { width: number; height: number } {
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const fit = (pixels: number) => Math.max(64, Math.round((pixels * factor) / STEP) * STEP);
  return { width: fit(width), height: fit(height) };
}
