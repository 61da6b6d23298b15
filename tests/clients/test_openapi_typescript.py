"""Types made by openapi-typescript, with openapi-fetch as the client."""

from __future__ import annotations

from pathlib import Path

from tests.clients.conftest import run
from tests.clients.typescript import command, needs_typescript, picture_of
from tests.reference_server import ReferenceServer

PROGRAM = """
import createClient from "openapi-fetch";
import type { components, paths } from "./latentd";

type Job = components["schemas"]["Job"];
type JobEvent = components["schemas"]["JobEvent"];

const client = createClient<paths, "application/json">({ baseUrl: process.argv[2] });

async function picture(): Promise<string> {
  const body = { prompt: "a sunflower", steps: 1, width: 64, height: 64 };
  const { data, error } = await client.POST("/sdapi/v1/txt2img", { body });
  if (!data) throw new Error(JSON.stringify(error));
  return data.images[0];
}

async function lastEvent(): Promise<JobEvent> {
  const { data: list } = await client.GET("/latentd/v1/jobs", { params: { query: { limit: 1 } } });
  const id: string = list!.jobs[0].id;
  const { data: job } = await client.GET("/latentd/v1/jobs/{job_id}", { params: { path: { job_id: id } } });
  const known: Job = job!;
  const stream = await fetch(process.argv[2] + known.events);
  const lines = (await stream.text()).split("\\n");
  const field = (name: string): string => lines.find((line) => line.startsWith(name))!.slice(name.length);
  return { event: field("event: ") as JobEvent["event"], data: JSON.parse(field("data: ")) };
}

async function main(): Promise<void> {
  const drawn = await picture();
  const { event, data } = await lastEvent();
  if (event !== "completed" || data.state !== "completed") throw new Error(event);
  const { data: options } = await client.GET("/sdapi/v1/options");
  const format: string | undefined = options?.samples_format;
  if (format !== "png") throw new Error(format);
  console.log(drawn);
}

main();
"""


@needs_typescript
def test_the_client_compiles_and_draws(document: Path, reference_server: ReferenceServer, tmp_path: Path) -> None:
    run(
        command("openapi-typescript"),
        document,
        "--default-non-nullable",
        "false",
        "--output",
        tmp_path / "latentd.ts",
    )
    assert picture_of(PROGRAM, tmp_path, reference_server.url).size == (64, 64)
