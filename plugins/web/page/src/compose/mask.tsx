/** The editor of the mask: what is painted over is drawn anew. */

import { useEffect, useRef, useState } from "preact/hooks";
import { masking } from "../actions.ts";
import { inputs, setInput, type Input } from "../inputs.ts";
import { Dialog } from "../parts/dialog.tsx";
import { CheckField, SliderField } from "../parts/fields.tsx";
import { Icon } from "../parts/icons.tsx";

const MOST_UNDOS = 30;
/** What all of them may take together. */
const MOST_UNDO_BYTES = 256 * 1024 * 1024;

export function MaskEditor() {
  const source = inputs.value["source"];
  if (!masking.value || !source) return null;
  return (
    <Dialog title="Mask: paint over what is to be drawn anew" class="mask-editor" close={() => (masking.value = false)}>
      <Editor source={source} />
    </Dialog>
  );
}

function Editor({ source }: { source: Input }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState(Math.round(Math.max(source.width, source.height) / 8));
  const [erasing, setErasing] = useState(false);
  const undos = useRef<ImageData[]>([]);
  const [painted, setPainted] = useState(0);

  useEffect(() => {
    const mask = inputs.peek()["mask"];
    const context = contextOf(canvas.current);
    if (mask && context) void paintMask(context, mask.url).then(() => setPainted(1));
  }, []);

  const edit = (change: (context: CanvasRenderingContext2D) => void) => {
    const context = contextOf(canvas.current);
    if (!context) return;
    const most = Math.min(MOST_UNDOS, Math.ceil(MOST_UNDO_BYTES / (source.width * source.height * 4)));
    undos.current = [...undos.current, context.getImageData(0, 0, source.width, source.height)].slice(-most);
    change(context);
    setPainted((count) => count + 1);
  };
  const undo = () => {
    const before = undos.current.pop();
    if (before) contextOf(canvas.current)?.putImageData(before, 0, 0);
    setPainted((count) => count + 1);
  };
  const keys = (event: KeyboardEvent) => {
    if (event.target instanceof HTMLInputElement && event.target.type === "number") return;
    if (event.key === "[") setSize((old) => Math.max(2, Math.round(old * 0.8)));
    if (event.key === "]") setSize((old) => Math.min(1024, Math.round(old * 1.25)));
    if (event.key === "e") setErasing((old) => !old);
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  };
  const done = () => {
    const context = contextOf(canvas.current);
    setInput("mask", context ? maskOf(context, source) : null);
    masking.value = false;
  };
  return (
    <div class="editor" onKeyDown={keys}>
      <div class="board">
        <div class="paper">
          <img src={source.url} alt="Source picture" draggable={false} />
          <Board canvas={canvas} source={source} size={size} erasing={erasing} edit={edit} />
        </div>
      </div>
      <div class="tools">
        <SliderField label="Brush" value={size} min={2} max={1024} top={Math.max(64, Math.round(Math.max(source.width, source.height) / 2))} change={setSize} />
        <CheckField label="Erase" value={erasing} change={setErasing} />
        <div class="row">
          <button type="button" class="quiet" disabled={!undos.current.length} onClick={undo}>
            <Icon name="undo" />
            Undo
          </button>
          <button type="button" class="quiet" onClick={() => edit(fill)}>
            Everything
          </button>
          <button type="button" class="quiet" disabled={!painted} onClick={() => edit(clear)}>
            Clear
          </button>
        </div>
        <p class="hint wide-only">
          <kbd>[</kbd> <kbd>]</kbd> size, <kbd>E</kbd> erase, <kbd>Ctrl</kbd> <kbd>Z</kbd> undo
        </p>
        <button type="button" class="main" onClick={done}>
          Use this mask
        </button>
      </div>
    </div>
  );
}

interface BoardProps {
  canvas: { current: HTMLCanvasElement | null };
  source: Input;
  size: number;
  erasing: boolean;
  edit: (change: (context: CanvasRenderingContext2D) => void) => void;
}

/** The surface that is painted on, by mouse, pen or finger; it has the source's pixels. */
function Board({ canvas, source, size, erasing, edit }: BoardProps) {
  const last = useRef<{ x: number; y: number } | null>(null);
  const stroke = (event: PointerEvent & { currentTarget: HTMLCanvasElement }, context: CanvasRenderingContext2D) => {
    const box = event.currentTarget.getBoundingClientRect();
    const scale = source.width / box.width;
    const here = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    const from = last.current ?? here;
    context.globalCompositeOperation = erasing ? "destination-out" : "source-over";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = size;
    context.strokeStyle = "#fff";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(here.x, here.y);
    context.stroke();
    last.current = here;
  };
  return (
    <canvas
      ref={canvas}
      width={source.width}
      height={source.height}
      aria-label="Mask; paint with the pointer, or use the buttons"
      role="img"
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.preventDefault();
        event.currentTarget.setPointerCapture(event.pointerId);
        edit((context) => stroke(event, context));
      }}
      onPointerMove={(event) => {
        const context = contextOf(canvas.current);
        if (last.current && context) stroke(event, context);
      }}
      onPointerUp={() => (last.current = null)}
      onPointerCancel={() => (last.current = null)}
    />
  );
}

function contextOf(canvas: HTMLCanvasElement | null): CanvasRenderingContext2D | null {
  return canvas?.getContext("2d", { willReadFrequently: true }) ?? null;
}

function fill(context: CanvasRenderingContext2D): void {
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

function clear(context: CanvasRenderingContext2D): void {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
}

/** The mask as a picture, white on black; null where nothing is painted. */
function maskOf(context: CanvasRenderingContext2D, { width, height }: Input): Input | null {
  const pixels = context.getImageData(0, 0, width, height).data;
  if (!pixels.some((value, index) => index % 4 === 3 && value > 0)) return null;
  const flat = document.createElement("canvas");
  Object.assign(flat, { width, height });
  const paper = contextOf(flat);
  if (!paper) return null;
  paper.fillStyle = "#000";
  paper.fillRect(0, 0, width, height);
  paper.drawImage(context.canvas, 0, 0);
  return { url: flat.toDataURL("image/png"), width, height };
}

/** Draw a mask (white on black) as paint (white on nothing). */
async function paintMask(context: CanvasRenderingContext2D, url: string): Promise<void> {
  const image = new Image();
  image.src = url;
  await image.decode();
  const { width, height } = context.canvas;
  context.drawImage(image, 0, 0, width, height);
  const data = context.getImageData(0, 0, width, height);
  for (let place = 0; place < data.data.length; place += 4) data.data[place + 3] = data.data[place] ?? 0;
  context.putImageData(data, 0, 0);
}
