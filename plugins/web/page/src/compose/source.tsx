/** The picture that img2img starts from, and its mask. */

import { masking, toSource } from "../actions.ts";
import { inputs, setInput } from "../inputs.ts";
import { CheckField, SelectField, SliderField } from "../parts/fields.tsx";
import { Icon } from "../parts/icons.tsx";
import { Well } from "../parts/well.tsx";
import { change, settings } from "../settings.ts";

const RESIZE = ["Stretch", "Crop to fit", "Fit and fill", "Stretch the latent"];
const FILL = ["Colours around it", "What is there", "Latent noise", "Nothing"];

export function Source() {
  const form = settings.value;
  const { source = null, mask } = inputs.value;
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
      <CheckField label="Draw what is not masked" value={form.maskInvert} change={(maskInvert) => change({ maskInvert })} />
      <CheckField
        label="Draw the masked part at full size"
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
