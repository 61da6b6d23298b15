/** Model, sampling, size and seed. */

import { complain, reuseSeed } from "../actions.ts";
import { catalogue, refreshCatalogue } from "../catalogue.ts";
import { CheckField, Fold, named, NumberField, SelectField, SliderField } from "../parts/fields.tsx";
import { IconButton } from "../parts/icons.tsx";
import { pictures } from "../pictures.ts";
import { change, DEFAULTS, settings } from "../settings.ts";

const MOST = 4096;
const SHAPES: [string, number, number][] = [
  ["1:1", 1, 1],
  ["3:2", 3, 2],
  ["2:3", 2, 3],
  ["16:9", 16, 9],
  ["9:16", 9, 16],
];

export function Model() {
  const { models, selected, vaes, ready } = catalogue.value;
  const form = settings.value;
  const models_ = models.map((one) => ({ value: one.title, label: one.model_name }));
  const nothing = ready && !models.length;
  return (
    <section class="group" aria-label="Model">
      <div class="pair wide">
        <SelectField
          label="Model"
          value={form.model}
          choices={[{ value: "", label: selected ? `Server's choice: ${selected}` : "Server's choice" }, ...models_]}
          hint={nothing ? "There is no model yet: put a .safetensors file into the folder models/Stable-diffusion." : undefined}
          change={(model) => change({ model })}
        />
        <IconButton
          icon="refresh"
          name="Look for new models and networks"
          click={() => void refreshCatalogue().catch(complain)}
        />
      </div>
      {vaes.length > 0 && (
        <SelectField
          label="VAE"
          value={form.vae}
          choices={[{ value: "", label: "Server's choice" }, { value: "None", label: "The model's own" }, ...named(vaes)]}
          change={(vae) => change({ vae })}
        />
      )}
    </section>
  );
}

export function Sampling() {
  const { samplers, schedulers } = catalogue.value;
  const form = settings.value;
  return (
    <section class="group" aria-label="Sampling">
      <div class="pair">
        <SelectField
          label="Sampler"
          value={form.sampler}
          choices={named(samplers.map((one) => one.name))}
          change={(sampler) => change({ sampler })}
        />
        <SelectField
          label="Schedule"
          value={form.scheduler}
          choices={named(schedulers.map((one) => one.label))}
          change={(scheduler) => change({ scheduler })}
        />
      </div>
      <SliderField label="Steps" value={form.steps} min={1} max={150} top={60} change={(steps) => change({ steps })} />
      <SliderField label="CFG scale" value={form.cfg} min={1} max={30} top={15} step={0.5} change={(cfg) => change({ cfg })} />
    </section>
  );
}

export function Size() {
  const { width, height } = settings.value;
  return (
    <section class="group" aria-label="Size">
      <div class="size">
        <NumberField label="Width" value={width} min={64} max={MOST} step={8} change={(value) => change({ width: value })} />
        <IconButton icon="swap" name="Swap width and height" click={() => change({ width: height, height: width })} />
        <NumberField label="Height" value={height} min={64} max={MOST} step={8} change={(value) => change({ height: value })} />
      </div>
      <div class="shapes" role="group" aria-label="Shape">
        {SHAPES.map(([name, across, down]) => {
          const shape = shaped(width * height, across, down);
          return (
            <button
              key={name}
              type="button"
              class="chip"
              aria-pressed={Math.abs(width / height - across / down) < 0.04}
              onClick={() => change(shape)}
            >
              {name}
            </button>
          );
        })}
      </div>
    </section>
  );
}

/** A size of the given shape and about `pixels` pixels, in steps of eight. */
function shaped(pixels: number, across: number, down: number): { width: number; height: number } {
  const fit = (length: number) => Math.min(MOST, Math.max(64, Math.round(length / 8) * 8));
  const unit = Math.sqrt(pixels / (across * down));
  return { width: fit(unit * across), height: fit(unit * down) };
}

