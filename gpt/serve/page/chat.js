// The chat: turns in this page's memory, one answer at a time, and completions of plain text for base models.

import { Answer } from "./answer.js";
import { byId, element } from "./elements.js";
import { readDials, systemPrompt } from "./dials.js";
import { models } from "./models.js";

const turns = []; // {question, answer: Answer, isChat, node}
let running = null; // AbortController of the answer that streams
let forgotten = 0; // oldest turns that no longer fit the context

export const lastAnswer = () => turns.at(-1)?.answer.text ?? "";
const mode = () => document.querySelector('input[name="mode"]:checked').value;

export function setMode(canChat) {
  document.querySelector(`input[name="mode"][value="${canChat ? "chat" : "complete"}"]`).checked = true;
  sayEmpty();
}

function sayEmpty() {
  byId("chat-empty").textContent =
    mode() === "chat"
      ? "Say something. Every token of the answer shows its probability: point at it, or Tab to the answer and use the arrow keys."
      : "Write the beginning of a text; the model goes on with it.";
  byId("chat-text").placeholder = mode() === "chat" ? "Enter sends, Shift+Enter begins a line" : "Once upon a time";
}

export function startChat() {
  const text = byId("chat-text");
  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else if (text.value.trim()) ask(text.value);
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) byId("chat-form").requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  byId("modes").addEventListener("change", sayEmpty);
  byId("chat-clear").addEventListener("click", clear);
  byId("chat-retry").addEventListener("click", retry);
  byId("chat-copy").addEventListener("click", () => copy(asText(), byId("chat-copy")));
  sayEmpty();
  showState();
}

async function ask(question) {
  let dials;
  const node = element("article");
  const isChat = mode() === "chat";
  const model = byId("model").value;
  const answer = new Answer(`Answer of ${model}`);
  const body = element("div", { className: "answer" });
  if (isChat) {
    node.append(element("h3", {}, "you"), element("p", { className: "said" }, question), element("h3", {}, model));
    body.append(answer.tokens.root);
  } else {
    node.append(element("h3", {}, model));
    body.append(element("span", { className: "given" }, question), answer.tokens.root);
  }
  const notice = element("p", { className: "note", hidden: true });
  node.append(body, answer.error, notice);
  byId("chat-live").replaceChildren(answer.stats); // under the growing text it would move with every line
  try {
    dials = readDials();
  } catch (error) {
    answer.error.textContent = error.message;
    answer.error.hidden = false;
    answer.stats.textContent = "not sent";
  }
  byId("chat-empty").hidden = true;
  const text = byId("chat-text");
  if (dials && text.value === question) text.value = "";
  byId("chat-log").append(node);
  scrollDown(true);
  if (!dials) return void answer.error.before(answer.stats); // nothing was asked; the text is still in its field
  const turn = { question, answer, isChat, node };
  running = new AbortController();
  showState();
  let error;
  do {
    const messages = isChat ? messagesOf(question) : undefined;
    error = await answer.run({ model, messages, text: question, dials }, running.signal, () => scrollDown(false));
  } while (isChat && forgetOldest(error, answer, notice));
  answer.error.before(answer.stats);
  scrollDown(false);
  if (node.isConnected) turns.push(turn); // else the chat was cleared meanwhile
  running = null;
  showState();
}

function messagesOf(question) {
  const system = systemPrompt();
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns.filter((one) => one.isChat && one.answer.text).slice(forgotten)) {
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.answer.text });
  }
  return [...messages, { role: "user", content: question }];
}

// When the chat does not fit any more: leave out one turn more, and say so. Returns whether to ask again.
function forgetOldest(error, answer, notice) {
  const kept = turns.filter((one) => one.isChat && one.answer.text).length - forgotten;
  if (error?.code !== "context_length_exceeded" || kept < 1) return false;
  forgotten += Math.ceil(kept / 2);
  answer.error.hidden = true;
  notice.textContent = `The chat outgrew the model's context: its ${forgotten} oldest turn${forgotten > 1 ? "s are" : " is"} no longer sent.`;
  notice.hidden = false;
  return true;
}

function retry() {
  const last = turns.pop();
  if (!last || running) return;
  last.node.remove();
  document.querySelector(`input[name="mode"][value="${last.isChat ? "chat" : "complete"}"]`).checked = true;
  ask(last.question);
}

function clear() {
  running?.abort();
  for (const turn of turns.splice(0)) turn.node.remove();
  forgotten = 0;
  byId("chat-log").querySelectorAll("article").forEach((node) => node.remove());
  byId("chat-empty").hidden = false;
  byId("chat-text").focus();
  showState();
}

function asText() {
  return turns
    .map(({ question, answer, isChat }) => (isChat ? `you: ${question}\n\n${answer.text}` : question + answer.text))
    .join("\n\n");
}

async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // no clipboard for this page (plain HTTP from another machine): the old way through a selection
    const area = element("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = "Copy"), 1200);
}

function showState() {
  byId("chat-send").textContent = running ? "Stop" : "Send";
  byId("chat-log").setAttribute("aria-busy", running ? "true" : "false");
  byId("chat-retry").disabled = Boolean(running) || !turns.length;
  byId("chat-copy").disabled = !turns.length;
  byId("chat-send").disabled = !models.size;
}

function scrollDown(always) {
  const area = byId("chat-scroll");
  if (always || area.scrollHeight - area.scrollTop - area.clientHeight < 80) area.scrollTop = area.scrollHeight;
}
