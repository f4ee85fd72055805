// What was analysed before: search, open, delete.

import { call, get } from "../api.js";
import { clock, date, el } from "../dom.js";
import { problem } from "../problem.js";

const PAUSE_MS = 250;

export function history(view) {
  const filters = el("form", { class: "options", role: "search", onsubmit: (event) => event.preventDefault() },
    el("label", {}, "Words ", el("input", { name: "text", type: "search" })),
    el("label", {}, "Emotion ", el("input", { name: "emotion", size: 8 })),
    el("label", {}, "Speakers ", el("input", { name: "speakers", type: "number", min: 0, max: 50 })),
    el("label", {}, "Language ", el("input", { name: "language", size: 4 })),
    el("label", {}, "Since ", el("input", { name: "created_after", type: "date" })));
  const rows = el("tbody", {});
  const table = el("table", {},
    el("thead", {}, el("tr", {}, ["When", "Length", "Speakers", "Sounds", "Words", ""].map((name) => el("th", { scope: "col" }, name)))),
    rows);
  const more = el("button", { type: "button", hidden: true, onclick: () => load(cursor) }, "More");
  const empty = el("p", { class: "empty", hidden: true }, "Nothing was found.");
  const outcome = el("div", {});
  view.replaceChildren(el("h2", {}, "Analysed before"), filters, el("div", { class: "scroll" }, table), empty, more, outcome);
  let [cursor, waiting, asked] = [null, null, 0];
  const deleted = new Set(); // a list that was asked for before may come after
  filters.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(load, PAUSE_MS); });

  async function load(after = null) {
    const number = ++asked;
    try {
      const page = await get("/audio/analyses", { ...Object.fromEntries(new FormData(filters)), cursor: after, limit: 25 });
      if (number !== asked) return; // a later question was asked meanwhile
      outcome.replaceChildren();
      if (after === null) rows.replaceChildren();
      rows.append(...page.items.filter((item) => !deleted.has(item.id)).map(row));
      cursor = page.next_cursor;
      more.hidden = cursor === null;
      empty.hidden = rows.children.length > 0;
    } catch (error) {
      if (number === asked) outcome.replaceChildren(problem(error));
    }
  }

  function row(item) {
    return el("tr", { "data-id": item.id },
      el("td", {}, el("a", { href: `#/analyses/${item.id}` }, date(item.created_at))),
      el("td", {}, clock(item.duration)),
      el("td", {}, String(item.speakers)),
      el("td", {}, item.emotions.slice(0, 2).join(", ")),
      el("td", { class: "words" }, item.transcription || "–"),
      el("td", {}, el("button", { type: "button", "aria-label": `Delete the analysis of ${date(item.created_at)}`, onclick: remove }, "Delete")));

    async function remove() {
      if (!window.confirm("Delete this analysis for good?")) return;
      try {
        await call(`/audio/analyses/${item.id}`, { method: "DELETE" });
        deleted.add(item.id);
        rows.querySelector(`[data-id="${item.id}"]`)?.remove();
      } catch (error) {
        outcome.replaceChildren(problem(error));
      }
    }
  }

  load();
}
