/** All pictures, newest first. */

import { useEffect, useRef } from "preact/hooks";
import { addressOf, pictures, shown, titleOf } from "../pictures.ts";

export function Strip() {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    list.current?.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
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
