// The microphone as blocks of 16-bit samples at the rate that was asked for; none comes after stop().

export async function listen(rateHz, onBlock) {
  if (!navigator.mediaDevices) {
    throw Object.assign(new Error("A browser gives pages the microphone only over HTTPS or on localhost."), { kind: "Microphone" });
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
  } catch (error) {
    const message = error.name === "NotFoundError" ? "No microphone was found." : "The microphone may not be used.";
    throw Object.assign(new Error(message), { kind: error.name });
  }
  const context = new AudioContext({ sampleRate: rateHz });
  await context.audioWorklet.addModule("/static/js/capture-worklet.js");
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  capture.port.onmessage = ({ data }) => onBlock(data.samples, data.loudness);
  context.createMediaStreamSource(stream).connect(capture);
  let stopped = false;
  return {
    stop() {
      if (stopped) return;
      stopped = true;
      capture.port.onmessage = null; // a block may be under way from the audio thread
      stream.getTracks().forEach((track) => track.stop());
      context.close();
    },
  };
}
