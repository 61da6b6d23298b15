/** The jobs that wait and run, here and of other clients; what became of those that were started here. */

import { computed, signal } from "@preact/signals";
import { ask, base, picture, ServerError } from "./api.ts";
import type { Job, JobDocument } from "./documents.ts";
import { listen, type EventName } from "./events.ts";
import { addPictures, pictures, shown, type Picture } from "./pictures.ts";
import { keepText, readText } from "./texts.ts";

/** A job of this browser, from when it is handed in until its pictures are here. */
interface Own {
  /** The beginning of it. */
  prompt: string;
}

export interface Failure {
  sentence: string;
  hint: string;
}

const PLACE = `latentd:jobs:${base.pathname}`;
const LISTED = 500;
const LONGEST_PROMPT = 200;

/** Jobs that have not ended, next first. */
export const jobs = signal<JobDocument[]>([]);
export const own = signal<Record<string, Own>>(kept());
/** The own job that has ended and whose pictures are on their way. */
export const fetching = signal<JobDocument | null>(null);
/** Addresses of the latest previews of own jobs. */
export const previews = signal<Record<string, string>>({});
export const failure = signal<Failure | null>(null);

/** The own job that runs, or else the own one that is next. */
export const present = computed(() => jobs.value.find((one) => one.id in own.value));

/** Own jobs that this tab shows when they start; others were handed in in another tab. */
const ours = new Set(Object.keys(own.peek()));

/** Hand in a generation. What is shown is the job from now on.
 *  @throws ServerError it was refused. */
export async function submit(body: Record<string, unknown>): Promise<void> {
  const job = await ask<JobDocument>("POST", "latentd/v1/jobs", body);
  ours.add(job.id);
  remember({ ...kept(), ...own.peek(), [job.id]: { prompt: String(body["prompt"]).slice(0, LONGEST_PROMPT) } });
  failure.value = null;
  shown.value = present.peek()?.id ?? job.id;
  await refresh();
}

export async function cancel(id: string): Promise<void> {
  await ask("POST", `${path(id)}/cancel`);
}

/** End a job early: its pictures come as far as they are. */
export async function interrupt(id: string): Promise<void> {
  await ask("POST", `${path(id)}/interrupt`);
}

/** Follow the server's jobs from now on. `opened` is called whenever the server is there, or there again. */
export function follow(opened: () => void): void {
  listen(heard, () => {
    void refresh();
    opened();
  });
}

/** Jobs that other tabs hand in are own ones, too; each tab lets go of them by itself. */
export function watchOtherTabs(): void {
  addEventListener("storage", (event) => {
    if (event.key === PLACE) own.value = { ...kept(), ...own.peek() };
  });
}

function path(id: string): string {
  return `latentd/v1/jobs/${encodeURIComponent(id)}`;
}

function remember(value: Record<string, Own>): void {
  own.value = value;
  keepText("lasting", PLACE, JSON.stringify(value));
}

function kept(): Record<string, Own> {
  try {
    return JSON.parse(readText("lasting", PLACE) ?? "{}") as Record<string, Own>;
  } catch {
    return {};
  }
}

function heard(name: EventName, job: JobDocument): void {
  if (name === "completed" || name === "failed" || name === "cancelled") {
    jobs.value = jobs.peek().filter((one) => one.id !== job.id);
    if (job.id in own.peek()) void finish(job);
    refreshSoon();
    return;
  }
  const there = jobs.peek().some((one) => one.id === job.id);
  jobs.value = there ? jobs.peek().map((one) => (one.id === job.id ? job : one)) : [...jobs.peek(), job];
  if (name === "started") refreshSoon();
  if (ours.has(job.id)) {
    if (name === "started") shown.value = job.id;
    if (job.preview_id > 0) void preview(job);
  }
}

let refreshing: number | undefined;

/** Places in the queue have changed: read them once the events that come together are through. */
function refreshSoon(): void {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => void refresh(), 150);
}

async function refresh(): Promise<void> {
  let listed: JobDocument[];
  try {
    listed = (await ask<{ jobs: JobDocument[] }>("GET", `latentd/v1/jobs?limit=${LISTED}`)).jobs;
  } catch {
    return; // The stream tells of a lost connection, and comes again.
  }
  const active = listed.filter((one) => one.state === "running" || one.state === "queued");
  jobs.value = active.sort((one, other) => one.position - other.position);
  for (const id of Object.keys(own.peek())) {
    if (active.some((one) => one.id === id)) continue;
    const ended = listed.find((one) => one.id === id);
    if (ended) void finish(ended);
    else lose(id, "The server does not know this job any more.", "It may have been restarted.");
  }
}

const finishing = new Set<string>();

/** Fetch what came of an own job, once. Where the server does not answer, it is tried again when it does. */
async function finish(job: JobDocument): Promise<void> {
  if (finishing.has(job.id)) return;
  finishing.add(job.id);
  try {
    if (job.state === "failed") lose(job.id, job.error?.detail ?? "The job failed.", "Nothing was drawn.");
    else if (job.expired) lose(job.id, "The server does not keep this job's pictures any more.", "See its flag --result-ttl.");
    else if (job.state === "completed") await collect(job);
    else release(job.id);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.status !== 0 && error.status !== 401) lose(job.id, error.message, error.hint);
  } finally {
    finishing.delete(job.id);
    if (fetching.peek()?.id === job.id) fetching.value = null;
  }
}

function lose(id: string, sentence: string, hint: string): void {
  failure.value = { sentence, hint };
  release(id);
}

async function collect({ id, ...document }: JobDocument): Promise<void> {
  if (shown.peek() === id) fetching.value = { id, ...document };
  const job = await ask<Job>("GET", path(id));
  const made = job.images.map(async (one, index): Promise<Picture> => {
    const blob = (await picture(`${path(id)}/images/${index}`)) ?? new Blob();
    const { width, height } = one;
    const infotext = one.infotext ?? "";
    return { key: `${id}/${index}`, blob, width, height, infotext, warnings: job.warnings, made: Date.now() };
  });
  addPictures(await Promise.all(made));
  if (job.images.length && (shown.peek() === id || !shown.peek())) shown.value = `${id}/0`;
  release(id);
}

function release(id: string): void {
  const { [id]: _, ...others } = { ...kept(), ...own.peek() };
  remember(others);
  const { [id]: address, ...rest } = previews.peek();
  if (address) URL.revokeObjectURL(address);
  previews.value = rest;
  fetched.delete(id);
  ours.delete(id);
  if (shown.peek() === id) shown.value = present.peek()?.id ?? pictures.peek()[0]?.key ?? "";
}

const fetched = new Map<string, number>();
/** Jobs whose preview is on its way: on a slow line, one after another. */
const coming = new Set<string>();

async function preview({ id, preview_id: number }: JobDocument): Promise<void> {
  if (coming.has(id) || (fetched.get(id) ?? 0) >= number) return;
  coming.add(id);
  const blob = await picture(`${path(id)}/preview?format=jpeg`).catch(() => null);
  coming.delete(id);
  if (!blob || !ours.has(id)) return;
  fetched.set(id, number);
  const before = previews.peek()[id];
  previews.value = { ...previews.peek(), [id]: URL.createObjectURL(blob) };
  if (before) URL.revokeObjectURL(before);
}
