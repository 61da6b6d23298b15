/** What can be done with a picture that is dragged over the page or pasted into it. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { readSettings, toControl, toSource } from "../actions.ts";
import { catalogue } from "../catalogue.ts";
import { Dialog } from "./dialog.tsx";
import { Icon, type IconName } from "./icons.tsx";

/** Whether files are being dragged over the page. */
const dragging = signal(false);
/** A picture from the clipboard, until it is said what it is for. */
const pasted = signal<Blob | null>(null);

interface Use {
  icon: IconName;
  name: string;
  note: string;
  with: (blob: Blob) => void;
}

function uses(): Use[] {
  const all: Use[] = [
    { icon: "reuse", name: "Use settings", note: "The form is filled with what drew it", with: (blob) => void readSettings(blob) },
    { icon: "picture", name: "Use as source", note: "The next picture starts from it", with: (blob) => void toSource(blob) },
  ];
  if (catalogue.value.control) {
    all.push({ icon: "copy", name: "Use as control", note: "The picture of a ControlNet unit", with: (blob) => void toControl(blob) });
  }
  return all;
}

export function DropTargets() {
  useEffect(watch, []);
  if (pasted.value) return <Pasted blob={pasted.value} />;
  if (!dragging.value) return null;
  return (
    <div class="drop">
      {uses().map((use) => (
        <div
          key={use.name}
          class="target"
          data-drop={use.icon}
          onDragOver={(event) => event.preventDefault()}
          onDragEnter={(event) => event.currentTarget.classList.add("aimed")}
          onDragLeave={(event) => event.currentTarget.classList.remove("aimed")}
          onDrop={(event) => {
            event.preventDefault();
            dragging.value = false;
            const file = event.dataTransfer?.files[0];
            if (file) use.with(file);
          }}
        >
          <Icon name={use.icon} />
          <strong>{use.name}</strong>
          <span>{use.note}</span>
        </div>
      ))}
    </div>
  );
}

function Pasted({ blob }: { blob: Blob }) {
  const close = () => (pasted.value = null);
  return (
    <Dialog title="What is this picture for?" close={close}>
      <div class="choices">
        {uses().map((use) => (
          <button
            key={use.name}
            type="button"
            onClick={() => {
              close();
              use.with(blob);
            }}
          >
            <Icon name={use.icon} />
            {use.name}
          </button>
        ))}
      </div>
    </Dialog>
  );
}

/** Follow drags and pastes until the returned function is called. */
function watch(): () => void {
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  // A dialogue lies over the targets, and a well takes what is dropped on it.
  const enter = (event: DragEvent) => {
    if (hasFiles(event) && !document.querySelector("dialog[open]") && !inWell(event)) dragging.value = true;
  };
  const over = (event: DragEvent) => {
    if (hasFiles(event)) event.preventDefault();
  };
  const leave = (event: DragEvent) => {
    if (event.relatedTarget === null) dragging.value = false;
  };
  const drop = (event: DragEvent) => {
    if (hasFiles(event)) event.preventDefault();
    dragging.value = false;
  };
  const paste = (event: ClipboardEvent) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    pasted.value = file;
  };
  document.addEventListener("dragenter", enter);
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", leave);
  document.addEventListener("drop", drop);
  document.addEventListener("paste", paste);
  return () => {
    document.removeEventListener("dragenter", enter);
    document.removeEventListener("dragover", over);
    document.removeEventListener("dragleave", leave);
    document.removeEventListener("drop", drop);
    document.removeEventListener("paste", paste);
  };
}

function inWell(event: DragEvent): boolean {
  return event.target instanceof Element && event.target.closest(".well") !== null;
}
