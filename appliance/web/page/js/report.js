/** The report for printing in the language of its reader; the server writes it in English. */

import { translate } from "./language.js";
import { loadSession } from "./session.js";

async function translatePage() {
  await loadSession();
  document.title = translate(document.title);
  for (const image of document.querySelectorAll("img[alt]")) image.alt = translate(image.alt);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { currentNode: node } = texts;
    if (node.parentElement.closest('[translate="no"]') === null) node.data = translate(node.data);
  }
}

translatePage();
