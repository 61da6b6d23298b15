/** Texts that the browser keeps. Where it lets nothing be kept, or no more, the page works on without. */

import { signal } from "@preact/signals";

/** `lasting`: on this device; `passing`: in this tab until it is closed. */
export type Store = "lasting" | "passing";

/** Whether the browser has refused to keep something because its space is used up. */
export const full = signal(false);

/** What is kept in `place`; null: nothing. */
export function readText(store: Store, place: string): string | null {
  return attempt(() => storage(store).getItem(place)) ?? null;
}

export function keepText(store: Store, place: string, text: string): void {
  attempt(() => storage(store).setItem(place, text));
}

export function forgetText(store: Store, place: string): void {
  attempt(() => storage(store).removeItem(place));
}

function storage(store: Store): Storage {
  return store === "lasting" ? localStorage : sessionStorage;
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    // Else the visitor has forbidden it, and knows.
    if (isQuota(error)) full.value = true;
    return undefined;
  }
}

export function isQuota(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}
