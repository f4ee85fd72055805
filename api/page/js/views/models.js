// For operators: which versions there are, which serves, and rolling out another one.

import { call, get } from "../api.js";
import { date, el } from "../dom.js";
import { problem } from "../problem.js";

const LOOK_MS = 2000;
const STRATEGIES = [["canary", "Canary: a growing share of traffic"], ["shadow", "Shadow: copies only"], ["blue_green", "At once"]];

export function models(view) {
  const list = el("div", {});
  const outcome = el("div", {});
  view.replaceChildren(el("h2", {}, "Models"), outcome, list);
  let [stopped, shown] = [false, ""];

  async function act(path, options) {
    outcome.replaceChildren();
    try {
      await call(path, options);
      await load();
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
  }

  async function load() {
    const { items } = await get("/models");
    const details = await Promise.all(items.map(async (model) => {
      const past = model.rollout ? [] : (await get(`/models/${model.name}/rollouts`)).items;
      const one = model.rollout ?? past[0];
      return one ? get(`/models/${model.name}/rollouts/${one.id}`) : null;
    }));
    const state = JSON.stringify([items, details]);
    if (state === shown || list.contains(document.activeElement) && document.activeElement.tagName === "SELECT") return;
    shown = state;
    list.replaceChildren(...items.map((model, index) => card(model, details[index], act)));
  }

  (async () => {
    while (!stopped) {
      try {
        await load();
      } catch (error) {
        outcome.replaceChildren(problem(error));
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  })();
  return () => { stopped = true; };
}

function card(model, rollout, act) {
  return el("section", { class: "model", "aria-label": model.name },
    el("h3", {}, model.name, " ", el("small", {}, `version ${model.version} of ${model.checkpoint}, since ${date(model.since)}`)),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Version", "Checkpoint", "State", "Traffic", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, model.versions.map((version) => row(model, version, act))))),
    rollout && trial(model, rollout, act));
}

function row(model, version, act) {
  const canStart = version.state === "available" && !model.rollout;
  const strategy = canStart && el("select", { "aria-label": `How to roll out version ${version.version} of ${model.name}` },
    STRATEGIES.map(([value, label]) => el("option", { value }, label)));
  return el("tr", {},
    el("td", {}, version.version), el("td", {}, version.checkpoint ?? "–"),
    el("td", { title: version.reason ?? "" }, version.state.replace("_", " ")),
    el("td", {}, `${version.traffic}%`),
    el("td", {}, canStart ? [strategy, " ", el("button", { type: "button", onclick: () =>
      act(`/models/${model.name}/rollouts`, { method: "POST", json: { version: version.version, strategy: strategy.value } }),
    }, "Roll out")] : []));
}

function trial(model, rollout, act) {
  const path = `/models/${model.name}/rollouts/${rollout.id}`;
  const isActive = ["preparing", "running", "paused"].includes(rollout.status);
  const does = (label, to, options) => el("button", { type: "button", onclick: () => act(to, options) }, label);
  const { revision } = rollout;
  return el("div", { class: "trial" },
    el("p", {}, el("strong", {}, `${rollout.strategy.replace("_", "-")} of version ${rollout.version}: ${rollout.status.replace("_", " ")}`),
      rollout.reason ? ` – ${rollout.reason}` : ""),
    isActive ? el("progress", { max: 100, value: rollout.weight, "aria-label": "Share of traffic" }) : null,
    rollout.figures ? figures(rollout) : null,
    isActive ? el("p", { class: "downloads" },
      rollout.status === "running" ? does("Pause", path, { method: "PATCH", json: { status: "paused", revision } }) : null,
      rollout.status === "paused" ? does("Go on", path, { method: "PATCH", json: { status: "running", revision } }) : null,
      does("Promote", `${path}/promote`, { method: "POST", json: { revision } }),
      does("Roll back", `${path}/rollback`, { method: "POST", json: { revision } })) : null,
    rollout.status === "promoted" ? el("p", {}, does("Roll back", `${path}/rollback`, { method: "POST", json: { revision } })) : null,
    el("details", {}, el("summary", {}, "History"), el("ol", {}, rollout.history.map((event) =>
      el("li", {}, `${date(event.at)} ${event.kind.replaceAll("_", " ")}`,
        Object.keys(event.detail).length ? `: ${Object.values(event.detail).join(", ")}` : "")))));
}

function figures({ figures: { stable, candidate, agreement, compared }, weight }) {
  const line = (name, side) => `${name}: ${side.answered} answered, ${side.failed} failed`
    + (side.p95_s === null ? "" : `, p95 ${side.p95_s.toFixed(2)} s`);
  return el("p", { class: "small" }, [`${weight}% of traffic`, line("stable", stable), line("on trial", candidate),
    ...(agreement === null ? [] : [`agreement ${(100 * agreement).toFixed(1)}% over ${compared}`])].join(" · "));
}
