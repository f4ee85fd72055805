// Runs on the audio thread: 100 ms of samples at a time, as 16-bit integers.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(sampleRate / 10);
    this.filled = 0;
    this.power = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    for (const sample of samples) {
      this.block[this.filled] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      this.power += sample * sample;
      this.filled += 1;
      if (this.filled === this.block.length) this.send();
    }
    return true;
  }

  send() {
    this.port.postMessage({ samples: this.block, loudness: Math.sqrt(this.power / this.filled) });
    this.block = new Int16Array(this.block.length);
    this.filled = 0;
    this.power = 0;
  }
}

registerProcessor("capture", Capture);
