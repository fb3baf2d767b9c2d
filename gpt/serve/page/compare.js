// The same text to up to three models at once, streamed side by side.

import { Answer } from "./answer.js";
import { byId, element } from "./elements.js";
import { readDials, systemPrompt } from "./dials.js";
import { describe, fillSelect, models } from "./models.js";

const MOST = 3;
let columns = [];
let running = null;

export function startCompare() {
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else if (byId("compare-text").value.trim()) run();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
    if (event.key === "Enter" && event.ctrlKey && event.target === byId("compare-text")) byId("compare-form").requestSubmit();
  });
}

export function showColumns() {
  const ids = [...models.keys()];
  columns = Array.from({ length: Math.min(MOST, ids.length) }, (_, i) => {
    const select = element("select", { "aria-label": `Model of column ${i + 1}` });
    fillSelect(select, ids[i], i ? "none" : null);
    const about = element("p", { className: "note" });
    const output = element("div", { className: "output" });
    const node = element("article", {}, select, about, output);
    const show = () => (about.textContent = describe(select.value));
    select.addEventListener("change", show);
    show();
    return { select, output, node };
  });
  byId("columns").replaceChildren(...columns.map(({ node }) => node));
  byId("compare-note").textContent =
    ids.length > 1
      ? "With a seed among the dials all draw the same numbers. Models tuned for chat are asked in their template, the others continue the text."
      : "One model is served. Name more than one when the server is started to see them side by side.";
}

async function run() {
  const text = byId("compare-text").value;
  const asked = columns.filter(({ select }) => select.value);
  let dials;
  try {
    dials = readDials();
  } catch (error) {
    byId("compare-note").textContent = error.message;
    return;
  }
  running = new AbortController();
  byId("compare-run").textContent = "Stop";
  const system = systemPrompt();
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: text }];
  await Promise.all(
    asked.map(({ select, output }) => {
      const model = select.value;
      const answer = new Answer(`Answer of ${model}`);
      const isChat = models.get(model).can_chat;
      const given = isChat ? [] : [element("span", { className: "given" }, text)];
      output.replaceChildren(answer.stats, answer.error, element("div", { className: "answer" }, ...given, answer.tokens.root));
      return answer.run({ model, messages: isChat ? messages : undefined, text, dials }, running.signal);
    }),
  );
  running = null;
  byId("compare-run").textContent = "Run";
}
