/** The picture that is looked at, or that is being drawn; below it the strip of all others. */

import { useEffect, useState } from "preact/hooks";
import { complain, stop } from "../actions.ts";
import type { JobDocument } from "../documents.ts";
import { cancel, failure, fetching, jobs, own, previews } from "../jobs.ts";
import { Icon, IconButton } from "../parts/icons.tsx";
import { addressOf, shown, shownPicture, titleOf, type Picture } from "../pictures.ts";
import { Details } from "./details.tsx";
import { Queue } from "./queue.tsx";
import { Strip } from "./strip.tsx";
import { remaining } from "./words.ts";

export function Stage() {
  const here = [...jobs.value, ...(fetching.value ? [fetching.value] : [])];
  const drawing = here.find((one) => one.id === shown.value && one.id in own.value);
  const picture = shownPicture.value;
  return (
    <section class="stage" aria-label="Pictures">
      <Failed />
      {drawing ? <Drawing job={drawing} /> : picture ? <Shown picture={picture} /> : <Empty />}
      <Queue />
      <Strip />
    </section>
  );
}

/** A job that waits or runs, or whose pictures are on their way, with its latest preview. */
function Drawing({ job }: { job: JobDocument }) {
  const preview = previews.value[job.id];
  const { width = 512, height = 512 } = job.meta;
  const running = job.state === "running";
  const ended = job.state === "completed";
  const percent = Math.round(job.progress * 100);
  return (
    <div class="drawing">
      <div class="easel">
        <div class="sheet-of-paper" style={{ "--ratio": width / height, "--across": width }}>
          {preview ? <img src={preview} alt="Preview of the picture that is being drawn" data-preview="" /> : <div class="waiting" />}
        </div>
      </div>
      <div class="progress">
        <progress aria-label="Progress" max={1} value={ended ? 1 : job.progress} />
        <p>
          <strong>{running ? phase(job, percent) : ended ? "Fetching what was drawn" : position(job)}</strong>
          {running && <span>{remaining(job)}</span>}
        </p>
        <div class="row">
          {running && (
            <button type="button" onClick={stop} disabled={job.interrupted} title="Keep the picture as far as it is (Esc)">
              <Icon name="stop" />
              {job.interrupted ? "Stopping" : "Stop here"}
            </button>
          )}
          {!ended && (
            <button type="button" class="quiet" onClick={() => void cancel(job.id).catch(complain)}>
              Cancel
            </button>
          )}
        </div>
      </div>
    </div>
  );
}

function phase(job: JobDocument, percent: number): string {
  if (job.steps === 0 || (job.step === 0 && percent === 0)) return "Getting ready";
  const batch = job.batches > 1 ? `, picture ${Math.min(job.batch + 1, job.batches)} of ${job.batches}` : "";
  return `Step ${job.step} of ${job.steps}${batch}`;
}

function position(job: JobDocument): string {
  return job.position > 1 ? `${job.position - 1} before it in the queue` : "Next in the queue";
}

function Shown({ picture }: { picture: Picture }) {
  const [whole, setWhole] = useState(false);
  useEffect(() => setWhole(false), [picture.key]);
  const address = addressOf(picture);
  return (
    <div class="shown">
      <div
        class={`easel ${whole ? "whole" : ""}`}
        style={{ "--ratio": picture.width / picture.height, "--across": picture.width }}
      >
        <button
          type="button"
          class="look"
          aria-label={whole ? "Fit the picture into the page" : "Show the picture at its full size"}
          aria-pressed={whole}
          onClick={() => setWhole(!whole)}
        >
          <img
            src={address}
            alt={titleOf(picture) || "Picture without a prompt"}
            width={picture.width}
            height={picture.height}
            data-picture={picture.key}
          />
        </button>
      </div>
      <Details picture={picture} />
    </div>
  );
}

function Failed() {
  const said = failure.value;
  return (
    <div role="alert">
      {said && (
        <div class="problem">
          <p>
            <strong>{said.sentence}</strong>
            {said.hint && <span class="hint">{said.hint}</span>}
          </p>
          <IconButton icon="close" name="Dismiss" click={() => (failure.value = null)} />
        </div>
      )}
    </div>
  );
}

function Empty() {
  return (
    <div class="empty">
      <svg viewBox="0 0 120 120" aria-hidden="true" focusable="false">
        <rect x="14" y="14" width="92" height="92" rx="4" />
        <path d="M14 84l26-26 22 22 14-14 30 30" />
        <circle cx="80" cy="42" r="9" />
      </svg>
      <h2>Nothing drawn yet</h2>
      <p>
        <span class="wide-only">
          Write a prompt and press <kbd>Ctrl</kbd> <kbd>↵</kbd>. Or drop a picture on the page, to use its settings or to
          start from it.
        </span>
        <span class="narrow-only">Write a prompt below “Compose”, then press “Generate”.</span>
      </p>
    </div>
  );
}
