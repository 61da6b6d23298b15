/** What the page does when it is asked to: draw, stop, read settings back, send pictures on. */

import { signal } from "@preact/signals";
import { ask, ServerError } from "./api.ts";
import { catalogue } from "./catalogue.ts";
import type { Parameters, PictureInfo } from "./documents.ts";
import { settingsOf } from "./infotext.ts";
import { dataUrl, inputs, readInput, setInput, takeSource } from "./inputs.ts";
import { interrupt, present, submit } from "./jobs.ts";
import { addressOf, type Picture } from "./pictures.ts";
import { requestBody } from "./request.ts";
import { change, settings } from "./settings.ts";
import { addUnit, changeUnit, unitName } from "./units.ts";

export interface Problem {
  sentence: string;
  hint: string;
}

export interface Notice {
  text: string;
  undo?: () => void;
}

export type View = "compose" | "pictures";

/** Why the last request was refused. */
export const problem = signal<Problem | null>(null);
export const notice = signal<Notice | null>(null);
/** On a narrow screen, which half of the page is seen. */
export const view = signal<View>("compose");
export const sending = signal(false);
/** Whether the editor of the mask is open. */
export const masking = signal(false);

/** Hand in what the form says. */
export async function draw(): Promise<void> {
  if (sending.peek()) return;
  const form = settings.peek();
  if (form.mode === "img2img" && !inputs.peek()["source"]) {
    problem.value = { sentence: "There is no picture to start from.", hint: "Choose one, or drop one on the page." };
    return;
  }
  sending.value = true;
  problem.value = null;
  try {
    await submit(requestBody(form, inputs.peek()));
    view.value = "pictures";
  } catch (error) {
    complain(error);
    view.value = "compose";
  } finally {
    sending.value = false;
  }
}

/** End the own job that runs, with its pictures as far as they are. */
export function stop(): void {
  const job = present.peek();
  if (job?.state === "running") void interrupt(job.id).catch(complain);
}

/** Tell why something did not work. Being asked to sign in has a form of its own. */
export function complain(error: unknown): void {
  if (error instanceof ServerError && error.status === 401) return;
  const hint = error instanceof ServerError ? error.hint : "";
  problem.value = { sentence: error instanceof Error ? error.message : String(error), hint };
}

let fading: number | undefined;

/** Say something in passing. */
export function say(text: string, undo?: () => void): void {
  clearTimeout(fading);
  notice.value = undo ? { text, undo } : { text };
  fading = setTimeout(() => (notice.value = null), undo ? 12_000 : 5_000);
}

// --- settings from pictures -----------------------------------------------------------------------------------------

/** Fill the form from the infotext in a picture file. */
export async function readSettings(blob: Blob): Promise<void> {
  try {
    const read = await ask<PictureInfo>("POST", "sdapi/v1/png-info", { image: await dataUrl(blob) });
    if (read.info) apply(read.parameters);
    else say("There are no settings in this picture.");
  } catch (error) {
    const unreadable = error instanceof ServerError && error.status === 422;
    complain(unreadable ? new ServerError(422, "This file is not a picture that the server can read.", error.message) : error);
  }
}

function apply(parameters: Parameters): void {
  const known = catalogue.peek();
  const before = settings.peek();
  const { found, missing } = settingsOf(parameters, known, before.units);
  change(found);
  view.value = "compose";
  const lacks = missing.length ? ` Not here: ${missing.join(", ")}.` : "";
  const bare = found.units?.some((one) => one.enabled && !(one.key in inputs.peek()));
  const wanted = bare ? " ControlNet's pictures do not stand in it: give the units theirs." : "";
  say(`The settings of the picture are in the form.${lacks}${wanted}`, () => change(before));
}

export function reuseSeed(picture: Picture): void {
  const seed = seedOf(picture);
  if (seed === null) return;
  change({ seed });
  say(`The next picture has seed ${seed}.`);
}

/** The seed that an infotext names. */
export function seedOf(picture: Picture): string | null {
  return /(?:^|, |\n)Seed: (\d+)/.exec(picture.infotext)?.[1] ?? null;
}

// --- pictures on their way ------------------------------------------------------------------------------------------

export async function toSource(blob: Blob, { mask = false } = {}): Promise<void> {
  await attempt(async () => {
    await takeSource(blob);
    view.value = "compose";
    masking.value = mask;
    if (!mask) say("The picture is the source of the next one.");
  });
}

/** Large pictures take a while. */
const READING = "Reading the picture…";

/** Give a picture to the unit of this key, or else to the first unit that has none, or to the last. */
export async function toControl(blob: Blob, key?: string): Promise<void> {
  await attempt(async () => {
    const input = await readInput(blob);
    const { units } = settings.peek();
    const unit = units.find((one) => (key ? one.key === key : !(one.key in inputs.peek()))) ?? units.at(-1) ?? addUnit();
    setInput(unit.key, input);
    changeUnit(unit.key, { enabled: true });
    view.value = "compose";
    if (!key) say(`The picture controls the next one, as ${unitName(settings.peek().units.findIndex((one) => one.key === unit.key))}.`);
  });
}

export function removeUnit(key: string): void {
  const { units } = settings.peek();
  const place = units.findIndex((one) => one.key === key);
  const removed = units[place];
  if (!removed) return;
  const picture = inputs.peek()[key] ?? null;
  change({ units: units.filter((one) => one !== removed) });
  setInput(key, null);
  say(`${unitName(place)} is removed.`, () => {
    const rest = settings.peek().units;
    change({ units: [...rest.slice(0, place), removed, ...rest.slice(place)] });
    setInput(key, picture);
  });
}

async function attempt(work: () => Promise<void>): Promise<void> {
  say(READING);
  try {
    await work();
    if (notice.peek()?.text === READING) notice.value = null;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
}

export function download(picture: Picture): void {
  const link = document.createElement("a");
  link.href = addressOf(picture);
  const ending = picture.blob.type.split("/")[1] ?? "png";
  link.download = `latentd-${seedOf(picture) ?? picture.made}-${picture.key.split("/").pop()}.${ending}`;
  link.click();
}
