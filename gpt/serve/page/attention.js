// Where the heads look: a small picture of each, one large with its tokens.

import { byId, element, percent, visible } from "./elements.js";
import { lastAnswer } from "./chat.js";
import { fillSelect, models } from "./models.js";
import { post } from "./server.js";

const CELLS = [14, 30]; // smallest and largest of the large picture, in CSS pixels
const MARGIN = 76; // for the labels
const LONGEST = 10; // characters of a label
let cell = CELLS[0];
let shown = null; // the server's answer
let head = null; // the head that is large
let query = 0; // the token whose row is read
let hovered = null; // the column that is read

export function startAttention() {
  byId("attention-form").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  byId("attention-last").addEventListener("click", () => {
    if (lastAnswer()) byId("attention-text").value = lastAnswer().slice(0, 160).trim();
    else byId("attention-note").textContent = "There is no answer in the chat yet.";
  });
  byId("attention-model").addEventListener("change", showLayers);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showHeads);
  byId("head-grid").addEventListener("keydown", (event) => {
    const wide = byId("head-grid").firstElementChild?.querySelectorAll("button").length ?? 1;
    walk(event, byId("head-grid"), { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide });
  });
  byId("head-strip").addEventListener("keydown", (event) => walk(event, byId("head-strip"), { ArrowLeft: -1, ArrowRight: 1 }));
  const canvas = byId("head-canvas");
  canvas.addEventListener("pointermove", (event) => {
    const at = (offset) => Math.floor((offset - MARGIN) / cell);
    const [row, column] = [at(event.offsetY), at(event.offsetX)];
    if (row >= 0 && row < shown.tokens.length && column >= 0 && column <= row) read(row, column);
  });
  canvas.addEventListener("keydown", (event) => {
    const [rows, columns] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!rows && !columns) return;
    event.preventDefault();
    const row = Math.max(0, Math.min(shown.tokens.length - 1, query + rows));
    read(row, Math.max(0, Math.min(row, (hovered ?? row) + columns)));
  });
}

export function showLayers(preferred) {
  const id = byId("attention-model").value || [...models.keys()][0];
  fillSelect(byId("attention-model"), id);
  const names = Array.from({ length: models.get(id).n_layers }, (_, i) => element("option", { value: String(i) }, String(i)));
  byId("attention-layer").replaceChildren(element("option", { value: "" }, "all"), ...names);
  if (typeof preferred === "string") byId("attention-layer").value = preferred;
}

async function draw() {
  const note = byId("attention-note");
  const layer = byId("attention-layer").value;
  const body = { model: byId("attention-model").value, text: byId("attention-text").value };
  note.textContent = "looking";
  try {
    shown = await post("/playground/attention", layer ? { ...body, layer: Number(layer) } : body);
  } catch (error) {
    if (error.code === "too_many_weights") {
      showLayers("0");
      await draw();
      note.textContent += ". All layers at once would be too much of this text: choose one, or shorten it.";
    } else note.textContent = error.message;
    return;
  }
  note.textContent = `${shown.heads.length} heads over ${shown.tokens.length} tokens; layers and heads count from 0`;
  head = shown.heads[0];
  query = shown.tokens.length - 1;
  hovered = null;
  showHeads();
}

// One Tab stop for many buttons: the arrow keys choose among them.
function walk(event, group, steps) {
  const buttons = [...group.querySelectorAll("button")];
  const next = buttons[buttons.indexOf(event.target) + (steps[event.key] ?? NaN)];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
}

function showHeads() {
  if (!shown) return;
  const layers = byLayer(shown.heads);
  const rows = [...layers].map(([layer, heads]) =>
    element("div", { className: "layer" }, element("span", { className: "note" }, `layer ${layer}`), ...heads.map(thumbnail)),
  );
  byId("head-grid").replaceChildren(...rows);
  byId("head-large").hidden = false;
  showLarge();
}

