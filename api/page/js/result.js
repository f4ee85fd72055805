// One analysis with everything that is known of it; with sound where the recording is at hand.

import { call } from "./api.js";
import { clock, el, percent, save } from "./dom.js";
import { emotionColour, speakerColour } from "./colours.js";
import { problem } from "./problem.js";
import { timeline } from "./timeline.js";
import { transcript } from "./transcript.js";
import { peaksOf } from "./waveform.js";

const FORMATS = ["json", "txt", "srt", "vtt", "tsv", "rttm", "html"];

const FLAGS = {
  no_speech: "No speech was found.",
  speech_without_words: "Somebody speaks where no word was written.",
  words_outside_speech: "Words stand where nobody speaks.",
  low_confidence: "Some words are doubtful.",
  repetition: "The text repeats itself suspiciously.",
  clipping: "The recording is overdriven.",
  low_snr: "Speech hardly stands out of the noise.",
};

// `recording` is a Blob, or null for an analysis made earlier.
export async function showAnalysis(view, analysis, recording = null) {
  const names = speakerNames(analysis.id);
  const audio = recording && el("audio", { controls: true, src: URL.createObjectURL(recording) });
  const seek = (time, play = false) => {
    if (audio) {
      audio.currentTime = time;
      if (play) audio.play();
    }
    move(time);
  };
  const peaks = (recording && (await peaksOf(recording))) ?? analysis.waveform ?? null;
  const line = timeline(analysis, peaks, names, seek);
  const text = transcript(analysis, names, seek);
  const move = (time) => {
    line.move(time);
    text.move(time, audio && !audio.paused);
  };
  if (audio) follow(audio, move);
  view.replaceChildren(
    el("section", { class: "summary" },
      el("h2", {}, analysis.transcription ? headline(analysis) : "No words"),
      el("p", { class: "facts" }, facts(analysis)),
      flags(analysis.quality.flags),
      downloads(analysis.id)),
    ...[audio].filter(Boolean),
    line.element,
    el("div", { class: "columns" }, text.element, people(analysis, names, () => { line.rename(); text.rename(); })),
  );
  move(0);
  view.focus({ preventScroll: true });
}

function follow(audio, move) {
  const tick = () => {
    move(audio.currentTime);
    if (!audio.paused && audio.isConnected) requestAnimationFrame(tick);
  };
  audio.addEventListener("play", tick);
  audio.addEventListener("seeked", () => move(audio.currentTime));
}

function headline(analysis) {
  const count = analysis.speakers.length;
  const who = count === 0 ? "Speech" : count === 1 ? "One speaker" : `${count} speakers`;
  return `${who}, ${clock(analysis.duration)}`;
}

function facts(analysis) {
  const parts = [];
  if (analysis.language) parts.push(`language ${analysis.language}`);
  if (analysis.emotions.length) parts.push(`sounds ${analysis.emotions.slice(0, 3).join(", ")}`);
  const { interruptions, overlap } = analysis.conversation;
  if (interruptions) parts.push(`${interruptions} interruption${interruptions > 1 ? "s" : ""}`);
  if (overlap >= 0.1) parts.push(`${overlap.toFixed(1)} s at the same time`);
  if (Object.values(analysis.models).some((model) => model.bundled)) parts.push("demonstration checkpoints: digits only");
  return parts.join(" · ");
}

function flags(raised) {
  if (!raised.length) return null;
  return el("ul", { class: "flags", "aria-label": "To be careful about" },
    raised.map((flag) => el("li", {}, FLAGS[flag] ?? flag.replaceAll("_", " "))));
}

function downloads(id) {
  const load = async (format) => {
    const answer = await call(`/audio/analyses/${id}/export?format=${format}`);
    save(await answer.blob(), `${id}.${format}`);
  };
  return el("p", { class: "downloads" }, "Download ", FORMATS.map((format) =>
    el("button", { type: "button", onclick: () => load(format) }, format)));
}

function people(analysis, names, onRename) {
  const { talk_time: talk, words_per_minute: pace } = analysis.conversation;
  const total = Object.values(talk).reduce((sum, time) => sum + time, 0) || 1;
  const outcome = el("div", {});
  const rename = async (speaker, input) => {
    try {
      await names.set(speaker, input.value.trim());
      outcome.replaceChildren();
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
    input.value = names.of(speaker);
    onRename();
  };
  return el("aside", { class: "people", "aria-label": "Speakers" }, outcome, analysis.speakers.map((speaker, index) =>
    el("div", { class: "person", style: { "--colour": speakerColour(index) } },
      el("input", {
        value: names.of(speaker.id), "aria-label": `Name of ${speaker.id}`, spellcheck: false, maxLength: 100,
        onchange: (event) => rename(speaker.id, event.target),
      }),
      el("div", { class: "share", title: "share of the talking" },
        el("i", { style: { width: percent((talk[speaker.id] ?? 0) / total) } })),
      el("p", {}, `${percent((talk[speaker.id] ?? 0) / total)} of the talking, ${clock(talk[speaker.id] ?? 0)}`
        + (pace[speaker.id] ? `, ${Math.round(pace[speaker.id])} words a minute` : "")),
      el("p", { class: "moods" }, Object.entries(speaker.emotions).sort((a, b) => b[1] - a[1]).slice(0, 4).map(
        ([label, share]) => el("span", { class: "emotion", style: { "--colour": emotionColour(label) } },
          `${label} ${percent(share)}`))),
    )));
}

// What speakers are called now: the server keeps it, the analysis at hand has what they were called.
function speakerNames(id) {
  const now = {};
  const current = (speaker) => now[speaker] ?? speaker;
  const of = (speaker) => current(speaker).replace(/^SPEAKER_0*(\d+)$/, (_, n) => `Speaker ${Number(n) + 1}`);
  return {
    of,
    async set(speaker, name) {
      if (!name || name === of(speaker)) return;
      await call(`/audio/analyses/${id}`, { method: "PATCH", json: { speakers: { [current(speaker)]: name } } });
      now[speaker] = name;
    },
  };
}