export function Seed() {
  const form = settings.value;
  const last = pictures.value[0];
  return (
    <section class="group" aria-label="Seed and number">
      <div class="seed">
        <div class="field">
          <label for="seed">Seed</label>
          <input
            id="seed"
            inputMode="numeric"
            value={form.seed === "-1" ? "" : form.seed}
            placeholder="Random"
            onInput={(event) => change({ seed: event.currentTarget.value.replace(/[^\d-]/g, "") || "-1" })}
          />
        </div>
        <IconButton icon="dice" name="Random seed" disabled={form.seed === "-1"} click={() => change({ seed: "-1" })} />
        <IconButton icon="back" name="Seed of the last picture" disabled={!last} click={() => last && reuseSeed(last)} />
      </div>
      <div class="pair">
        <NumberField label="Batches" value={form.batches} min={1} max={100} change={(batches) => change({ batches })} />
        <NumberField label="Batch size" value={form.batchSize} min={1} max={16} change={(batchSize) => change({ batchSize })} />
      </div>
    </section>
  );
}

export function Refiner() {
  const { models } = catalogue.value;
  const form = settings.value;
  if (models.length < 2 && !form.refiner) return null;
  return (
    <Fold title="Refiner" note={form.refiner ? `from ${Math.round(form.refinerAt * 100)} %` : "Off"}>
      <SelectField
        label="Model that ends the picture"
        value={form.refiner}
        choices={[{ value: "", label: "None" }, ...models.map((one) => ({ value: one.title, label: one.model_name }))]}
        change={(refiner) => change({ refiner })}
      />
      {form.refiner && (
        <SliderField label="Takes over at" value={form.refinerAt} min={0} max={1} step={0.01} change={(refinerAt) => change({ refinerAt })} />
      )}
    </Fold>
  );
}

export function Hires() {
  const form = settings.value;
  const note = form.hires ? `${Math.floor(form.width * form.hiresScale)} × ${Math.floor(form.height * form.hiresScale)}` : "Off";
  return (
    <Fold title="Hires fix" note={note}>
      <CheckField
        label="Enlarge, then draw again"
        value={form.hires}
        change={(hires) => change({ hires })}
      />
      {form.hires && (
        <>
          <SelectField
            label="Upscaler"
            value={form.hiresUpscaler}
            choices={named(catalogue.value.upscalers)}
            change={(hiresUpscaler) => change({ hiresUpscaler })}
          />
          <SliderField label="Scale" value={form.hiresScale} min={1} max={4} step={0.05} change={(hiresScale) => change({ hiresScale })} />
          <SliderField label="Denoising strength" value={form.hiresDenoising} min={0} max={1} step={0.01} change={(hiresDenoising) => change({ hiresDenoising })} />
          <NumberField label="Steps" hint="0: as many as the first pass" value={form.hiresSteps} min={0} max={150} change={(hiresSteps) => change({ hiresSteps })} />
        </>
      )}
    </Fold>
  );
}

export function More() {
  const form = settings.value;
  const fields = ["clipSkip", "variation", "tiling", "faces", "save", "previewEvery"] as const;
  const changed = fields.filter((field) => form[field] !== DEFAULTS[field]).length;
  return (
    <Fold title="More" note={changed ? `${changed} changed` : undefined}>
      <div class="pair">
        <NumberField label="CLIP skip" value={form.clipSkip} min={1} max={12} change={(clipSkip) => change({ clipSkip })} />
        <NumberField
          label="Preview every"
          hint={form.previewEvery ? "steps" : "0: as the server has it"}
          value={form.previewEvery}
          min={0}
          max={50}
          change={(previewEvery) => change({ previewEvery })}
        />
      </div>
      <SliderField label="Variation" value={form.variation} min={0} max={1} step={0.01} change={(variation) => change({ variation })} />
      {form.variation > 0 && (
        <div class="field">
          <label for="variation-seed">Variation seed</label>
          <input
            id="variation-seed"
            inputMode="numeric"
            placeholder="Random"
            value={form.variationSeed === "-1" ? "" : form.variationSeed}
            onInput={(event) => change({ variationSeed: event.currentTarget.value.replace(/[^\d-]/g, "") || "-1" })}
          />
        </div>
      )}
      <CheckField label="Tileable" value={form.tiling} change={(tiling) => change({ tiling })} />
      <CheckField label="Restore faces" value={form.faces} change={(faces) => change({ faces })} />
      <CheckField label="Save on the server, too" value={form.save} change={(save) => change({ save })} />
    </Fold>
  );
}
