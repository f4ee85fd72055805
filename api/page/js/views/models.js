// What serves.

import { get } from "../api.js";
import { el } from "../dom.js";
import { problem } from "../problem.js";

export async function models(view) {
  view.replaceChildren(el("h2", {}, "Models"));
  try {
    const { models: served } = await get("/health");
    view.append(el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Model", "Version", "Checkpoint", "State"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, Object.entries(served).map(([name, model]) => el("tr", {},
        el("td", {}, name), el("td", {}, model.version), el("td", {}, model.checkpoint),
        el("td", {}, model.ready ? "answers" : "away")))))));
  } catch (error) {
    view.append(problem(error));
  }
}
