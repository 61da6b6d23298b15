/** A dialogue over the page, which Escape and its button close. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { IconButton } from "./icons.tsx";

interface Props {
  title: string;
  /** Absent where it has to be answered. */
  close?: () => void;
  class?: string;
  children: ComponentChildren;
}

export function Dialog({ title, close, children, ...props }: Props) {
  const frame = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    frame.current?.showModal();
    return () => (opener instanceof HTMLElement ? opener.focus() : undefined);
  }, []);
  return (
    <dialog
      ref={frame}
      class={props.class}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        close?.();
      }}
      onClick={(event) => {
        if (event.target === frame.current) close?.();
      }}
    >
      <div class="sheet">
        <header>
          <h2 id={id}>{title}</h2>
          {close && <IconButton icon="close" name="Close" click={close} />}
        </header>
        {children}
      </div>
    </dialog>
  );
}
