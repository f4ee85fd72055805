// Which page is shown, the key, and the service's state in the corner.

import { get, onKeyNeeded, useKey } from "./api.js";
import { analyse, analysis } from "./views/analyse.js";
import { history } from "./views/history.js";
import { jobs } from "./views/jobs.js";
import { live } from "./views/live.js";
import { models } from "./views/models.js";
import { speakers } from "./views/speakers.js";

const PAGES = { analyse, analyses: analysis, live, history, jobs, models, speakers };
const LOOK_MS = 10_000;

const view = document.querySelector("#view");
let leave = null;

function show() {
  const [, name, id] = location.hash.split("/");
  leave?.();
  const page = PAGES[name] ?? analyse;
  const left = page(view, id && decodeURIComponent(id));
  leave = typeof left === "function" ? left : null;
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.hash === `#/${name || "analyse"}` || (name === "analyses" && link.hash === "#/history");
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

const dialog = document.querySelector("#key-dialog");
let asking = null;

function askForKey() {
  asking ??= new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "save";
      if (given) useKey(dialog.querySelector("input").value.trim());
      asking = null;
      resolve(given);
    }, { once: true });
  });
  return asking;
}

async function look() {
  const badge = document.querySelector("#health");
  const answer = await fetch("/health/ready").catch(() => null);
  badge.className = answer?.ok ? "good" : "bad";
  badge.textContent = answer?.ok ? "ready" : answer ? "models are away" : "unreachable";
}

onKeyNeeded(askForKey);
document.querySelector("#key").addEventListener("click", async () => { if (await askForKey()) show(); });
window.addEventListener("hashchange", show);
show();
look();
setInterval(look, LOOK_MS);
get("/health").then((health) => {
  const bundled = Object.values(health.models).some((model) => model.bundled);
  document.querySelector("#note").textContent = `version ${health.version}${bundled ? ", bundled demonstration checkpoints: English digits only" : ""}`;
}).catch(() => {});