function byLayer(heads) {
  const layers = new Map();
  for (const one of heads) layers.set(one.layer, [...(layers.get(one.layer) ?? []), one]);
  return layers;
}

function thumbnail(one) {
  const n = shown.tokens.length;
  const canvas = element("canvas", { width: n, height: n });
  const context = canvas.getContext("2d");
  paint(context, one, 0, 1);
  const button = element("button", { type: "button", title: `layer ${one.layer}, head ${one.head}`, "aria-pressed": String(one === head) }, canvas);
  button.setAttribute("aria-label", `layer ${one.layer}, head ${one.head}`);
  button.tabIndex = one === head ? 0 : -1;
  button.addEventListener("click", () => {
    head = one;
    for (const other of byId("head-grid").querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
      other.tabIndex = other === button ? 0 : -1;
    }
    showLarge();
  });
  return button;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function paint(context, one, offset, cell) {
  context.fillStyle = color("--accent");
  one.weights.forEach((row, i) =>
    row.forEach((weight, j) => {
      context.globalAlpha = weight;
      context.fillRect(offset + j * cell, offset + i * cell, cell, cell);
    }),
  );
  context.globalAlpha = 1;
}

function showLarge() {
  byId("head-name").textContent = `layer ${head.layer}, head ${head.head}`;
  const strip = shown.tokens.map((token, i) => {
    const span = element("button", { type: "button", className: "looked" }, visible(token));
    span.addEventListener("click", () => read(i, null));
    return span;
  });
  byId("head-strip").replaceChildren(...strip);
  read(query, hovered);
}

function read(row, column) {
  query = row;
  hovered = column;
  const weights = head.weights[row];
  byId("head-strip").childNodes.forEach((span, i) => {
    span.setAttribute("aria-pressed", String(i === row));
    span.tabIndex = i === row ? 0 : -1;
    span.style.setProperty("--w", i <= row ? weights[i].toFixed(3) : "0");
  });
  const said = (i) => `${visible(shown.tokens[i])} ${percent(weights[i])}`;
  const best = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a]).slice(0, 3);
  byId("head-readout").textContent =
    column === null
      ? `${visible(shown.tokens[row])} looks at ${best.map(said).join(", ")}`
      : `${visible(shown.tokens[row])} looks at ${said(column)}`;
  drawLarge();
}

function drawLarge() {
  const canvas = byId("head-canvas");
  const n = shown.tokens.length;
  const fitting = Math.floor((canvas.parentElement.clientWidth - MARGIN - 2) / n);
  cell = Math.max(CELLS[0], Math.min(CELLS[1], fitting));
  const size = MARGIN + n * cell + 2;
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.height = size * scale;
  canvas.style.width = canvas.style.height = `${size}px`;
  canvas.setAttribute("aria-label", `Attention of layer ${head.layer}, head ${head.head}; the arrow keys read it`);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "11px ui-monospace, monospace";
  context.textBaseline = "middle";
  shown.tokens.forEach((token, i) => {
    const label = visible(token);
    const text = label.length > LONGEST ? `${label.slice(0, LONGEST - 1)}…` : label;
    const middle = MARGIN + (i + 0.5) * cell;
    context.fillStyle = color(i === query ? "--ink" : "--soft");
    context.textAlign = "right";
    context.fillText(text, MARGIN - 6, middle);
    context.save();
    context.translate(middle, MARGIN - 6);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillStyle = color(i === hovered ? "--ink" : "--soft");
    context.fillText(text, 0, 0);
    context.restore();
  });
  context.strokeStyle = color("--line");
  for (let i = 0; i < n; i++) context.strokeRect(MARGIN + 0.5, MARGIN + i * cell + 0.5, (i + 1) * cell, cell);
  paint(context, head, MARGIN, cell);
  context.strokeStyle = color("--ink");
  context.strokeRect(MARGIN + 0.5, MARGIN + query * cell + 0.5, (query + 1) * cell, cell);
}
