/** The form: what is to be drawn, and the button that draws it. */

import { draw, problem, sending } from "../actions.ts";
import { present } from "../jobs.ts";
import { Segments } from "../parts/fields.tsx";
import { IconButton } from "../parts/icons.tsx";
import { change, settings } from "../settings.ts";
import { ControlNet } from "./control.tsx";
import { Hires, Model, More, Refiner, Sampling, Seed, Size } from "./drawing.tsx";
import { MaskEditor } from "./mask.tsx";
import { Prompts } from "./prompt.tsx";
import { Source } from "./source.tsx";

export function Compose() {
  const { mode } = settings.value;
  return (
    <>
      <form
        class="compose"
        aria-label="Compose"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void draw();
        }}
      >
        <div class="scroll">
          <Segments
            label="Start from"
            value={mode}
            choices={[
              { value: "txt2img", label: "From text" },
              { value: "img2img", label: "From a picture" },
            ]}
            change={(value) => change({ mode: value })}
          />
          <Prompts />
          {mode === "img2img" && <Source />}
          <Model />
          <Sampling />
          <Size />
          <Seed />
          {mode === "txt2img" && <Hires />}
          <Refiner />
          <ControlNet />
          <More />
        </div>
        <div class="submit">
          <Problem />
          <button type="submit" class="main" disabled={sending.value}>
            {sending.value ? "Sending" : present.value ? "Queue another" : "Generate"}
            <span class="keys" aria-hidden="true">
              <kbd>Ctrl</kbd> <kbd>↵</kbd>
            </span>
          </button>
        </div>
      </form>
      <MaskEditor />
    </>
  );
}

/** Why the server refused what was handed in, in its own words. */
function Problem() {
  const said = problem.value;
  return (
    <div role="alert">
      {said && (
        <div class="problem">
          <p>
            <strong>{said.sentence}</strong>
            {said.hint && <span class="hint">{said.hint}</span>}
          </p>
          <IconButton icon="close" name="Dismiss" click={() => (problem.value = null)} />
        </div>
      )}
    </div>
  );
}
