/** The pictures that were drawn, newest first; kept in this browser through reloads. */

import { computed, signal } from "@preact/signals";
import { forget, keep, recallAll } from "./storage.ts";

export interface Picture {
  /** The job's id and the number of the picture in it. */
  key: string;
  blob: Blob;
  width: number;
  height: number;
  infotext: string;
  warnings: string[];
  /** Unix time in milliseconds. */
  made: number;
}

const MOST = 150;
const LONGEST_TITLE = 100;

export const pictures = signal<Picture[]>([]);

/** What the stage shows: a picture's key, a job's id, or nothing. */
export const shown = signal("");

export const shownPicture = computed(() => pictures.value.find((one) => one.key === shown.value));

const addresses = new Map<string, string>();

/** An address for the picture's bytes, for `src` and `href`. */
export function addressOf(picture: Picture): string {
  let address = addresses.get(picture.key);
  if (!address) {
    address = URL.createObjectURL(picture.blob);
    addresses.set(picture.key, address);
  }
  return address;
}

/** The beginning of the picture's prompt. */
export function titleOf({ infotext }: Picture): string {
  return (infotext.split("\n", 1)[0] ?? "").slice(0, LONGEST_TITLE);
}

/** Bring back the pictures of former visits. */
export async function readPictures(): Promise<void> {
  const found = await recallAll<Picture>("pictures");
  const here = new Set(pictures.peek().map((one) => one.key));
  const all = [...pictures.peek(), ...found.filter((one) => !here.has(one.key))];
  pictures.value = all.sort((one, other) => other.made - one.made);
  if (!shown.peek()) shown.value = pictures.peek()[0]?.key ?? "";
}

/** Add pictures of one job, in their order. */
export function addPictures(made: Picture[]): void {
  const here = new Set(pictures.peek().map((one) => one.key));
  const all = [...made.filter((one) => !here.has(one.key)), ...pictures.peek()];
  for (const one of made) void keep("pictures", one.key, one);
  for (const old of all.slice(MOST)) drop(old);
  pictures.value = all.slice(0, MOST);
}

/** Remove a picture from the page and the browser; its neighbour is shown. */
export function removePicture(picture: Picture): void {
  const place = pictures.peek().indexOf(picture);
  drop(picture);
  pictures.value = pictures.peek().filter((one) => one !== picture);
  if (shown.peek() === picture.key) shown.value = (pictures.peek()[place] ?? pictures.peek()[place - 1])?.key ?? "";
}

/** Show the picture `step` places further in the strip. */
export function showNeighbour(step: number): void {
  const all = pictures.peek();
  const place = all.findIndex((one) => one.key === shown.peek());
  const next = all[Math.min(Math.max(place + step, 0), all.length - 1)];
  if (next) shown.value = next.key;
}

function drop(picture: Picture): void {
  const address = addresses.get(picture.key);
  if (address) URL.revokeObjectURL(address);
  addresses.delete(picture.key);
  void forget("pictures", picture.key);
}
