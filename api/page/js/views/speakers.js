// Voices that are known by name: enrol, rename, forget.

import { call, get, upload } from "../api.js";
import { date, el } from "../dom.js";
import { busy, problem } from "../problem.js";

export function speakers(view) {
  const rows = el("tbody", {});
  const outcome = el("div", {});
  const empty = el("p", { class: "empty", hidden: true }, "No voice is known yet.");
  view.replaceChildren(
    el("h2", {}, "Voices known by name"),
    el("p", { class: "facts" }, "A few seconds in which nobody else speaks are enough. The recording isn't kept."),
    el("form", { class: "options", onsubmit: enrol },
      el("label", {}, "Name ", el("input", { name: "name", required: true, maxLength: 100 })),
      el("input", { type: "file", name: "file", required: true, multiple: true, "aria-label": "Recordings of the voice", accept: "audio/*" }),
      el("button", { class: "primary" }, "Enrol")),
    outcome,
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Name", "Since", "Speech", ""].map((name) => el("th", { scope: "col" }, name)))), rows)),
    empty,
  );

  async function enrol(event) {
    event.preventDefault();
    const progress = busy("Listening to the voice");
    outcome.replaceChildren(progress.element);
    try {
      await upload("/speakers", new FormData(event.target), (share) => progress.at(share));
      event.target.reset();
      outcome.replaceChildren();
      await load();
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
  }

  async function load() {
    try {
      const { items } = await get("/speakers", { limit: 100 });
      rows.replaceChildren(...items.map(row));
      empty.hidden = items.length > 0;
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
  }

  async function change(path, options) {
    try {
      await call(path, options);
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
    await load();
  }

  function row(profile) {
    const path = `/speakers/${profile.id}`;
    const seconds = profile.takes.reduce((sum, take) => sum + take.speech, 0);
    return el("tr", {},
      el("td", {}, el("input", { value: profile.name, "aria-label": `Name of ${profile.name}`,
        onchange: (event) => change(path, { method: "PATCH", json: { name: event.target.value } }) })),
      el("td", {}, date(profile.created_at)),
      el("td", {}, `${seconds.toFixed(1)} s`, profile.usable ? "" : ", heard by another model: enrol again"),
      el("td", {}, el("button", { type: "button", "aria-label": `Forget ${profile.name}`,
        onclick: () => window.confirm(`Forget the voice of ${profile.name}?`) && change(path, { method: "DELETE" }) }, "Forget")));
  }

  load();
}
