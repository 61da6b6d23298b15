/** Icons as lines of 1.6 on a grid of 20; they say nothing to screen readers, since their buttons have names. */

const PATHS = {
  close: "M5 5l10 10M15 5L5 15",
  stop: "M6 6h8v8H6z",
  swap: "M4 7h11l-3-3M16 13H5l3 3",
  dice: "M4 4h12v12H4zM7.5 7.5h.01M12.5 12.5h.01M10 10h.01M12.5 7.5h.01M7.5 12.5h.01",
  back: "M4 10a6 6 0 1 0 2-4.5M4 4v3.5h3.5",
  sun: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6L16 16M16 4l-1.4 1.4M5.4 14.6L4 16",
  moon: "M16 11.5A6.5 6.5 0 0 1 8.5 4a6.5 6.5 0 1 0 7.5 7.5z",
  auto: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  keys: "M2.5 5.5h15v9h-15zM5.5 8.5h.01M8.5 8.5h.01M11.5 8.5h.01M14.5 8.5h.01M6.5 11.5h7",
  leave: "M8 4H4v12h4M12 6.5l3.5 3.5-3.5 3.5M15.5 10H8",
  picture: "M3 4h14v12H3zM3 13l4-4 3.5 3.5L13 10l4 4M13 7.5h.01",
  download: "M10 3v9M6 8.5L10 12.5l4-4M4 16.5h12",
  reuse: "M4 8a6 6 0 0 1 11-1.5M15.5 3v3.8h-3.8M16 12a6 6 0 0 1-11 1.5M4.5 17v-3.8h3.8",
  brush: "M16.5 3.5l-7.5 8M8.5 11c-2.5 0-3 2-3 3.2 0 1-1 1.8-2 1.8 1 .8 5.5 1.3 6.5-1.5M10.5 12.5a3 3 0 0 0-2-1.5",
  bin: "M4 6h12M8 6V4h4v2M5.5 6l.8 10.5h7.4L14.5 6",
  copy: "M7 7h9v9H7zM4 13V4h9",
  refresh: "M15.5 7A6.2 6.2 0 1 0 16.2 11M16 3.5V7.2h-3.7",
  plus: "M10 4v12M4 10h12",
  down: "M5 7.5l5 5 5-5",
  undo: "M4 8h8a4 4 0 0 1 0 8H8M7 4.5L3.5 8 7 11.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A button that shows an icon; its name is read out, and seen when it is pointed at. */
export function IconButton(props: { icon: IconName; name: string; class?: string; disabled?: boolean; click: () => void }) {
  return (
    <button
      type="button"
      class={`quiet square ${props.class ?? ""}`}
      aria-label={props.name}
      title={props.name}
      disabled={props.disabled}
      onClick={props.click}
    >
      <Icon name={props.icon} />
    </button>
  );
}
