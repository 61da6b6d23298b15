/** Keys that count wherever the focus is. */

import { draw, stop } from "./actions.ts";
import { helping } from "./parts/bar.tsx";
import { showNeighbour } from "./pictures.ts";

export function watchKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      // A number that is being typed counts once its field is left.
      if (document.activeElement instanceof HTMLInputElement) document.activeElement.blur();
      void draw();
    } else if (event.key === "Escape") {
      stop();
    } else if (!isTyping(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      plain(event);
    }
  });
}

function plain(event: KeyboardEvent): void {
  if (event.key === "ArrowLeft") showNeighbour(-1);
  else if (event.key === "ArrowRight") showNeighbour(1);
  else if (event.key === "?") helping.value = true;
  else if (event.key === "/") document.querySelector<HTMLElement>("[data-prompt]")?.focus();
  else return;
  event.preventDefault();
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, textarea, select") !== null;
}
