// The models that are served: /v1/models for the list, /playground/models for what each is able to.

import { element } from "./elements.js";
import { get } from "./server.js";

export const models = new Map(); // id -> {context_tokens, can_chat, n_layers, n_heads, n_parameters, bits}

export async function readModels() {
  const [list, details] = await Promise.all([get("/v1/models"), get("/playground/models")]);
  models.clear();
  for (const card of list.data) models.set(card.id, card);
  for (const detail of details.data) models.set(detail.id, { ...models.get(detail.id), ...detail });
}

export function fillSelect(select, chosen, none) {
  const options = [...models.keys()].map((id) => element("option", { value: id }, id));
  if (none) options.unshift(element("option", { value: "" }, none));
  select.replaceChildren(...options);
  select.value = chosen;
}

const short = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)}B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : `${(n / 1e3).toFixed(0)}K`);

export function describe(id) {
  const model = models.get(id);
  if (!model?.n_parameters) return "";
  const bits = model.bits ? `, ${model.bits}-bit` : "";
  const kind = model.can_chat ? "tuned for chat" : "a base model: it continues text";
  return `${short(model.n_parameters)} parameters${bits}, ${model.n_layers} layers of ${model.n_heads} heads, context ${model.context_tokens}; ${kind}`;
}
