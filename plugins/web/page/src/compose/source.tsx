/** The picture that img2img starts from, its mask, and the picture of the ControlNet unit. */

import { masking, toControl, toSource } from "../actions.ts";
import { catalogue } from "../catalogue.ts";
import { inputs, setInput } from "../inputs.ts";
import { CheckField, Fold, named, SelectField, SliderField } from "../parts/fields.tsx";
import { Icon } from "../parts/icons.tsx";
import { Well } from "../parts/well.tsx";
import { change, changeControl, settings } from "../settings.ts";

const RESIZE = ["Stretch", "Crop to fit", "Fit and fill", "Stretch the latent"];
const FILL = ["Colours around it", "What is there", "Latent noise", "Nothing"];

export function Source() {
  const form = settings.value;
  const mask = inputs.mask.value;
  const source = inputs.source.value;
  const over = mask && <span class="mask" style={{ maskImage: `url(${mask.url})`, WebkitMaskImage: `url(${mask.url})` }} />;
  return (
    <section class="group" aria-label="Source picture">
      <Well
        label="Source picture"
        input={source}
        over={over}
        take={(file) => void toSource(file)}
        remove={() => {
          setInput("source", null);
          setInput("mask", null);
        }}
      />
      {source && (
        <div class="row">
          <button type="button" onClick={() => (masking.value = true)}>
            <Icon name="brush" />
            {mask ? "Edit the mask" : "Paint a mask"}
          </button>
          {mask && (
            <button type="button" class="quiet" onClick={() => setInput("mask", null)}>
              Remove the mask
            </button>
          )}
        </div>
      )}
      <SliderField
        label="Denoising strength"
        hint="0 keeps the picture, 1 draws it anew"
        value={form.denoising}
        min={0}
        max={1}
        step={0.01}
        change={(denoising) => change({ denoising })}
      />
      <SelectField
        label="If the shape differs"
        value={String(form.resizeMode)}
        choices={numbered(RESIZE)}
        change={(value) => change({ resizeMode: Number(value) })}
      />
      {mask && <Mask />}
    </section>
  );
}

function Mask() {
  const form = settings.value;
  return (
    <>
      <SelectField
        label="Begin the masked part with"
        value={String(form.maskFill)}
        choices={numbered(FILL)}
        change={(value) => change({ maskFill: Number(value) })}
      />
      <SliderField label="Mask blur" value={form.maskBlur} min={0} max={64} change={(maskBlur) => change({ maskBlur })} />
      <CheckField label="Paint what is not masked" value={form.maskInvert} change={(maskInvert) => change({ maskInvert })} />
      <CheckField
        label="Paint the masked part at full size"
        value={form.onlyMasked}
        change={(onlyMasked) => change({ onlyMasked })}
      />
      {form.onlyMasked && (
        <SliderField label="Padding" value={form.padding} min={0} max={256} step={4} change={(padding) => change({ padding })} />
      )}
    </>
  );
}

function numbered(labels: string[]): { value: string; label: string }[] {
  return labels.map((label, index) => ({ value: String(index), label }));
}

export function ControlNet() {
  const offered = catalogue.value.control;
  const { control } = settings.value;
  if (!offered) return null;
  return (
    <Fold title="ControlNet" note={control.enabled ? control.module : "Off"}>
      <CheckField label="Control the picture" value={control.enabled} change={(enabled) => changeControl({ enabled })} />
      <Well
        label="Control picture"
        input={inputs.control.value}
        take={(file) => void toControl(file)}
        remove={() => setInput("control", null)}
      />
      <SelectField
        label="Preprocessor"
        value={control.module}
        choices={named(offered.modules)}
        change={(module) => changeControl({ module })}
      />
      <SelectField
        label="Control model"
        value={control.model}
        choices={[{ value: "None", label: "None" }, ...named(offered.models)]}
        change={(model) => changeControl({ model })}
      />
      <SliderField label="Weight" value={control.weight} min={0} max={2} step={0.05} change={(weight) => changeControl({ weight })} />
      <SliderField label="From" value={control.start} min={0} max={1} step={0.01} change={(start) => changeControl({ start })} />
      <SliderField label="To" value={control.end} min={0} max={1} step={0.01} change={(end) => changeControl({ end })} />
      <SelectField
        label="What counts more"
        value={control.mode}
        choices={[
          { value: "Balanced", label: "Both alike" },
          { value: "My prompt is more important", label: "The prompt" },
          { value: "ControlNet is more important", label: "The control picture" },
        ]}
        change={(mode) => changeControl({ mode })}
      />
    </Fold>
  );
}
