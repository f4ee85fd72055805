// The conversation as text: turns by speaker, words that light up while they sound, click to go there.

import { clock, el, percent } from "./dom.js";
import { emotionColour, speakerColour } from "./colours.js";

export function transcript(analysis, names, onSeek) {
  const order = new Map(analysis.speakers.map((speaker, index) => [speaker.id, index]));
  const words = [];
  const labels = [];
  const blocks = passages(analysis.segments).map((passage) => {
    const speaker = passage[0].speaker;
    const label = el("span", { class: "who" });
    if (speaker) labels.push([label, speaker]);
    return el(
      "article", { class: "passage", style: { "--colour": speaker ? speakerColour(order.get(speaker)) : "var(--muted)" } },
      el("header", {},
        label,
        el("button", { class: "time", type: "button", "aria-label": `Play from ${clock(passage[0].start)}`,
          onclick: () => onSeek(passage[0].start, true) }, clock(passage[0].start)),
        moods(passage)),
      el("p", {}, passage.flatMap((segment) => spoken(segment, words, onSeek))),
    );
  });
  const rename = () => labels.forEach(([label, speaker]) => { label.textContent = names.of(speaker); });
  rename();
  let lit = null;
  return {
    element: el("section", { class: "transcript", "aria-label": "Transcript" },
      blocks.length ? blocks : el("p", { class: "empty" }, "Nobody says a word in this recording.")),
    move(time, isPlaying) {
      const found = at(words, time);
      if (found === lit) return;
      lit?.element.classList.remove("lit");
      found?.element.classList.add("lit");
      if (found && isPlaying) found.element.scrollIntoView({ block: "nearest" });
      lit = found;
    },
    rename,
  };
}

// Segments of one speaker in a row, until a pause, or for half a minute.
function passages(segments) {
  const found = [];
  for (const segment of segments.filter((one) => one.text.trim())) {
    const passage = found.at(-1);
    const goesOn = passage && passage[0].speaker === segment.speaker
      && segment.start - passage.at(-1).end < 2 && segment.end - passage[0].start < 30;
    if (goesOn) passage.push(segment);
    else found.push([segment]);
  }
  return found;
}

// How a passage sounds for most of its time, at most two ways.
function moods(passage) {
  const times = new Map();
  for (const { emotion, start, end } of passage) {
    if (emotion) times.set(emotion.label, (times.get(emotion.label) ?? 0) + end - start);
  }
  const total = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times].sort((a, b) => b[1] - a[1]).filter(([, time]) => time > total / 4).slice(0, 2).map(([label, time]) =>
    el("span", { class: "emotion", title: `${percent(time / total)} of the time`, style: { "--colour": emotionColour(label) } }, label));
}

function spoken(segment, words, onSeek) {
  const pieces = segment.words.length ? segment.words : [{ word: segment.text, ...segment, probability: 1 }];
  return pieces.map((piece) => {
    const doubtful = piece.probability < 0.5;
    const element = el("span", {
      class: doubtful ? "word doubtful" : "word",
      title: doubtful ? `heard with ${percent(piece.probability)} certainty` : undefined,
      onclick: () => onSeek(piece.start, true),
    }, piece.word.startsWith(" ") ? piece.word : ` ${piece.word}`);
    words.push({ start: piece.start, end: piece.end, element });
    return element;
  });
}

function at(words, time) {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  const found = words[low - 1];
  return found && time < found.end + 0.15 ? found : null;
}
