// From a recording to what a waveform's drawing needs.

const RATE_HZ = 8000; // enough to see, and an hour then takes 115 MB

// Loudest sample of each of `count` stretches, 0 to 1; null where the browser can't decode the file.
export async function peaksOf(blob, count = 1600) {
  if (blob.size > 64 * 2 ** 20) return null; // would be held whole, decoded, several times
  try {
    const context = new OfflineAudioContext(1, 1, RATE_HZ);
    const decoded = await context.decodeAudioData(await blob.arrayBuffer());
    return peaks(decoded.getChannelData(0), count);
  } catch {
    return null;
  }
}

export function peaks(samples, count) {
  const found = new Float32Array(Math.min(count, samples.length));
  const step = samples.length / found.length;
  for (let i = 0; i < found.length; i += 1) {
    const end = Math.floor((i + 1) * step);
    let loudest = 0;
    for (let j = Math.floor(i * step); j < end; j += 1) loudest = Math.max(loudest, Math.abs(samples[j]));
    found[i] = loudest;
  }
  return found;
}

// 16-bit mono WAV of blocks of samples (Int16Array).
export function wav(blocks, rateHz) {
  const size = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (offset, word) => [...word].forEach((c, i) => header.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rateHz, true);
  header.setUint32(28, rateHz * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, size, true);
  return new Blob([header, ...blocks], { type: "audio/wav" });
}
