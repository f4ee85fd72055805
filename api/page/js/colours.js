// A speaker keeps a colour; so does an emotion, in every recording.

const EMOTIONS = {
  angry: "#d64545", anger: "#d64545", happy: "#d99a00", joy: "#d99a00", sad: "#3f7fd6", sadness: "#3f7fd6",
  neutral: "#7d8590", fearful: "#8e5bd0", fear: "#8e5bd0", disgust: "#3f9b57", bored: "#a0703c",
  surprised: "#d0589f", calm: "#3aa6a0", uncertain: "#b3b9c2",
};

export function speakerColour(index) {
  return `var(--speaker-${index % 8})`;
}

export function emotionColour(label) {
  if (EMOTIONS[label]) return EMOTIONS[label];
  const hue = [...label].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 360, 7);
  return `hsl(${hue} 45% 52%)`;
}
