// The server's answers as values, and its errors in words. Nothing here touches the page.

const KEY = "rawgpt-api-key"; // sessionStorage: this tab, until it is closed

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";
export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export class Refusal extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = apiKey() ? { Authorization: `Bearer ${apiKey()}` } : {};
  if (options.body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server cannot be reached. Is it still running?", "unreachable", 0);
  }
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function refusalOf(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // not JSON: a proxy's own page; the status has to do
  }
  let message = error.message ?? `The server answered ${answer.status} ${answer.statusText}.`;
  if (answer.status === 401) message += ". Give the API key among the dials.";
  const wait = answer.headers.get("Retry-After");
  if (answer.status === 429 && wait) message += ` (in ${wait} s)`;
  return new Refusal(message, error.code, answer.status);
}

export const get = async (path) => (await request(path)).json();

export async function post(path, body, signal) {
  return (await request(path, { method: "POST", body: JSON.stringify(body), signal })).json();
}

// Yields the events of a stream. Leaving the loop early closes the connection, and the server stops.
export async function* events(path, body, signal) {
  const answer = await request(path, { method: "POST", body: JSON.stringify(body), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let open = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Refusal("The server ended the answer in the middle.", "cut", 0);
      const blocks = (open + value).split("\n\n");
      open = blocks.pop();
      for (const block of blocks) {
        if (!block.startsWith("data: ")) continue;
        const data = block.slice(6);
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Refusal(event.error.message, event.error.code, 200);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof Refusal || error.name === "AbortError") throw error;
    throw new Refusal("The connection broke in the middle of the answer.", "cut", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
}
