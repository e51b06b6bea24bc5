/**
 * The language of the page. English is the source; every other language is a flat catalogue keyed by the English text.
 *
 * `dom.js` passes every text of the page through `translate`. A key may hold placeholders: `{}` for any text, and `{#}` for a
 * number with its unit, so that "{#} of {#}" matches "3 of 7" and "1.2 MB of 7 MB" and no sentence.
 * Texts that no key matches are shown unchanged: names, numbers, and texts without a translation.
 */

const PLACEHOLDER = /\{#?\}/;
const NUMBER = String.raw`(\d[\d.,:]*(?:\s?(?:%|\p{L}{1,5}))?)`;
const A_NUMBER = new RegExp(`^${NUMBER}$`, "u");
const CATALOGUES = { de: () => import("./languages/de.js") };

let language = "en";
let exact = new Map();
let patterns = [];
const known = new Map();
const missing = new Set();

/** Use the language of a user, or for "" the browser's; English if there is no catalogue. */
export async function useLanguage(wanted) {
  const asked = wanted || navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag === "en" || tag in CATALOGUES);
  const next = asked in CATALOGUES ? asked : "en";
  if (next === language) return;
  const entries = next === "en" ? {} : (await CATALOGUES[next]()).TEXTS;
  language = next;
  exact = new Map(Object.entries(entries).filter(([key]) => !PLACEHOLDER.test(key)));
  patterns = Object.entries(entries)
    .filter(([key]) => PLACEHOLDER.test(key))
    .sort(([a], [b]) => b.length - a.length)
    .map(([key, text]) => [compile(key), text]);
  known.clear();
  document.documentElement.lang = language;
}

/** Return the locale for numbers and dates: the page's language, in the browser's region if it has that language. */
export function locale() {
  return navigator.languages.find((tag) => tag.slice(0, 2) === language) ?? language;
}

/** Return a text in the page's language. */
export function translate(text) {
  if (language === "en" || typeof text !== "string" || !/[A-Za-z]{2}/.test(text)) return text;
  if (!known.has(text)) {
    if (known.size > 5000) known.clear();
    known.set(text, find(text));
  }
  return known.get(text);
}

/** Return the texts that were shown without a translation, for tests and translators. */
export function untranslated() {
  return [...missing];
}

function find(text) {
  const [, before, core, after] = /^(\s*)(.*?)(\s*)$/s.exec(text);
  const whole = exact.get(core);
  if (whole !== undefined) return before + whole + after;
  // Lines of facts consist of several texts.
  if (core.includes(" · ")) return before + core.split(" · ").map(translate).join(" · ") + after;
  for (const [pattern, template] of patterns) {
    const found = pattern.exec(core);
    if (found === null) continue;
    let index = 0;
    // A placeholder may hold another text of the page: a state, a preset, a count.
    return before + template.replaceAll(/\{(\d*)\}/g, (_, number) => translate(found[number ? Number(number) : ++index])) + after;
  }
  if (!A_NUMBER.test(core)) missing.add(core);
  return text;
}

function compile(key) {
  const parts = key.split(/(\{#?\})/).map((part) => ({ "{}": "(.+?)", "{#}": NUMBER })[part] ?? escape(part));
  return new RegExp(`^${parts.join("")}$`, "su");
}

function escape(text) {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
