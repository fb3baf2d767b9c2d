// Generated text as a row of tokens, each shaded by its probability, and the inspector that explains one.
// A text is one stop of the Tab key; the arrow keys go from token to token.

import { byId, element, percent, visible } from "./elements.js";

const DARKEST_BITS = 9; // the shade says -log2(p): a token of one in 512, or rarer, is the darkest
const TOKENS = new WeakMap(); // span -> the tokens whose text it shows: more than one where they share a character

export class TokenText {
  constructor(label) {
    this.root = element("span", { className: "tokens", role: "group", "aria-label": label });
    this.text = "";
    this.count = 0;
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.open = [];
  }

  push(tokens) {
    const spans = [];
    for (const token of tokens) {
      this.open.push(token);
      const text = this.decoder.decode(token.bytes, { stream: true });
      if (text) spans.push(this.#span(text));
    }
    this.root.append(...spans);
  }

  finish() {
    const rest = this.decoder.decode();
    if (rest && this.open.length) this.root.append(this.#span(rest));
  }

  #span(text) {
    const tokens = this.open;
    this.open = [];
    this.text += text;
    const bits = -tokens.reduce((sum, token) => sum + token.logprob, 0) / Math.LN2;
    const span = element("span", { className: "token", tabIndex: this.count++ ? -1 : 0 }, text);
    span.style.setProperty("--surprise", Math.min(1, bits / DARKEST_BITS).toFixed(3));
    TOKENS.set(span, tokens);
    return span;
  }
}

export function watchTokens() {
  const inspector = byId("inspector");
  const over = (event) => (event.target instanceof Element ? event.target.closest(".token") : null);
  const hide = () => {
    inspector.hidden = true;
    document.querySelector(".token[aria-describedby]")?.removeAttribute("aria-describedby");
  };
  const show = (span) => {
    hide();
    inspector.replaceChildren(...TOKENS.get(span).map(explain));
    inspector.hidden = false;
    span.setAttribute("aria-describedby", "inspector");
    place(inspector, span.getClientRects()[0] ?? span.getBoundingClientRect());
  };
  document.addEventListener("pointerover", (event) => (over(event) ? show(over(event)) : hide()));
  document.addEventListener("focusin", (event) => (over(event) ? show(over(event)) : hide()));
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("pointerdown", (event) => over(event)?.focus());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const span = over(event);
    if (!span) return;
    const next = {
      ArrowRight: span.nextElementSibling,
      ArrowLeft: span.previousElementSibling,
      Home: span.parentElement.firstElementChild,
      End: span.parentElement.lastElementChild,
    }[event.key];
    if (!next) return;
    event.preventDefault();
    span.tabIndex = -1;
    next.tabIndex = 0;
    next.focus({ preventScroll: false });
    show(next); // the scroll that focus made has hidden it
  });
}

function explain(token) {
  const isIn = token.top.some(({ name }) => name === token.name);
  const rows = [...token.top, ...(isIn ? [] : [token])].map(({ name, logprob }) => {
    const p = Math.exp(logprob);
    const bar = element("i");
    bar.style.width = `${(100 * p).toFixed(1)}%`;
    return element(
      "li",
      { className: name === token.name ? "chosen" : "" },
      element("code", {}, visible(name)),
      element("span", { className: "track" }, bar),
      element("span", { className: "number" }, percent(p)),
    );
  });
  const head = element("p", {}, element("code", {}, visible(token.name)), ` ${percent(Math.exp(token.logprob))}`);
  return element("div", {}, head, element("ol", {}, ...rows));
}

function place(inspector, at) {
  const { offsetWidth: width, offsetHeight: height } = inspector;
  const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8));
  const top = at.top - height - 8 >= 8 ? at.top - height - 8 : at.bottom + 8;
  inspector.style.left = `${left}px`;
  inspector.style.top = `${top}px`;
}
