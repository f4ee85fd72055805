// What went wrong, in words a person can act on.

import { el } from "./dom.js";

export function problem(error) {
  const details = Object.entries(error.details ?? {}).filter(([, value]) => typeof value !== "object");
  return el("section", { class: "problem", role: "alert" },
    el("h2", {}, error.message),
    details.length ? el("p", {}, details.map(([name, value]) => `${name}: ${value}`).join(" · ")) : null,
    el("p", { class: "small" }, [error.kind, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ")));
}

export function busy(text) {
  const bar = el("progress", { "aria-label": text });
  const label = el("span", {}, text);
  const element = el("section", { class: "busy", "aria-live": "polite" }, label, bar);
  return {
    element,
    at(share, words = text) {
      label.textContent = words;
      if (share === null) bar.removeAttribute("value");
      else bar.value = share;
    },
  };
}
