// The page: reads the models, then hands each view what it needs.

import { showLayers, startAttention } from "./attention.js";
import { setMode, startChat } from "./chat.js";
import { showColumns, startCompare } from "./compare.js";
import { showDials } from "./dials.js";
import { byId } from "./elements.js";
import { describe, fillSelect, models, readModels } from "./models.js";
import { watchTokens } from "./tokens.js";

const tabs = [...byId("tabs").children];

function open(tab) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", String(chosen));
    each.tabIndex = chosen ? 0 : -1;
    byId(each.getAttribute("aria-controls")).hidden = !chosen;
  }
  const view = tab.getAttribute("aria-controls");
  document.body.dataset.view = view;
  history.replaceState(null, "", `#${view}`);
}

byId("tabs").addEventListener("click", (event) => {
  if (tabs.includes(event.target)) open(event.target);
});
byId("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs.at((tabs.indexOf(document.activeElement) + step) % tabs.length);
  next.focus();
  open(next);
});

function showModel() {
  byId("model-note").textContent = describe(byId("model").value);
  setMode(models.get(byId("model").value).can_chat);
}

async function connect() {
  const served = byId("served");
  try {
    await readModels();
  } catch (error) {
    served.textContent = error.message;
    served.classList.add("error");
    return;
  }
  served.classList.remove("error");
  served.textContent = models.size === 1 ? "1 model served" : `${models.size} models served`;
  const first = [...models].find(([, model]) => model.can_chat)?.[0] ?? [...models.keys()][0];
  fillSelect(byId("model"), first);
  fillSelect(byId("attention-model"), first);
  showModel();
  showColumns();
  showLayers();
  startUse();
}

function startUse() {
  byId("chat-send").disabled = false;
  document.body.dataset.ready = "true";
}

document.body.classList.add("shaded");
showDials();
watchTokens();
startChat();
startCompare();
startAttention();
byId("model").addEventListener("change", showModel);
byId("key").addEventListener("change", connect);
open(tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash) ?? tabs[0]);
connect();
