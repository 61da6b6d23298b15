/** Times in words. */

import type { JobDocument } from "../documents.ts";

/** How long a job still runs; empty while nobody knows. */
export function remaining(job: JobDocument): string {
  if (job.eta === null || job.eta <= 0) return "";
  if (job.eta < 90) return `${Math.max(1, Math.round(job.eta))} s left`;
  return `${Math.round(job.eta / 60)} min left`;
}
