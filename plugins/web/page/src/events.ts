/** The server's stream of events, opened again whenever it breaks off. */

import { signal } from "@preact/signals";
import { ask, base, credentials } from "./api.ts";
import type { JobDocument, State } from "./documents.ts";

export type EventName = Exclude<State, "running"> | "started" | "progress";

const NAMES: EventName[] = ["queued", "started", "progress", "completed", "failed", "cancelled"];
const SLOWEST = 15_000;

/** Whether events are being heard; null before the first try. */
export const connected = signal<boolean | null>(null);

let source: EventSource | null = null;
let wait = 1000;

/** Hear the events of all jobs. `opened` is called each time when the stream has been opened: some may have been missed. */
export function listen(heard: (name: EventName, job: JobDocument) => void, opened: () => void): void {
  source?.close();
  void open(heard, opened);
}

async function open(heard: (name: EventName, job: JobDocument) => void, opened: () => void): Promise<void> {
  const address = new URL("latentd/v1/events", base);
  const again = () => {
    connected.value = false;
    setTimeout(() => listen(heard, opened), wait);
    wait = Math.min(wait * 2, SLOWEST);
  };
  try {
    // An EventSource can send no header.
    if (credentials.peek()) {
      address.searchParams.set("ticket", (await ask<{ ticket: string }>("POST", "latentd/v1/tickets")).ticket);
    }
  } catch {
    again();
    return;
  }
  const stream = new EventSource(address);
  source = stream;
  stream.onopen = () => {
    wait = 1000;
    connected.value = true;
    opened();
  };
  stream.onerror = () => {
    stream.close();
    if (source === stream) again();
  };
  for (const name of NAMES) {
    stream.addEventListener(name, (event) => heard(name, JSON.parse(event.data) as JobDocument));
  }
}
