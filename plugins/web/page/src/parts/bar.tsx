/** The head of the page: its name, the state of the connection, light and dark, keys. */

import { signal } from "@preact/signals";
import { base, credentials, setCredentials, signInWanted } from "../api.ts";
import { connected } from "../events.ts";
import { keepText, readText } from "../texts.ts";
import { Dialog } from "./dialog.tsx";
import { IconButton, type IconName } from "./icons.tsx";

type Theme = "auto" | "light" | "dark";

const THEMES: Theme[] = ["auto", "light", "dark"];
const ICONS: Record<Theme, IconName> = { auto: "auto", light: "sun", dark: "moon" };
const NAMES: Record<Theme, string> = { auto: "As the system", light: "Light", dark: "Dark" };
const PLACE = "latentd:theme";

const theme = signal<Theme>(THEMES.find((one) => one === readText("lasting", PLACE)) ?? "auto");
export const helping = signal(false);

export function showTheme(): void {
  document.documentElement.dataset["theme"] = theme.value;
}

export function Bar() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "auto";
  return (
    <header class="bar">
      <h1>
        <svg viewBox="0 0 24 24" aria-hidden="true" focusable="false">
          <circle cx="12" cy="12" r="9" />
          <path d="M12 3a9 9 0 0 1 0 18z" />
        </svg>
        latentd
      </h1>
      <p role="status" class="connection">
        {connected.value === false && "Connection lost. Trying again…"}
      </p>
      <a href={new URL("docs", base).pathname}>API</a>
      <IconButton
        icon={ICONS[theme.value]}
        name={`Colours: ${NAMES[theme.value]}`}
        click={() => {
          theme.value = next;
          keepText("lasting", PLACE, next);
          showTheme();
        }}
      />
      <IconButton icon="keys" name="Keyboard" class="wide-only" click={() => (helping.value = true)} />
      {credentials.value && (
        <IconButton
          icon="leave"
          name="Sign out"
          click={() => {
            setCredentials("", false);
            signInWanted.value = true;
          }}
        />
      )}
    </header>
  );
}

const KEYS: [string[], string][] = [
  [["Ctrl", "↵"], "Generate"],
  [["Esc"], "Stop, and keep the picture as far as it is"],
  [["/"], "To the prompt"],
  [["Ctrl", "↑"], "Weigh the selected words up; with ↓ down"],
  [["←"], "Newer picture; with → older"],
  [["?"], "This list"],
];

export function Help() {
  if (!helping.value) return null;
  return (
    <Dialog title="Keyboard" close={() => (helping.value = false)}>
      <dl class="shortcuts">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
