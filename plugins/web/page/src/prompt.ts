/** Prompts as texts: the LoRAs they name, and weights of the words under the cursor. */

export interface Tag {
  name: string;
  weight: number;
}

const TAG = /<lora:([^:>]+)(?::([^:>]*))?[^>]*>/g;
const STEP = 0.1;

/** The LoRAs that a prompt names. */
export function tags(prompt: string): Tag[] {
  return [...prompt.matchAll(TAG)].map((found) => ({ name: found[1] ?? "", weight: number(found[2]) }));
}

/** `prompt` with the LoRA at `weight`, added at the end if it is not named yet. */
export function withTag(prompt: string, name: string, weight: number): string {
  const text = `<lora:${name}:${rounded(weight)}>`;
  const there = tags(prompt).some((tag) => tag.name === name);
  if (there) return prompt.replace(TAG, (whole, found) => (found === name ? text : whole));
  return prompt.trim() ? `${prompt.trimEnd()} ${text}` : text;
}

export function withoutTag(prompt: string, name: string): string {
  return prompt
    .replace(TAG, (whole, found) => (found === name ? "" : whole))
    .replace(/ {2,}/g, " ")
    .trimEnd();
}

export interface Selected {
  text: string;
  start: number;
  end: number;
}

/** The text with the selected words (or the word at the cursor) weighted up or down, as AUTOMATIC1111's page does it. */
export function weighted({ text, start, end }: Selected, up: boolean): Selected {
  if (start === end) {
    while (start > 0 && /[^\s,()<>]/.test(text[start - 1] ?? "")) start--;
    while (end < text.length && /[^\s,()<>:]/.test(text[end] ?? "")) end++;
  }
  if (start === end) return { text, start, end };
  const words = text.slice(start, end);
  const around = /^:([\d.]+)\)/.exec(text.slice(end));
  const inside = text[start - 1] === "(" && around !== null;
  const weight = rounded((inside ? number(around[1]) : 1) + (up ? STEP : -STEP));
  const before = inside ? text.slice(0, start - 1) : text.slice(0, start);
  const after = inside ? text.slice(end + around[0].length) : text.slice(end);
  const plain = weight === 1;
  const middle = plain ? words : `(${words}:${weight})`;
  const from = before.length + (plain ? 0 : 1);
  return { text: before + middle + after, start: from, end: from + words.length };
}

function number(text: string | undefined): number {
  const value = Number.parseFloat(text ?? "");
  return Number.isFinite(value) ? value : 1;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
