// One answer of a model as a stream of pieces: {tokens, finish, usage}. Both endpoints look the same from here.

import { events } from "./server.js";

const ALTERNATIVES = 5;

// `text` is continued; `messages`, where given, are a chat that is answered.
export async function* generate({ model, messages, text, dials }, signal) {
  const shared = { model, ...dials, stream: true, stream_options: { include_usage: true } };
  const asked = messages
    ? ["/v1/chat/completions", { ...shared, messages, logprobs: true, top_logprobs: ALTERNATIVES }]
    : ["/v1/completions", { ...shared, prompt: text, logprobs: ALTERNATIVES }];
  for await (const event of events(...asked, signal)) {
    const choice = event.choices[0];
    yield {
      tokens: choice?.logprobs ? tokensOf(choice.logprobs) : [],
      finish: choice?.finish_reason ?? null,
      usage: event.usage ?? null,
    };
  }
}

function tokensOf(logprobs) {
  if (logprobs.content) {
    return logprobs.content.map((entry) => ({
      bytes: new Uint8Array(entry.bytes),
      name: entry.token,
      logprob: entry.logprob,
      top: entry.top_logprobs.map(({ token, logprob }) => ({ name: token, logprob })),
    }));
  }
  return (logprobs.tokens ?? []).map((name, i) => ({
    bytes: bytesOf(name),
    name,
    logprob: logprobs.token_logprobs[i],
    top: Object.entries(logprobs.top_logprobs[i] ?? {})
      .map(([other, logprob]) => ({ name: other, logprob }))
      .sort((a, b) => b.logprob - a.logprob)
      .slice(0, ALTERNATIVES),
  }));
}

// A part of a character has no text: the API writes it as bytes:\xe0\xa4.
function bytesOf(name) {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(name)) return new TextEncoder().encode(name);
  return Uint8Array.from(name.matchAll(/\\x(..)/g), (match) => parseInt(match[1], 16));
}
