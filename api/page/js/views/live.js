// Speak, and watch the words come: partials while you speak, finals by speaker, at the end the whole analysis.

import { socket } from "../api.js";
import { clock, el } from "../dom.js";
import { emotionColour, speakerColour } from "../colours.js";
import { listen } from "../microphone.js";
import { problem } from "../problem.js";
import { showAnalysis } from "../result.js";
import { wav } from "../waveform.js";

const RATE_HZ = 16_000;
const RESUME_TRIES = 5;

export function live(view) {
  const button = el("button", { class: "primary record", type: "button", onclick: () => toggle() }, "Start listening");
  const level = el("meter", { min: 0, max: 1, "aria-label": "Loudness" });
  const state = el("span", { role: "status" });
  const finals = el("div", { class: "transcript", role: "log", "aria-label": "What was said" });
  const partial = el("p", { class: "partial", "aria-hidden": "true" });
  const outcome = el("div", {});
  view.replaceChildren(
    el("h2", {}, "Speak, and watch the words come"),
    el("p", { class: "record-row" }, button, level, state),
    finals, partial, outcome,
  );
  let session = null;

  async function toggle() {
    if (session) return session.end();
    outcome.replaceChildren();
    finals.replaceChildren();
    try {
      session = await open({ state, level, finals, partial, onOver: over });
      button.textContent = "Stop";
      button.classList.add("on");
    } catch (error) {
      over(error, null);
    }
    return undefined;
  }

  async function over(error, summary, recording) {
    session = null;
    button.textContent = "Start listening";
    button.classList.remove("on");
    state.textContent = "";
    partial.textContent = "";
    level.value = 0;
    if (error) outcome.replaceChildren(problem(error));
    else if (summary) {
      finals.replaceChildren();
      await showAnalysis(outcome, summary, recording);
    }
  }

  return () => session?.abandon();
}

async function open({ state, level, finals, partial, onOver }) {
  const blocks = []; // all of it: for playing it back, and for sending again after a lost connection
  let [sent, id, lastSeq, tries, ended, over] = [0, null, 0, 0, false, false];
  let line = null;
  const speakers = [];

  const microphone = await listen(RATE_HZ, (samples, loudness) => {
    blocks.push(samples);
    level.value = Math.min(1, loudness * 4);
    state.textContent = clock(blocks.reduce((sum, block) => sum + block.length, 0) / RATE_HZ);
    flush();
  });

  function flush() {
    if (line?.readyState !== WebSocket.OPEN || id === null || sent === null) return;
    let start = 0;
    for (const block of blocks) {
      const bytes = new Uint8Array(block.buffer);
      if (start + bytes.length > sent) {
        line.send(bytes.subarray(Math.max(0, sent - start)));
        sent = start + bytes.length;
      }
      start += bytes.length;
    }
    if (ended) line.send('{"type": "end"}');
  }

  function connect() {
    line = socket("/audio/stream");
    line.onopen = () => line.send(JSON.stringify(id === null
      ? { type: "config", encoding: "s16le", sample_rate: RATE_HZ }
      : { type: "resume", session_id: id, last_seq: lastSeq }));
    line.onmessage = (message) => heard(JSON.parse(message.data));
    line.onclose = (event) => {
      if (over) return;
      if (id === null || ++tries > RESUME_TRIES) {
        finish({ message: "The connection was lost.", kind: `WebSocket ${event.code}` });
      } else {
        state.textContent = "Connecting again …";
        sent = null;
        setTimeout(connect, 500 * tries);
      }
    };
  }

  function heard(event) {
    if (event.type === "ready") { id = event.session_id; flush(); }
    if (event.type === "resumed") { tries = 0; sent = event.received_bytes; flush(); }
    if (event.type === "partial") partial.textContent = event.text;
    if (event.type === "final") { lastSeq = event.seq; partial.textContent = ""; finals.append(utterance(event, speakers)); }
    if (event.type === "summary") finish(null, event);
    if (event.type === "error") finish({ ...event, kind: event.error, requestId: event.request_id });
  }

  function finish(error, summary = null) {
    over = true;
    microphone.stop();
    line?.close();
    onOver(error, summary, summary && wav(blocks, RATE_HZ));
  }

  connect();
  return {
    end() {
      microphone.stop();
      ended = true;
      state.textContent = "Listening to it as a whole …";
      flush();
    },
    abandon() { over = true; microphone.stop(); line?.close(); },
  };
}

function utterance(event, speakers) {
  if (event.speaker && !speakers.includes(event.speaker)) speakers.push(event.speaker);
  const number = speakers.indexOf(event.speaker);
  return el("article", { class: "passage", style: { "--colour": number < 0 ? "var(--muted)" : speakerColour(number) } },
    el("header", {},
      el("span", { class: "who" }, number < 0 ? "" : `Speaker ${number + 1}`),
      el("span", { class: "time" }, clock(event.start)),
      event.emotion && el("span", { class: "emotion", style: { "--colour": emotionColour(event.emotion.label) } }, event.emotion.label)),
    el("p", {}, event.text));
}
