/**
 * The language of the page: English is the source, and every other one is a flat catalogue whose keys are the English texts.
 *
 * Whatever becomes a text on the page goes through `translate`, in one place (`dom.js`). A key may hold `{}` for what differs:
 * "{} of {}" fits "3 of 7". What no key fits is shown as it is: names, numbers, and texts that nobody has translated yet.
 */

const CATALOGUES = { de: () => import("./languages/de.js") };

let language = "en";
let exact = new Map();
let patterns = [];
const known = new Map();
const missing = new Set();

/** Take the language of a user, or where that is "" the browser's; English where there is no catalogue. */
export async function useLanguage(wanted) {
  const asked = wanted || navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag === "en" || tag in CATALOGUES);
  const next = asked in CATALOGUES ? asked : "en";
  if (next === language) return;
  const entries = next === "en" ? {} : (await CATALOGUES[next]()).TEXTS;
  language = next;
  exact = new Map(Object.entries(entries).filter(([key]) => !key.includes("{}")));
  patterns = Object.entries(entries)
    .filter(([key]) => key.includes("{}"))
    .sort(([a], [b]) => b.length - a.length)
    .map(([key, text]) => [new RegExp(`^${key.split("{}").map(escape).join("(.+?)")}$`, "s"), text]);
  known.clear();
  document.documentElement.lang = language;
}

/** Give the locale for numbers and dates: the page's language, in the browser's own region where it has that language. */
export function locale() {
  return navigator.languages.find((tag) => tag.slice(0, 2) === language) ?? language;
}

/** Give a text in the page's language. */
export function translate(text) {
  if (language === "en" || typeof text !== "string" || !/[A-Za-z]{2}/.test(text)) return text;
  if (!known.has(text)) {
    if (known.size > 5000) known.clear();
    known.set(text, find(text));
  }
  return known.get(text);
}

/** Give the texts that were shown and have no translation, for tests and translators. */
export function untranslated() {
  return [...missing];
}

function find(text) {
  const [, before, core, after] = /^(\s*)(.*?)(\s*)$/s.exec(text);
  const whole = exact.get(core);
  if (whole !== undefined) return before + whole + after;
  for (const [pattern, template] of patterns) {
    const found = pattern.exec(core);
    if (found === null) continue;
    let index = 0;
    // What was filled in may itself be a text of the page: a state, a preset, a count.
    return before + template.replaceAll(/\{(\d*)\}/g, (_, number) => translate(found[number ? Number(number) : ++index])) + after;
  }
  // Lines of facts are made of parts.
  if (core.includes(" · ")) return before + core.split(" · ").map(translate).join(" · ") + after;
  missing.add(core);
  return text;
}

function escape(text) {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
