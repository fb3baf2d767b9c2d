// One answer on the page while it streams: its tokens, how it ended, how fast it came.

import { element } from "./elements.js";
import { generate } from "./generation.js";
import { TokenText } from "./tokens.js";

const ENDS = { stop: "complete", length: "cut at the limit" };

export class Answer {
  constructor(label) {
    this.tokens = new TokenText(label);
    this.stats = element("p", { className: "stats" }, "waiting");
    this.error = element("p", { className: "error", role: "alert", hidden: true });
    this.isWhole = false;
  }

  get text() {
    return this.tokens.text;
  }

  // Streams into the page; an error is shown in words and returned, null where there was none.
  async run(asked, signal, onPiece = () => {}) {
    const begin = performance.now();
    let first = null;
    let finish = null;
    let usage = null;
    let error = null;
    const say = (end) => {
      const n = usage ? usage.completion_tokens : this.tokens.count;
      const parts = [`${n} token${n === 1 ? "" : "s"}`];
      if (first !== null) parts.push(`first after ${((first - begin) / 1000).toFixed(2)} s`);
      const seconds = (performance.now() - (first ?? begin)) / 1000;
      if (n > 1 && seconds > 0) parts.push(`${((n - 1) / seconds).toFixed(0)} tokens/s`);
      if (end) parts.push(end);
      this.stats.textContent = parts.join(" · ");
    };
    try {
      for await (const piece of generate(asked, signal)) {
        finish = piece.finish ?? finish;
        usage = piece.usage ?? usage;
        if (!piece.tokens.length) continue;
        first ??= performance.now();
        this.tokens.push(piece.tokens);
        say();
        onPiece();
      }
    } catch (caught) {
      error = caught;
    }
    this.tokens.finish();
    this.isWhole = error === null;
    if (error?.name === "AbortError") {
      say("stopped");
      return null;
    }
    say(error ? "failed" : ENDS[finish]);
    if (error) {
      this.error.textContent = error.message;
      this.error.hidden = false;
    }
    return error;
  }
}
