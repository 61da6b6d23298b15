/** The units of ControlNet. */

import { useEffect, useRef, useState } from "preact/hooks";
import { removeUnit, toControl } from "../actions.ts";
import { catalogue } from "../catalogue.ts";
import type { ControlNet as Offered, Slider } from "../documents.ts";
import { inputs, setInput } from "../inputs.ts";
import { CheckField, Fold, named, SelectField, SliderField } from "../parts/fields.tsx";
import { Icon, IconButton } from "../parts/icons.tsx";
import { Well } from "../parts/well.tsx";
import { settings, type Unit } from "../settings.ts";
import { addUnit, changeUnit, unitName } from "../units.ts";

const RESIZE = [
  { value: "Just Resize", label: "Stretch" },
  { value: "Crop and Resize", label: "Crop to fit" },
  { value: "Resize and Fill", label: "Fit and fill" },
];
const MODES = [
  { value: "Balanced", label: "Both alike" },
  { value: "My prompt is more important", label: "The prompt" },
  { value: "ControlNet is more important", label: "The control picture" },
];

const NOTHING: Offered = { modules: [], models: [], most: 0 };

export function ControlNet() {
  const offered = catalogue.value.control ?? NOTHING;
  const { units } = settings.value;
  const list = useRef<HTMLDivElement>(null);
  const more = useRef<HTMLButtonElement>(null);
  const [added, setAdded] = useState("");
  const on = units.filter((one) => one.enabled);
  // Units that are on must be seen, so that they can be turned off, where the server has no ControlNet.
  if (offered === NOTHING && !on.length) return null;
  const enough = units.length >= offered.most;
  const note = on.length > 1 ? `${on.length} units` : (on[0]?.module ?? "Off");
  const add = () => {
    setAdded(addUnit().key);
    requestAnimationFrame(() => list.current?.querySelector<HTMLElement>(".unit:last-of-type input")?.focus());
  };
  const remove = (key: string) => {
    removeUnit(key);
    requestAnimationFrame(() => more.current?.focus());
  };
  return (
    <Fold title="ControlNet" note={note}>
      <div class="units" ref={list}>
        {units.map((unit, place) => (
          <UnitFields key={unit.key} {...{ unit, place, offered }} wanted={units.length === 1 || unit.key === added} remove={() => remove(unit.key)} />
        ))}
        {/* A button that is really disabled would lose the focus. */}
        <button ref={more} type="button" aria-disabled={enough} onClick={() => enough || add()}>
          <Icon name="plus" />
          {units.length ? "Add another unit" : "Add a unit"}
        </button>
        {enough && <p class="hint">{`The server's option control_net_unit_count is ${offered.most}.`}</p>}
      </div>
    </Fold>
  );
}

interface Props {
  unit: Unit;
  place: number;
  offered: Offered;
  /** Whether its fields are seen at first. */
  wanted: boolean;
  remove: () => void;
}

/** A unit; its fields can be folded away. */
function UnitFields({ unit, place, offered, wanted, remove }: Props) {
  const [open, setOpen] = useState(unit.enabled || wanted);
  useEffect(() => {
    if (unit.enabled) setOpen(true);
  }, [unit.enabled]);
  const name = unitName(place);
  const change = (part: Partial<Unit>) => changeUnit(unit.key, part);
  return (
    <section class="unit" aria-label={name}>
      <header>
        <CheckField label={name} value={unit.enabled} change={(enabled) => change({ enabled })} />
        <span class="note">{unit.module === "none" ? "" : unit.module}</span>
        <button
          type="button"
          class="quiet square turn"
          aria-expanded={open}
          aria-label={`Fields of ${name.toLowerCase()}`}
          title={`Fields of ${name.toLowerCase()}`}
          onClick={() => setOpen(!open)}
        >
          <Icon name="down" />
        </button>
        <IconButton icon="bin" name={`Remove ${name.toLowerCase()}`} click={remove} />
      </header>
      {open && <Fields {...{ unit, offered, change }} />}
    </section>
  );
}

function Fields({ unit, offered, change }: { unit: Unit; offered: Offered; change: (part: Partial<Unit>) => void }) {
  const fromPicture = settings.value.mode === "img2img";
  return (
    <div class="inside">
      <Well
        label="Control picture"
        note={fromPicture ? "Without one, the source picture controls" : undefined}
        input={inputs.value[unit.key] ?? null}
        take={(file) => void toControl(file, unit.key)}
        remove={() => setInput(unit.key, null)}
      />
      <SelectField
        label="Preprocessor"
        value={unit.module}
        choices={named(offered.modules.map((one) => one.name))}
        change={(module) => change({ module, resolution: -1, thresholdA: -1, thresholdB: -1 })}
      />
      <SelectField
        label="Control model"
        value={unit.model}
        choices={[{ value: "None", label: "None" }, ...named(offered.models)]}
        change={(model) => change({ model })}
      />
      <Preprocessor {...{ unit, change }} sliders={offered.modules.find((one) => one.name === unit.module)?.sliders ?? []} />
      <SliderField label="Weight" value={unit.weight} min={0} max={2} step={0.05} change={(weight) => change({ weight })} />
      <SliderField label="Starts at" value={unit.start} min={0} max={1} step={0.01} change={(start) => change({ start })} />
      <SliderField label="Ends at" value={unit.end} min={0} max={1} step={0.01} change={(end) => change({ end })} />
      <SelectField label="What counts more" value={unit.mode} choices={MODES} change={(mode) => change({ mode })} />
      <SelectField label="If the shape differs" value={unit.resize} choices={RESIZE} change={(resize) => change({ resize })} />
    </div>
  );
}

/** What the preprocessor lets one set: the size at which it works, and up to two values of its own. */
function Preprocessor({ unit, sliders, change }: { unit: Unit; sliders: Slider[]; change: (part: Partial<Unit>) => void }) {
  const resolution = sliders.find((one) => one.name === "Resolution");
  const own = sliders.filter((one) => one !== resolution);
  const fields = ["thresholdA", "thresholdB"] as const;
  return (
    <>
      {resolution && (
        <CheckField
          label="Preprocess at the picture's own size"
          value={unit.pixelPerfect}
          change={(pixelPerfect) => change({ pixelPerfect })}
        />
      )}
      {resolution && !unit.pixelPerfect && (
        <OwnSlider slider={resolution} value={unit.resolution} change={(value) => change({ resolution: value })} />
      )}
      {fields.map((field, place) => {
        const slider = own[place];
        return slider && <OwnSlider key={field} slider={slider} value={unit[field]} change={(value) => change({ [field]: value })} />;
      })}
    </>
  );
}

function OwnSlider({ slider, value, change }: { slider: Slider; value: number; change: (value: number) => void }) {
  const { name, min, max, step } = slider;
  return <SliderField label={name} value={value < 0 ? slider.value : value} {...{ min, max, step, change }} />;
}
