/** The units of ControlNet: how they change, and what an infotext says of them. */

import type { ControlNet, Parameters } from "./documents.ts";
import { change, settings, UNIT, type Unit } from "./settings.ts";

export function changeUnit(key: string, part: Partial<Unit>): void {
  change({ units: settings.peek().units.map((one) => (one.key === key ? { ...one, ...part } : one)) });
}

/** Add a unit behind the others. */
export function addUnit(): Unit {
  const unit = fresh();
  change({ units: [...settings.peek().units, unit] });
  return unit;
}

/** What the page calls a unit: as the server numbers it, from 0. */
export function unitName(place: number): string {
  return `Unit ${place}`;
}

function fresh(): Unit {
  // Two tabs share the pictures that are kept: no key may come up in both.
  const parts = [Date.now(), Math.floor(Math.random() * 2 ** 32)];
  return { ...UNIT, key: `control-${parts.map((one) => one.toString(36)).join("-")}` };
}

// --- from infotexts --------------------------------------------------------------------------------------------------

/** The units that an infotext names, in the places of `present` ones, whose pictures they keep; the others are off. */
export function unitsOf(said: Parameters, present: Unit[], offered: ControlNet | null): { units: Unit[]; missing: string[] } {
  const told = Object.keys(said)
    .flatMap((key) => /^ControlNet (\d+)$/.exec(key)?.[1] ?? [])
    .map(Number)
    .sort((one, other) => one - other)
    .map((number) => unitOf(String(said[`ControlNet ${number}`])));
  const units = present.map((one) => ({ ...one, enabled: false }));
  // An infotext counts the units that acted: those that are on now are the most likely to be meant.
  const on = present.flatMap((one, place) => (one.enabled ? [place] : []));
  told.forEach((unit, number) => {
    const place = told.length <= on.length ? (on[number] ?? number) : number;
    units[place] = { ...(units[place] ?? fresh()), ...unit, enabled: true };
  });
  return { units, missing: offered ? told.flatMap((unit) => missingOf(unit, offered)) : told.length ? ["ControlNet"] : [] };
}

/** The unit that a text such as `Module: canny, Model: x, Weight: 1.0` describes; what it does not say is as it begins. */
function unitOf(text: string): Omit<Unit, "key"> {
  const pairs = text.split(",").map((entry): [string, string] => {
    const [name = "", ...rest] = entry.split(": ");
    return [name.trim(), rest.join(": ").trim()];
  });
  const said = new Map(pairs);
  const number = (name: string, otherwise: number) => {
    const read = Number.parseFloat(said.get(name) ?? "");
    return Number.isFinite(read) ? read : otherwise;
  };
  const { key: _, ...rest } = UNIT;
  return {
    ...rest,
    module: said.get("Module") ?? UNIT.module,
    model: said.get("Model") ?? UNIT.model,
    weight: number("Weight", UNIT.weight),
    start: number("Guidance Start", UNIT.start),
    end: number("Guidance End", UNIT.end),
    mode: said.get("Control Mode") ?? UNIT.mode,
    resize: said.get("Resize Mode") ?? UNIT.resize,
    pixelPerfect: said.get("Pixel Perfect") === "True",
    resolution: number("Processor Res", UNIT.resolution),
    thresholdA: number("Threshold A", UNIT.thresholdA),
    thresholdB: number("Threshold B", UNIT.thresholdB),
  };
}

function missingOf({ module, model }: Omit<Unit, "key">, { modules, models }: ControlNet): string[] {
  const missing = modules.some((one) => one.name === module) ? [] : [`preprocessor ${module}`];
  return model === "None" || models.includes(model) ? missing : [...missing, `control model ${model}`];
}
