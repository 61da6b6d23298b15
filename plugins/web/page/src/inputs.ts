/** The pictures that go into a generation: source, mask and those of the ControlNet units. They outlive a reload. */

import { signal } from "@preact/signals";
import { change, settings } from "./settings.ts";
import { forget, keep, recall } from "./storage.ts";

export interface Input {
  /** A data URL, as requests have it. */
  url: string;
  width: number;
  height: number;
}

/** By what each is: `source`, `mask`, or the key of a unit. */
export const inputs = signal<Readonly<Record<string, Input>>>({});

const STEP = 8;
const MOST_PIXELS = 2048 * 2048;
/** What is larger is sent smaller. */
const LONGEST = 4096;
const MOST_BYTES = 16 * 1024 * 1024;
/** Formats that every server reads; others, SVG say, are sent as what the browser makes of them. */
const PLAIN = ["image/png", "image/jpeg", "image/webp"];

export function setInput(slot: string, input: Input | null): void {
  const { [slot]: _, ...others } = inputs.peek();
  inputs.value = input ? { ...others, [slot]: input } : others;
  void (input ? keep("inputs", slot, input) : forget("inputs", slot));
}

/** Bring back the pictures of the last visit. */
export async function readInputs(): Promise<void> {
  for (const slot of ["source", "mask", ...settings.peek().units.map((one) => one.key)]) {
    const found = await recall<Input | null>("inputs", slot);
    if (found && !(slot in inputs.peek())) inputs.value = { ...inputs.peek(), [slot]: found };
  }
}

/** Take a picture as the source; pictures get its size, and a mask that was drawn for another one is removed. */
export async function takeSource(blob: Blob): Promise<void> {
  const input = await readInput(blob);
  setInput("source", input);
  setInput("mask", null);
  change({ mode: "img2img", ...sizeLike(input) });
}

/** Read a picture file.
 *  @throws Error it is none that the browser can read. */
export async function readInput(blob: Blob): Promise<Input> {
  if (!blob.size) throw new Error("This file is empty.");
  const url = await dataUrl(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw new Error("The browser cannot read this file as a picture. PNG, JPEG and WebP are sure to work.");
  }
  const { width, height } = sizeWithin(image);
  const asItIs = width === image.naturalWidth && height === image.naturalHeight && blob.size <= MOST_BYTES;
  return { url: asItIs && PLAIN.includes(blob.type) ? url : redrawn(image, width, height), width, height };
}

/** The picture's size, within the bounds; an SVG may have none. */
function sizeWithin({ naturalWidth, naturalHeight }: HTMLImageElement): { width: number; height: number } {
  const [width, height] = naturalWidth && naturalHeight ? [naturalWidth, naturalHeight] : [512, 512];
  const factor = Math.min(1, LONGEST / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * factor)), height: Math.max(1, Math.round(height * factor)) };
}

/** The picture as PNG, or where that is large as JPEG.
 *  @throws Error there is no memory for it. */
function redrawn(image: HTMLImageElement, width: number, height: number): string {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This picture is too large for the browser.");
  context.drawImage(image, 0, 0, width, height);
  const exact = canvas.toDataURL("image/png");
  if (exact.length <= MOST_BYTES) return exact;
  // JPEG knows no transparency, and would make it black.
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return canvas.toDataURL("image/jpeg", 0.95);
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
