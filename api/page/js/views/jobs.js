// Long recordings: sent once, worked on in the background, watched from here.

import { call, events, get, upload } from "../api.js";
import { date, el, percent } from "../dom.js";
import { busy, problem } from "../problem.js";

const OVER = new Set(["succeeded", "failed", "cancelled"]);

export function submitJob(form, onProgress) {
  return upload("/audio/jobs", form, onProgress, { headers: { "Idempotency-Key": crypto.randomUUID() } });
}

export function jobs(view, id) {
  if (id) return job(view, id);
  const outcome = el("div", {});
  const list = el("tbody", {});
  view.replaceChildren(
    el("h2", {}, "Jobs"),
    el("form", { class: "options", onsubmit: submit },
      el("input", { type: "file", name: "file", required: true, "aria-label": "A long recording", accept: "audio/*,video/webm,video/mp4" }),
      el("button", { class: "primary" }, "Analyse in the background")),
    outcome,
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Since", "State", "Progress", "Stage"].map((name) => el("th", { scope: "col" }, name)))), list)),
  );
  let stopped = false;

  async function submit(event) {
    event.preventDefault();
    const progress = busy("Sending");
    outcome.replaceChildren(progress.element);
    try {
      const made = await submitJob(new FormData(event.target), (share) => progress.at(share));
      location.hash = `#/jobs/${made.id}`;
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
  }

  async function load() {
    if (stopped) return;
    try {
      const page = await get("/audio/jobs", { limit: 50 });
      list.replaceChildren(...page.items.map((item) => el("tr", {},
        el("td", {}, el("a", { href: `#/jobs/${item.id}` }, date(item.created_at))),
        el("td", {}, item.status), el("td", {}, percent(item.progress)), el("td", {}, item.stage ?? ""))));
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
    setTimeout(load, 3000);
  }
  load();
  return () => { stopped = true; };
}

function job(view, id) {
  const path = `/audio/jobs/${encodeURIComponent(id)}`;
  const progress = busy("Waiting");
  const cancel = el("button", { type: "button", onclick: () => call(path, { method: "DELETE" }).catch(show) }, "Cancel the job");
  const outcome = el("div", {});
  const stop = new AbortController();
  view.replaceChildren(el("h2", {}, "Job"), progress.element, cancel, outcome);

  function show(problemOrState) {
    if (problemOrState instanceof Error) return outcome.replaceChildren(problem(problemOrState));
    const { status, progress: share, stage, analysis_id: analysis, error } = problemOrState;
    progress.at(share, `${status}${stage && !OVER.has(status) ? `: ${stage}` : ""}`);
    if (!OVER.has(status)) return undefined;
    cancel.remove();
    if (analysis) location.replace(`#/analyses/${analysis}`);
    else if (error) outcome.replaceChildren(problem({ ...error, kind: error.error }));
    return undefined;
  }

  (async () => {
    while (!stop.signal.aborted) {
      try {
        const state = await get(path);
        show(state);
        if (OVER.has(state.status)) return;
        for await (const event of events(`${path}/events`, stop.signal)) show(event);
      } catch (error) {
        if (error.name === "AbortError") return;
        show(error);
        if (error.status === 404) return;
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  })();
  return () => stop.abort();
}
