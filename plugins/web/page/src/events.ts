/** The server's stream of events, opened again whenever it breaks off. */

import { signal } from "@preact/signals";
import { ask, base, credentials, ServerError } from "./api.ts";
import type { JobDocument, State } from "./documents.ts";

export type EventName = Exclude<State, "running"> | "started" | "progress";

const NAMES: EventName[] = ["queued", "started", "progress", "completed", "failed", "cancelled"];
const SOONEST = 1000;
const SLOWEST = 15_000;
/** Milliseconds out of sight after which a page without jobs stops listening: a browser has few connections to a host. */
const PATIENCE = 60_000;

/** Whether events are being heard; null before the first try. */
export const connected = signal<boolean | null>(null);

let source: EventSource | null = null;
let wait = SOONEST;
let pending: number | undefined;
/** Counts the tries, so that one that is overtaken by another gives up. */
let latest = 0;
let again: (() => void) | null = null;

/** Hear the events of all jobs. `opened` is called each time when the stream has been opened: some may have been missed. */
export function listen(heard: (name: EventName, job: JobDocument) => void, opened: () => void): void {
  again = () => void open(heard, opened);
  again();
}

/** Listen again at once when the network is back, or the page is looked at again; not at all while nobody looks at it.
 *  @param idle whether no job of this page is waited for. */
export function watchConnection(idle: () => boolean): void {
  let leaving: number | undefined;
  const now = () => {
    clearTimeout(leaving);
    if (document.visibilityState === "hidden") leaving = setTimeout(() => idle() && source?.close(), PATIENCE);
    else if (connected.peek() === false || source?.readyState === EventSource.CLOSED) again?.();
  };
  addEventListener("online", now);
  document.addEventListener("visibilitychange", now);
}

async function open(heard: (name: EventName, job: JobDocument) => void, opened: () => void): Promise<void> {
  const mine = ++latest;
  clearTimeout(pending);
  source?.close();
  const address = new URL("latentd/v1/events", base);
  try {
    // An EventSource can send no header.
    if (credentials.peek()) {
      address.searchParams.set("ticket", (await ask<{ ticket: string }>("POST", "latentd/v1/tickets")).ticket);
    }
  } catch (error) {
    // Credentials that are no longer taken: the form that asks for others comes back here.
    if (mine === latest && !(error instanceof ServerError && error.status === 401)) later();
    return;
  }
  if (mine !== latest) return;
  const stream = new EventSource(address);
  source = stream;
  stream.onopen = () => {
    wait = SOONEST;
    connected.value = true;
    opened();
  };
  stream.onerror = () => {
    stream.close();
    if (source === stream) later();
  };
  for (const name of NAMES) {
    stream.addEventListener(name, (event) => heard(name, JSON.parse(event.data) as JobDocument));
  }
}

function later(): void {
  connected.value = false;
  clearTimeout(pending);
  pending = setTimeout(() => again?.(), wait);
  wait = Math.min(wait * 2, SLOWEST);
}
