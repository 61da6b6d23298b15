/** What is known of a picture, and where it can be sent. */

import { complain, download, readSettings, reuseSeed, say, seedOf, toControl, toSource } from "../actions.ts";
import { catalogue } from "../catalogue.ts";
import { Icon, IconButton, type IconName } from "../parts/icons.tsx";
import { removePicture, type Picture } from "../pictures.ts";

export function Details({ picture }: { picture: Picture }) {
  const { prompt, negative, rest } = parts(picture.infotext);
  const seed = seedOf(picture);
  return (
    <div class="details">
      <div class="row actions">
        <Action icon="reuse" name="Use settings" click={() => void readSettings(picture.blob)} />
        {seed !== null && <Action icon="dice" name="Use seed" click={() => reuseSeed(picture)} />}
        <Action icon="picture" name="Use as source" click={() => void toSource(picture.blob)} />
        <Action icon="brush" name="Inpaint" click={() => void toSource(picture.blob, { mask: true })} />
        {catalogue.value.control && <Action icon="copy" name="Use as control" click={() => void toControl(picture.blob)} />}
        <span class="space" />
        <span class="ends">
          <IconButton icon="download" name="Download" click={() => download(picture)} />
          <IconButton icon="bin" name="Remove from this page" click={() => removePicture(picture)} />
        </span>
      </div>
      {picture.warnings.length > 0 && (
        <ul class="warnings" aria-label="The server's notes">
          {picture.warnings.map((one) => (
            <li key={one}>{one}</li>
          ))}
        </ul>
      )}
      {!picture.infotext && <p class="said negative">It has no infotext: a control map, or another extra of its job.</p>}
      {prompt && <p class="said">{shortened(prompt)}</p>}
      {negative && (
        <p class="said negative">
          <span>Without</span> {shortened(negative)}
        </p>
      )}
      {rest.length > 0 && (
        <dl>
          {rest.map(([key, value]) => (
            <div key={key}>
              <dt>{key}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      )}
      {picture.infotext && (
        <details class="infotext">
          <summary>Infotext</summary>
          <pre tabIndex={0}>{picture.infotext}</pre>
          <button type="button" class="quiet" onClick={() => void copy(picture.infotext)}>
            <Icon name="copy" />
            Copy
          </button>
        </details>
      )}
    </div>
  );
}

function Action({ icon, name, click }: { icon: IconName; name: string; click: () => void }) {
  return (
    <button type="button" onClick={click}>
      <Icon name={icon} />
      {name}
    </button>
  );
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("The infotext is in the clipboard.");
  } catch {
    complain(new Error("The browser does not let this page use the clipboard."));
  }
}

const LONGEST = 800;
const SHOWN = ["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "VAE", "Denoising strength", "Hires upscale"];

/** The infotext has the whole of it. */
function shortened(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** Prompt, negative prompt, and the entries of the last line that people look for. */
function parts(infotext: string): { prompt: string; negative: string; rest: [string, string][] } {
  const lines = infotext.split("\n");
  const last = /^Steps: \d/.test(lines.at(-1) ?? "") ? (lines.pop() ?? "") : "";
  const cut = lines.findIndex((line) => line.startsWith("Negative prompt: "));
  const prompt = lines.slice(0, cut < 0 ? undefined : cut).join("\n");
  const negative = cut < 0 ? "" : lines.slice(cut).join("\n").slice("Negative prompt: ".length);
  const entries = [...last.matchAll(/([\w ]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g)];
  const found = new Map(entries.map((entry) => [entry[1] ?? "", entry[2] ?? ""]));
  const rest = SHOWN.flatMap((key): [string, string][] => {
    const value = found.get(key);
    return value ? [[key, value]] : [];
  });
  return { prompt, negative, rest };
}
