// Memory as a picture: a bar of the budget, and what is taken of it as blocks by size and heat.

import { colour, el, modelPath, write } from "./dom.js";
import { inBytes, inCount, inRate } from "./words.js";

const GAP = 1;
const HEATS = ["--heat-0", "--heat-1", "--heat-2", "--heat-3", "--heat-4", "--heat-5"];
const BOUNDS = [0.002, 0.05, 0.5, 5, 20];  // requests a second
export const HEAT_WORDS = ["idle", "below 3/min", "3/min", "0.5/s", "5/s", "20/s and more"];

/** Which of the six heats a rate is. */
export function heat(rate) {
  return BOUNDS.filter((bound) => rate >= bound).length;
}

/** Lays items with a `bytes` of their own out as rectangles as square as may be, in order. */
export function layOut(items, width, height) {
  const total = items.reduce((sum, item) => sum + item.bytes, 0);
  const placed = [];
  const area = { x: 0, y: 0, width, height };
  const scale = total ? (width * height) / total : 0;
  let row = [];
  let rowArea = 0;
  for (const item of items) {
    const size = item.bytes * scale;
    const side = Math.min(area.width, area.height);
    if (row.length && worst([...row, size], rowArea + size, side) > worst(row, rowArea, side)) {
      place(row, rowArea, area, placed);
      row = [];
      rowArea = 0;
    }
    row.push(size);
    rowArea += size;
  }
  if (row.length) place(row, rowArea, area, placed);
  return placed.map((box, index) => ({ ...box, item: items[index] }));
}

function worst(row, sum, side) {
  const square = side * side;
  return Math.max((square * Math.max(...row)) / (sum * sum), (sum * sum) / (square * Math.min(...row)));
}

function place(row, sum, area, placed) {
  const across = area.width < area.height;
  const depth = across ? sum / area.width : sum / area.height;
  let at = across ? area.x : area.y;
  for (const size of row) {
    const length = size / (depth || 1);
    placed.push(across
      ? { x: at, y: area.y, width: length, height: depth }
      : { x: area.x, y: at, width: depth, height: length });
    at += length;
  }
  if (across) { area.y += depth; area.height -= depth; } else { area.x += depth; area.width -= depth; }
}

/** The bar of the budget: resident, being loaded, leaving, free. */
export class Bar {
  constructor() {
    this.parts = ["resident", "reserved", "leaving", "free"].map((name) => ({
      name, piece: el("span", { class: name }), told: el("dd"),
    }));
    const words = { resident: "resident", reserved: "being loaded", leaving: "leaving", free: "free" };
    this.whole = el("div", { class: "budget" },
      el("div", { class: "bar", "aria-hidden": "true" }, this.parts.map((part) => part.piece)),
      el("dl", { class: "legend" }, this.parts.map((part) => el("div", {},
        el("dt", {}, el("span", { class: `key ${part.name}`, "aria-hidden": "true" }), words[part.name]), part.told))));
  }

  show(memory) {
    const sizes = {
      resident: memory.resident_bytes, reserved: memory.reserved_bytes, leaving: memory.leaving_bytes,
    };
    sizes.free = Math.max(0, memory.budget_bytes - sizes.resident - sizes.reserved - sizes.leaving);
    for (const { name, piece, told } of this.parts) {
      piece.style.flexGrow = sizes[name] / memory.budget_bytes;
      write(told, inBytes(sizes[name]));
    }
  }
}

