// Drop a file, see what is in it. What is too long for an answer at once becomes a job.

import { get, upload } from "../api.js";
import { el } from "../dom.js";
import { busy, problem } from "../problem.js";
import { showAnalysis } from "../result.js";
import { submitJob } from "./jobs.js";

const OPTIONS = [
  ["language", "Language", { placeholder: "detected", size: 6, pattern: "[a-z]{2,3}" }],
  ["num_speakers", "Speakers", { placeholder: "any", type: "number", min: 1, max: 50 }],
];

export function analyse(view) {
  const input = el("input", { type: "file", accept: "audio/*,video/webm,video/mp4", class: "hidden", id: "file",
    onchange: () => {
      const [file] = input.files;
      input.value = ""; // so that the same file can be chosen again
      if (file) start(file);
    } });
  const fields = OPTIONS.map(([name, label, more]) => el("label", {}, `${label} `, el("input", { name, ...more })));
  const zone = el("label", { class: "drop", htmlFor: "file", tabIndex: 0,
    onkeydown: (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), input.click()),
    ondragover: (event) => { event.preventDefault(); zone.classList.add("over"); },
    ondragleave: () => zone.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      if (event.dataTransfer.files[0]) start(event.dataTransfer.files[0]);
    } },
    el("strong", {}, "Drop a recording here"), el("span", {}, "or choose one: WAV, MP3, FLAC, OGG, M4A, WebM"));
  const outcome = el("div", {});
  view.replaceChildren(
    el("h2", {}, "Who spoke when, what they said, and how they sounded"),
    input, zone, el("form", { class: "options", onsubmit: (event) => event.preventDefault() }, fields), outcome,
  );
  let running = null;

  async function start(file) {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    const form = new FormData();
    form.append("file", file, file.name);
    for (const field of view.querySelectorAll(".options input")) {
      if (field.value) form.append(field.name, field.value);
    }
    const progress = busy(`Sending ${file.name}`);
    outcome.replaceChildren(progress.element,
      el("button", { type: "button", onclick: () => { running.abort(); outcome.replaceChildren(); } }, "Cancel"));
    const onProgress = (share) => (share < 1 ? progress.at(share) : progress.at(null, "Listening …"));
    try {
      const analysis = await upload("/audio/analyze", form, onProgress, { signal });
      if (!signal.aborted) await showAnalysis(outcome, analysis, file);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 413 && !("size_bytes" in error.details)) outcome.replaceChildren(problem(error), asJob(file, form));
      else outcome.replaceChildren(problem(error));
    }
  }

  function asJob(file, form) {
    return el("button", { class: "primary", type: "button", onclick: async () => {
      const progress = busy(`Sending ${file.name}`);
      outcome.replaceChildren(progress.element);
      try {
        const job = await submitJob(form, (share) => progress.at(share));
        location.hash = `#/jobs/${job.id}`;
      } catch (error) {
        outcome.replaceChildren(problem(error));
      }
    } }, "Analyse it as a job instead");
  }
}

export async function analysis(view, id) {
  view.replaceChildren(busy("Loading").element);
  try {
    await showAnalysis(view, await get(`/audio/analyses/${encodeURIComponent(id)}`));
  } catch (error) {
    view.replaceChildren(problem(error));
  }
}
