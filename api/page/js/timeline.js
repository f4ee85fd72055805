// Waveform, one lane a speaker, emotion curves: one time axis, one playhead, click or arrow keys to seek.

import { clock, el, svg } from "./dom.js";
import { emotionColour, speakerColour } from "./colours.js";

const STEP_S = 5;

export function timeline(analysis, peaks, names, onSeek) {
  const { duration } = analysis;
  const place = (time) => `${(100 * time) / duration}%`;
  const head = el("div", { class: "playhead", "aria-hidden": "true" });
  const wave = el("canvas", { class: "wave", "aria-hidden": "true" });
  const lanes = analysis.speakers.map((speaker, index) => lane(analysis, speaker.id, index, names, place));
  const stack = el(
    "div",
    {
      class: "tracks", tabIndex: 0, role: "slider", "aria-label": "Position in the recording",
      "aria-valuemin": 0, "aria-valuemax": Math.round(duration),
      onclick: (event) => {
        const box = stack.getBoundingClientRect();
        onSeek((duration * (event.clientX - box.left)) / box.width);
      },
      onkeydown: (event) => {
        const moves = { ArrowRight: STEP_S, ArrowLeft: -STEP_S, PageUp: 30, PageDown: -30, Home: -Infinity, End: Infinity };
        if (!(event.key in moves)) return;
        event.preventDefault();
        onSeek(Math.min(duration, Math.max(0, now + moves[event.key])));
      },
    },
    wave, lanes.map((one) => one.element), curves(analysis), head,
  );
  let now = 0;
  const draw = () => drawWave(wave, peaks, duration, now);
  new ResizeObserver(draw).observe(wave);

  return {
    element: el("section", { class: "timeline", "aria-label": "Timeline" }, stack, ruler(duration), legend(analysis)),
    move(time) {
      now = time;
      head.style.left = place(time);
      stack.setAttribute("aria-valuenow", Math.round(time));
      stack.setAttribute("aria-valuetext", clock(time));
      draw();
    },
    rename: () => lanes.forEach((one) => one.rename()),
  };
}

function lane(analysis, speaker, index, names, place) {
  const label = el("span", { class: "lane-name" });
  const turns = analysis.turns.filter((turn) => turn.speaker === speaker);
  const element = el(
    "div", { class: "lane", style: { "--colour": speakerColour(index) } },
    turns.map((turn) => el("i", {
      title: `${clock(turn.start)}–${clock(turn.end)}`,
      style: { left: place(turn.start), width: place(turn.end - turn.start) },
    })),
    label,
  );
  const rename = () => { label.textContent = names.of(speaker); };
  rename();
  return { element, rename };
}

function curves(analysis) {
  const all = (analysis.emotion_curves ?? []).filter((curve) => curve.times.length > 1);
  if (!all.length) return null;
  const picture = svg("svg", { class: "curves", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const curve of all) {
    for (const [label, values] of Object.entries(curve.scores)) {
      if (label === "neutral" || Math.max(...values) < 0.3) continue; // the rest is what stands out
      const points = curve.times.map((time, i) => `${(1000 * time) / analysis.duration},${100 - 96 * values[i]}`);
      picture.append(svg("polyline", { points: points.join(" "), stroke: emotionColour(label), fill: "none" }));
    }
  }
  return picture;
}

function legend(analysis) {
  const heard = new Set(analysis.segments.map((segment) => segment.emotion?.label).filter(Boolean));
  return el("p", { class: "legend" }, [...heard].map((label) =>
    el("span", { class: "emotion", style: { "--colour": emotionColour(label) } }, label)));
}

function ruler(duration) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
  const step = steps.find((s) => duration / s <= 10) ?? 3600;
  const marks = Array.from({ length: Math.floor(duration / step) + 1 }, (_, i) => i * step);
  return el("div", { class: "ruler", "aria-hidden": "true" }, marks.map((time) =>
    el("span", { style: { left: `${(100 * time) / duration}%` } }, clock(time))));
}

function drawWave(canvas, peaks, duration, now) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  if (!width) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const colours = getComputedStyle(canvas);
  const [played, rest] = [colours.getPropertyValue("--accent"), colours.getPropertyValue("--wave")];
  const loudest = peaks ? Math.max(0.05, ...peaks) : 1;
  const bar = 3 * ratio;
  for (let x = 0; x < width; x += bar) {
    const value = peaks ? peaks[Math.floor((x / width) * peaks.length)] / loudest : 0.02;
    const tall = Math.max(ratio, value * height * 0.92);
    pen.fillStyle = (x / width) * duration <= now ? played : rest;
    pen.fillRect(x, (height - tall) / 2, bar - ratio, tall);
  }
}
