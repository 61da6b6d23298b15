/** The server's queue: own jobs by their prompts, others as what they are. */

import { complain } from "../actions.ts";
import type { JobDocument } from "../documents.ts";
import { cancel, jobs, own } from "../jobs.ts";
import { IconButton } from "../parts/icons.tsx";
import { shown } from "../pictures.ts";
import { remaining } from "./words.ts";

export function Queue() {
  const all = jobs.value;
  const alone = all.length === 1 && all[0]?.id === shown.value;
  if (!all.length || alone) return null;
  return (
    <section class="queue" aria-label="Queue">
      <h2>
        Queue <span class="note">{all.length}</span>
      </h2>
      <ol>
        {all.map((job) => (
          <Row key={job.id} job={job} />
        ))}
      </ol>
    </section>
  );
}

function Row({ job }: { job: JobDocument }) {
  const mine = own.value[job.id];
  const running = job.state === "running";
  const name = mine ? mine.prompt || "Without a prompt" : kindOf(job);
  return (
    <li class={running ? "running" : ""}>
      <span class="place">{running ? <span class="dot" /> : job.position}</span>
      {mine ? (
        <button type="button" class="quiet name" onClick={() => (shown.value = job.id)}>
          {name}
        </button>
      ) : (
        <span class="name other">{name}</span>
      )}
      <span class="state">{running ? progress(job) : "waits"}</span>
      {mine && <IconButton icon="close" name={`Cancel: ${name}`} click={() => void cancel(job.id).catch(complain)} />}
    </li>
  );
}

function progress(job: JobDocument): string {
  return [`${Math.round(job.progress * 100)} %`, remaining(job)].filter(Boolean).join(", ");
}

/** What a job of somebody else is. */
function kindOf({ kind }: JobDocument): string {
  if (kind === "load") return "Loading a model";
  return kind === "txt2img" || kind === "img2img" ? "Another client's picture" : `Another client's job: ${kind}`;
}
