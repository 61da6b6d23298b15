/** The prompts, and the networks that they name. */

import type { Signal } from "@preact/signals";
import { useSignal } from "@preact/signals";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { catalogue } from "../catalogue.ts";
import { Fold } from "../parts/fields.tsx";
import { IconButton } from "../parts/icons.tsx";
import { tags, weighted, withoutTag, withTag } from "../prompt.ts";
import { change, settings } from "../settings.ts";

export function Prompts() {
  const form = settings.value;
  return (
    <div class="prompts">
      <Text label="Prompt" value={form.prompt} rows={3} hero change={(prompt) => change({ prompt })} />
      <Chips />
      <Text
        label="Negative prompt"
        value={form.negative}
        rows={1}
        change={(negative) => change({ negative })}
      />
      <Networks />
      <Styles />
    </div>
  );
}

interface TextProps {
  label: string;
  value: string;
  rows: number;
  hero?: boolean;
  change: (text: string) => void;
}

/** A text that grows with what is written. Ctrl with up and down weighs the selected words. */
function Text({ label, value, rows, hero = false, change }: TextProps) {
  const id = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const it = area.current;
    if (!it || CSS.supports("field-sizing", "content")) return;
    it.style.height = "auto";
    it.style.height = `${it.scrollHeight + 2}px`;
  }, [value]);
  const weigh = (event: KeyboardEvent & { currentTarget: HTMLTextAreaElement }) => {
    if (!(event.ctrlKey || event.metaKey) || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    const { selectionStart: start, selectionEnd: end } = event.currentTarget;
    const next = weighted({ text: value, start, end }, event.key === "ArrowUp");
    change(next.text);
    const it = event.currentTarget;
    requestAnimationFrame(() => it.setSelectionRange(next.start, next.end));
  };
  return (
    <div class={`field ${hero ? "hero" : ""}`}>
      <label for={id}>{label}</label>
      <textarea
        ref={area}
        id={id}
        data-prompt={hero ? "" : undefined}
        rows={rows}
        value={value}
        spellcheck={false}
        autocomplete="off"
        placeholder={hero ? "What the picture shows" : "What it should not show"}
        onInput={(event) => change(event.currentTarget.value)}
        onKeyDown={weigh}
      />
    </div>
  );
}

/** The LoRAs of the prompt, each with its weight. */
function Chips() {
  const named = tags(settings.value.prompt);
  if (!named.length) return null;
  return (
    <ul class="chips" aria-label="LoRAs in the prompt">
      {named.map(({ name, weight }) => {
        const missing = catalogue.value.ready && !catalogue.value.loras.includes(name);
        return (
          <li key={name} class={missing ? "missing" : ""}>
            <span>{name}</span>
            <input
              type="number"
              aria-label={`Weight of ${name}`}
              step={0.1}
              value={weight}
              onChange={(event) => {
                const read = event.currentTarget.valueAsNumber;
                if (Number.isFinite(read)) change({ prompt: withTag(settings.peek().prompt, name, read) });
              }}
            />
            <IconButton
              icon="close"
              name={`Remove ${name}`}
              click={() => change({ prompt: withoutTag(settings.peek().prompt, name) })}
            />
          </li>
        );
      })}
    </ul>
  );
}

/** LoRAs and embeddings, to put into the prompt by a click. */
function Networks() {
  const { loras, embeddings } = catalogue.value;
  const wanted = useSignal("");
  if (!loras.length && !embeddings.length) return null;
  const used = new Set(tags(settings.value.prompt).map((tag) => tag.name));
  const toggle = (name: string) => {
    const { prompt } = settings.peek();
    change({ prompt: used.has(name) ? withoutTag(prompt, name) : withTag(prompt, name, 1) });
  };
  const insert = (name: string) => {
    const { prompt } = settings.peek();
    change({ prompt: prompt.trim() ? `${prompt.trimEnd()}, ${name}` : name });
  };
  return (
    <Fold title="LoRAs and embeddings" note={used.size ? `${used.size} in use` : undefined}>
      {loras.length + embeddings.length > 8 && <Filter wanted={wanted} />}
      <Picker title="LoRAs" names={sought(loras, wanted.value)} used={used} pick={toggle} />
      <Picker title="Embeddings" names={sought(embeddings, wanted.value)} pick={insert} />
    </Fold>
  );
}

/** The server's styles: words that it puts around the prompts. */
function Styles() {
  const { styles } = catalogue.value;
  const chosen = settings.value.styles;
  const offered = [...new Set([...styles, ...chosen])];
  if (!offered.length) return null;
  const toggle = (name: string) =>
    change({ styles: chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name] });
  return (
    <Fold title="Styles" note={chosen.length ? `${chosen.length} in use` : undefined}>
      <Picker names={offered} used={new Set(chosen)} pick={toggle} />
    </Fold>
  );
}

function Filter({ wanted }: { wanted: Signal<string> }) {
  return (
    <input
      type="search"
      aria-label="Filter by name"
      placeholder="Filter by name"
      value={wanted.value}
      onInput={(event) => (wanted.value = event.currentTarget.value)}
    />
  );
}

function sought(names: string[], wanted: string): string[] {
  return names.filter((name) => name.toLowerCase().includes(wanted.trim().toLowerCase()));
}

function Picker(props: { title?: string; names: string[]; used?: Set<string>; pick: (name: string) => void }) {
  if (!props.names.length) return null;
  return (
    <div class="picker" role={props.title ? "group" : undefined} aria-label={props.title}>
      {props.title && <h2>{props.title}</h2>}
      {props.names.map((name) => (
        <button
          key={name}
          type="button"
          class="chip"
          aria-pressed={props.used ? props.used.has(name) : undefined}
          onClick={() => props.pick(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}
