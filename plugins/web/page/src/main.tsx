/** The page: what it shows, and what it reads when it is opened. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { complain, notice, say, view } from "./actions.ts";
import { credentials, signInWanted } from "./api.ts";
import { readCatalogue } from "./catalogue.ts";
import { Compose } from "./compose/compose.tsx";
import { watchConnection } from "./events.ts";
import { readInputs } from "./inputs.ts";
import { follow, jobs, own, watchOtherTabs } from "./jobs.ts";
import { watchKeys } from "./keyboard.ts";
import { Bar, Help, showTheme } from "./parts/bar.tsx";
import { DropTargets } from "./parts/drop.tsx";
import { Segments } from "./parts/fields.tsx";
import { SignIn } from "./parts/signin.tsx";
import { readPictures } from "./pictures.ts";
import { Stage } from "./stage/stage.tsx";
import { full } from "./texts.ts";
import "./style/tokens.css";
import "./style/parts.css";
import "./style/fields.css";
import "./style/layout.css";
import "./style/form.css";
import "./style/stage.css";
import "./style/narrow.css";

function App() {
  return (
    <div class="page" data-view={view.value}>
      <Bar />
      <main>
        <Compose />
        <Stage />
      </main>
      <nav class="tabs" aria-label="Parts of the page">
        <Segments
          label="View"
          value={view.value}
          choices={[
            { value: "compose", label: "Compose" },
            { value: "pictures", label: jobs.value.length ? `Pictures (${jobs.value.length} in the queue)` : "Pictures" },
          ]}
          change={(value) => (view.value = value)}
        />
      </nav>
      <Notice />
      <DropTargets />
      <Help />
      <SignIn done={begin} />
    </div>
  );
}

function Notice() {
  const said = notice.value;
  return (
    <div role="status" class="notices">
      {said && (
        <div class="notice">
          <p>{said.text}</p>
          {said.undo && (
            <button
              type="button"
              class="quiet"
              onClick={() => {
                said.undo?.();
                notice.value = null;
              }}
            >
              Undo
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Follow the server's jobs, and read what it has whenever it is there, or there again. */
function begin(): void {
  follow(() => void readCatalogue().catch(complain));
}

showTheme();
void readInputs();
void readPictures();
watchKeys();
watchOtherTabs();
watchConnection(() => !Object.keys(own.peek()).length);
effect(() => {
  if (full.value) say("The browser has no space left: download what you want to keep, since a reload forgets the latest.");
});
const root = document.getElementById("page");
if (root) render(<App />, root);
// Without credentials the server would only refuse everything.
if (document.documentElement.dataset["guarded"] === "true" && !credentials.value) signInWanted.value = true;
else begin();