/** The blocks, on a canvas, with a tip for the pointer; the table beside it is for all others. */
export class Blocks {
  constructor() {
    this.canvas = el("canvas", { role: "img", "aria-label": "Models in memory" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.whole = el("div", { class: "blocks" }, this.canvas, this.tip);
    this.boxes = [];
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("click", (event) => {
      const box = this.#find(event);
      if (box?.item.model) location.hash = modelPath(box.item.model);
    });
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.whole);
  }

  show(glance) {
    const { reserved_bytes: reserved, leaving_bytes: leaving } = glance.memory;
    const items = [
      ...glance.blocks.map((block) => ({ ...block, label: block.model, kind: heat(block.rate) })),
      ...glance.others.map((group) => ({ ...group, label: `${inCount(group.models)} models`, kind: heat(group.rate) })),
    ];
    items.sort((one, other) => other.bytes - one.bytes || (one.label < other.label ? -1 : 1));
    if (reserved) items.push({ bytes: reserved, label: "being loaded", kind: "reserved" });
    if (leaving) items.push({ bytes: leaving, label: "leaving", kind: "leaving" });
    this.items = items;
    const hottest = glance.blocks.reduce((most, block) => (block.rate > (most?.rate ?? 0) ? block : most), null);
    this.canvas.setAttribute("aria-label",
      `${inCount(glance.memory.models)} models in memory, ${inBytes(glance.memory.resident_bytes)} of ` +
      `${inBytes(glance.memory.budget_bytes)}. ${hottest ? `The hottest is ${hottest.model}. ` : ""}` +
      "The table below has the same as text.");
    this.paint();
  }

  paint() {
    if (!this.items || !this.whole.isConnected) return;
    const { clientWidth: width, clientHeight: height } = this.whole;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.boxes = layOut(this.items, width, height);
    const heats = HEATS.map(colour);
    const inks = HEATS.map((_, index) => colour(`--heat-ink-${index}`));
    const other = { fill: colour("--quiet"), ink: colour("--text") };
    for (const box of this.boxes) {
      const { kind } = box.item;
      draw(pen, box, typeof kind === "number" ? { fill: heats[kind], ink: inks[kind] } : other);
    }
  }

  #find(event) {
    const { offsetX: x, offsetY: y } = event;
    return this.boxes.find((box) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height);
  }

  #point(event) {
    const box = this.#find(event);
    this.tip.hidden = !box;
    this.canvas.style.cursor = box?.item.model ? "pointer" : "default";
    if (!box) return;
    const { item } = box;
    const rate = item.rate === undefined ? "" : `, ${inRate(item.rate)}${item.models ? " each" : ""}`;
    write(this.tip, `${item.label}: ${inBytes(item.bytes)}${rate}${item.pinned ? ", pinned" : ""}`);
    const left = Math.min(event.offsetX + 12, this.whole.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(4, left)}px, ${event.offsetY + 16}px)`;
  }
}

function draw(pen, box, { fill, ink }) {
  const { item } = box;
  const [x, y, width, height] = [box.x, box.y, box.width - GAP, box.height - GAP];
  if (width <= 0 || height <= 0) return;
  pen.globalAlpha = item.kind === "leaving" ? 0.5 : 1;
  pen.fillStyle = fill;
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(3, width / 4, height / 4));
  pen.fill();
  pen.globalAlpha = 1;
  if (item.pinned) {
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.strokeRect(x + 3, y + 3, Math.max(0, width - 6), Math.max(0, height - 6));
  }
  if (width < 56 || height < 20) return;
  pen.save();
  pen.clip();
  pen.fillStyle = ink;
  pen.textBaseline = "top";
  pen.font = "500 12px system-ui, sans-serif";
  pen.fillText(shorten(pen, item.label, width - 14), x + 7, y + 6);
  if (height >= 38) {
    pen.font = "11px system-ui, sans-serif";
    const rate = item.rate === undefined ? "" : ` · ${inRate(item.rate)}`;
    pen.fillText(shorten(pen, inBytes(item.bytes) + rate, width - 14), x + 7, y + 21);
  }
  pen.restore();
}

function shorten(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let kept = Math.floor((text.length * width) / pen.measureText(text).width);
  while (kept > 0 && pen.measureText(`${text.slice(0, kept)}…`).width > width) kept -= 1;
  return kept > 1 ? `${text.slice(0, kept)}…` : "";
}
