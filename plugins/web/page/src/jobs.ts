/** The jobs that wait and run, here and of other clients; what became of those that were started here. */

import { computed, signal } from "@preact/signals";
import { ask, base, picture, ServerError } from "./api.ts";
import type { Job, JobDocument } from "./documents.ts";
import { listen, type EventName } from "./events.ts";
import { addPictures, shown, type Picture } from "./pictures.ts";

/** A job of this page, from when it is handed in until its pictures are here. */
interface Own {
  prompt: string;
}

export interface Failure {
  id: string;
  sentence: string;
}

const PLACE = `latentd:jobs:${base.pathname}`;
const LISTED = 500;

/** Jobs that have not ended, next first. */
export const jobs = signal<JobDocument[]>([]);
export const own = signal<Record<string, Own>>(JSON.parse(localStorage.getItem(PLACE) ?? "{}"));
/** Addresses of the latest previews of own jobs. */
export const previews = signal<Record<string, string>>({});
export const failure = signal<Failure | null>(null);

/** The own job that runs, or else the own one that is next. */
export const present = computed(() => jobs.value.find((one) => one.id in own.value));

/** Hand in a generation. What is shown is the job from now on.
 *  @throws ServerError it was refused. */
export async function submit(body: Record<string, unknown>): Promise<void> {
  const job = await ask<JobDocument>("POST", "latentd/v1/jobs", body);
  remember({ ...own.peek(), [job.id]: { prompt: String(body["prompt"]) } });
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

/** Follow the server's jobs from now on. */
export function follow(): void {
  listen(heard, () => void refresh());
}

function path(id: string): string {
  return `latentd/v1/jobs/${encodeURIComponent(id)}`;
}

function remember(value: Record<string, Own>): void {
  own.value = value;
  localStorage.setItem(PLACE, JSON.stringify(value));
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
  if (job.id in own.peek()) {
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
    else release(id);
  }
}

const finishing = new Set<string>();

/** Fetch what came of an own job, once. */
async function finish(job: JobDocument): Promise<void> {
  if (finishing.has(job.id)) return;
  finishing.add(job.id);
  try {
    if (job.state === "completed" && !job.expired) await collect(job.id);
    if (job.state === "failed") failure.value = { id: job.id, sentence: job.error?.detail ?? "The job failed." };
  } catch (error) {
    if (error instanceof ServerError) failure.value = { id: job.id, sentence: error.message };
    else throw error;
  } finally {
    release(job.id);
    finishing.delete(job.id);
  }
}

async function collect(id: string): Promise<void> {
  const job = await ask<Job>("GET", path(id));
  const made = job.images.map(async (one, index): Promise<Picture> => {
    const blob = (await picture(`${path(id)}/images/${index}`)) ?? new Blob();
    const { width, height } = one;
    const infotext = one.infotext ?? "";
    return { key: `${id}/${index}`, blob, width, height, infotext, warnings: job.warnings, made: Date.now() };
  });
  addPictures(await Promise.all(made));
  if (shown.peek() === id || !shown.peek()) shown.value = job.images.length ? `${id}/0` : "";
}

function release(id: string): void {
  const { [id]: _, ...others } = own.peek();
  remember(others);
  const { [id]: address, ...rest } = previews.peek();
  if (address) URL.revokeObjectURL(address);
  previews.value = rest;
  fetched.delete(id);
  if (shown.peek() === id) shown.value = present.peek()?.id ?? "";
}

const fetched = new Map<string, number>();

async function preview(job: JobDocument): Promise<void> {
  if ((fetched.get(job.id) ?? 0) >= job.preview_id) return;
  fetched.set(job.id, job.preview_id);
  const blob = await picture(`${path(job.id)}/preview?format=jpeg`).catch(() => null);
  if (!blob || !(job.id in own.peek())) return;
  const before = previews.peek()[job.id];
  previews.value = { ...previews.peek(), [job.id]: URL.createObjectURL(blob) };
  if (before) URL.revokeObjectURL(before);
}
