/** Form fields, each with its label. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { catalogue } from "../catalogue.ts";

interface Labelled {
  label: string;
  /** A sentence below the field. */
  hint?: string | undefined;
}

interface NumberProps extends Labelled {
  value: number;
  min: number;
  max: number;
  step?: number;
  change: (value: number) => void;
}

/** A number to type. What is typed counts once the field is left or Enter is pressed, and is kept within the bounds. */
export function NumberField({ label, hint, value, min, max, step = 1, change }: NumberProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <NumberInput id={id} {...{ value, min, max, step, change }} />
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

/** A number to type or to slide; `top` is the end of the slider, where more can be typed. */
export function SliderField(props: NumberProps & { top?: number }) {
  const id = useId();
  const { label, hint, value, min, max, step = 1, top = max, change } = props;
  return (
    <div class="field slider">
      <label for={id}>{label}</label>
      <NumberInput id={id} {...{ value, min, max, step, change }} />
      <input
        type="range"
        aria-label={`${label}, slider`}
        value={Math.min(value, top)}
        min={min}
        max={top}
        step={step}
        style={{ "--part": `${(100 * (Math.min(value, top) - min)) / (top - min)}%` }}
        onInput={(event) => change(event.currentTarget.valueAsNumber)}
      />
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

function NumberInput({ id, value, min, max, step, change }: Omit<NumberProps, "label"> & { id: string }) {
  const [typed, setTyped] = useState<string | null>(null);
  useEffect(() => setTyped(null), [value]);
  const settle = () => {
    if (typed === null) return;
    const read = Number.parseFloat(typed);
    if (Number.isFinite(read)) change(Math.min(Math.max(read, min), max));
    setTyped(null);
  };
  return (
    <input
      id={id}
      type="number"
      inputMode="decimal"
      {...{ min, max, step }}
      value={typed ?? value}
      onInput={(event) => setTyped(event.currentTarget.value)}
      onChange={settle}
      onBlur={settle}
    />
  );
}

export interface Choice {
  value: string;
  label: string;
}

/** One of several values. A value that is not among the choices is kept, and shown as missing once they have been read. */
export function SelectField(props: Labelled & { value: string; choices: Choice[]; change: (value: string) => void }) {
  const id = useId();
  const { label, hint, value, choices, change } = props;
  const known = choices.some((one) => one.value === value);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => change(event.currentTarget.value)}>
        {!known && <option value={value}>{catalogue.value.ready ? `${value} (not here)` : value}</option>}
        {choices.map((one) => (
          <option key={one.value} value={one.value} selected={one.value === value}>
            {one.label}
          </option>
        ))}
      </select>
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

export function named(names: string[]): Choice[] {
  return names.map((name) => ({ value: name, label: name }));
}

export function CheckField({ label, hint, value, change }: Labelled & { value: boolean; change: (value: boolean) => void }) {
  return (
    <div class="field check">
      <label>
        <input type="checkbox" checked={value} onChange={(event) => change(event.currentTarget.checked)} />
        {label}
      </label>
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

/** A few values side by side. */
export function Segments<T extends string>(props: {
  label: string;
  value: T;
  choices: { value: T; label: string }[];
  change: (value: T) => void;
}) {
  const name = useId();
  return (
    <fieldset class="segments">
      <legend class="unseen">{props.label}</legend>
      {props.choices.map((one) => (
        <label key={one.value}>
          <input
            type="radio"
            name={name}
            checked={one.value === props.value}
            onChange={() => props.change(one.value)}
          />
          <span>{one.label}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** A part of the form that can be folded; the browser remembers nothing, `open` says how it begins. */
export function Fold(props: { title: string; note?: string | undefined; open?: boolean; children: ComponentChildren }) {
  const [open, setOpen] = useState(props.open ?? false);
  useEffect(() => {
    if (props.open) setOpen(true);
  }, [props.open]);
  return (
    <details class="fold" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span>{props.title}</span>
        {props.note && <span class="note">{props.note}</span>}
      </summary>
      <div class="inside">{props.children}</div>
    </details>
  );
}
