// Elements from tags, properties and children. Text only ever enters as a text node, so nothing that a model
// or a server says can become markup.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

// Blanks as signs, for labels and quotes.
const SIGNS = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "↵" };
export const visible = (text) => text.replace(/[ \n\t\r]/g, (blank) => SIGNS[blank]) || "∅";

export const percent = (p) => (p >= 0.1 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : "<0.1%");
