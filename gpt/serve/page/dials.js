// The dials: one row each, a slider and a number that say the same.

import { apiKey, setApiKey } from "./server.js";
import { byId, element } from "./elements.js";

const DIALS = [
  { name: "temperature", label: "temperature", min: 0, max: 2, step: 0.05, value: 0.8 },
  { name: "top_p", label: "top-p", min: 0.01, max: 1, step: 0.01, value: 1 },
  { name: "top_k", label: "top-k", min: 0, max: 200, step: 1, value: 0, title: "0 keeps all" },
  { name: "min_p", label: "min-p", min: 0, max: 1, step: 0.01, value: 0 },
  { name: "repetition_penalty", label: "repetition", min: 0.5, max: 2, step: 0.05, value: 1, title: "repetition penalty; 1 turns it off" },
  { name: "max_tokens", label: "max tokens", min: 1, max: 512, step: 1, value: 128 },
];

export function showDials() {
  const rows = byId("dial-rows");
  for (const dial of DIALS) {
    const { min, max, step, value } = dial;
    const number = element("input", { type: "number", id: dial.name, min, step: step < 1 ? "any" : step, value });
    if (dial.name !== "max_tokens" && dial.name !== "top_k") number.max = max;
    const slider = element("input", { type: "range", min, max, step, value, "aria-label": `${dial.label}, slider` });
    slider.addEventListener("input", () => (number.value = slider.value));
    number.addEventListener("input", () => (slider.value = number.value));
    const label = element("label", { htmlFor: dial.name, title: dial.title ?? "" }, dial.label);
    rows.append(element("div", { className: "dial" }, label, slider, number));
  }
  const seed = element("input", { type: "number", id: "seed", step: 1, placeholder: "random", className: "across" });
  rows.append(element("div", { className: "dial" }, element("label", { htmlFor: "seed" }, "seed"), seed));
  byId("key").value = apiKey();
  byId("key").addEventListener("change", () => setApiKey(byId("key").value.trim()));
  byId("shade").addEventListener("change", () => document.body.classList.toggle("shaded", byId("shade").checked));
  byId("dial-form").addEventListener("submit", (event) => event.preventDefault());
  const narrow = matchMedia("(max-width: 860px)");
  const fold = () => (byId("dials").open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();
}

// The dials as the API names them. Throws an Error in words for one that is out of its range.
export function readDials() {
  const dials = {};
  for (const { name, label } of DIALS) {
    const input = byId(name);
    if (!input.value || !input.checkValidity()) throw new Error(`${label}: ${input.validationMessage || "a number is needed"}`);
    dials[name] = Number(input.value);
  }
  const seed = byId("seed");
  if (!seed.checkValidity()) throw new Error(`seed: ${seed.validationMessage}`);
  if (seed.value && !Number.isSafeInteger(Number(seed.value))) throw new Error("seed: too long; 15 digits at most");
  if (seed.value) dials.seed = Number(seed.value);
  return dials;
}

export const systemPrompt = () => byId("system").value.trim();
