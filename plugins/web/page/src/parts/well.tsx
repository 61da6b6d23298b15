/** A place for one picture: it can be dropped, chosen or removed. */

import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import type { Input } from "../inputs.ts";
import { Icon, IconButton } from "./icons.tsx";

interface Props {
  label: string;
  /** A sentence while there is none. */
  note?: string | undefined;
  input: Input | null;
  /** Drawn over the picture, such as its mask. */
  over?: ComponentChildren;
  take: (file: Blob) => void;
  remove: () => void;
}

export function Well({ label, note, input, over, take, remove }: Props) {
  const id = useId();
  const chooser = useRef<HTMLInputElement>(null);
  const [aimed, setAimed] = useState(false);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    event.stopPropagation();
    setAimed(false);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  };
  return (
    <div
      class={`well ${aimed ? "aimed" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setAimed(true);
      }}
      onDragLeave={() => setAimed(false)}
      onDrop={drop}
    >
      <input
        ref={chooser}
        id={id}
        class="unseen"
        type="file"
        accept="image/*"
        aria-label={label}
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) take(file);
          event.currentTarget.value = "";
        }}
      />
      {input ? (
        <figure>
          <div class="frame">
            <img src={input.url} alt={label} />
            {over}
          </div>
          <figcaption>
            <span>
              {input.width} × {input.height}
            </span>
            <button type="button" class="quiet" onClick={() => chooser.current?.click()}>
              Replace
            </button>
            <IconButton icon="close" name={`Remove ${label.toLowerCase()}`} click={remove} />
          </figcaption>
        </figure>
      ) : (
        <label for={id}>
          <Icon name="picture" />
          <span>
            <strong>{label}</strong>
            <br />
            Drop a picture here, or choose one
            {note && (
              <>
                <br />
                {note}
              </>
            )}
          </span>
        </label>
      )}
    </div>
  );
}
