/** The page: what it shows, and what it reads when it is opened. */

import { render } from "preact";
import { complain, notice, view } from "./actions.ts";
import { credentials, signInWanted } from "./api.ts";
import { readCatalogue } from "./catalogue.ts";
import { Compose } from "./compose/compose.tsx";
import { readInputs } from "./inputs.ts";
import { follow, jobs } from "./jobs.ts";
import { watchKeys } from "./keyboard.ts";
import { Bar, Help, showTheme } from "./parts/bar.tsx";
import { DropTargets } from "./parts/drop.tsx";
import { Segments } from "./parts/fields.tsx";
import { SignIn } from "./parts/signin.tsx";
import { readPictures } from "./pictures.ts";
import { Stage } from "./stage/stage.tsx";
import "./style/tokens.css";
import "./style/parts.css";
import "./style/layout.css";

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

/** Read what the server has, and follow its jobs. */
function begin(): void {
  void readCatalogue().then(follow, complain);
}

showTheme();
void readInputs();
void readPictures();
watchKeys();
const root = document.getElementById("page");
if (root) render(<App />, root);
// Without credentials the server would only refuse everything.
if (document.documentElement.dataset["guarded"] === "true" && !credentials.value) signInWanted.value = true;
else begin();
