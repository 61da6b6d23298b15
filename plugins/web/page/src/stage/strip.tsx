/** All pictures, newest first. */

import { useEffect, useRef } from "preact/hooks";
import { addressOf, pictures, shown, titleOf } from "../pictures.ts";

/** Pixels of its neighbour that are seen beside an item. */
const GAP = 32;

export function Strip() {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    const item = list.current?.querySelector<HTMLElement>("[aria-current=true]");
    if (list.current && item) show(list.current, item);
  }, [shown.value]);
  if (!pictures.value.length) return null;
  return (
    <nav class="strip" aria-label="All pictures">
      <ul ref={list}>
        {pictures.value.map((one, place) => (
          <li key={one.key}>
            <button
              type="button"
              aria-label={`Picture ${place + 1}: ${titleOf(one)}`}
              aria-current={one.key === shown.value ? "true" : undefined}
              onClick={() => (shown.value = one.key)}
            >
              <img src={addressOf(one)} alt="" loading="lazy" />
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** Scroll the strip sideways, and nothing else, until the item is seen. */
function show(strip: HTMLElement, item: HTMLElement): void {
  const [from, to] = [item.offsetLeft, item.offsetLeft + item.offsetWidth];
  if (from < strip.scrollLeft) strip.scrollLeft = from - GAP;
  else if (to > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = to - strip.clientWidth + GAP;
}
