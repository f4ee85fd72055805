// Every word with the server: the key, the one error shape, progress, events.

let key = sessionStorage.getItem("key") ?? "";
let askForKey = async () => false;

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? `The server answered ${status}`);
    this.status = status;
    this.kind = body.error ?? "Error";
    this.details = body.details ?? {};
    this.requestId = body.request_id ?? null;
  }
}

export function useKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

export function onKeyNeeded(ask) {
  askForKey = ask;
}

function headers(extra = {}) {
  return key ? { ...extra, "X-API-Key": key } : extra;
}

export async function call(path, { method = "GET", body, json, headers: extra } = {}) {
  const options = { method, headers: headers(extra), body };
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ApiError(0, { error: "Unreachable", message: "The server can't be reached." });
  }
  if (answer.status === 401 && (await askForKey())) {
    return call(path, { method, body, json, headers: extra });
  }
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(
    Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "" && value !== null),
  );
  const answer = await call(query.size ? `${path}?${query}` : path);
  return answer.json();
}

// fetch tells nothing of an upload's progress; XMLHttpRequest does.
export function upload(path, form, onProgress, { signal, headers: extra } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    Object.entries(headers(extra)).forEach(([name, value]) => request.setRequestHeader(name, value));
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new ApiError(0, { error: "Unreachable", message: "The server can't be reached." }));
    request.onabort = () => reject(new DOMException("Cancelled", "AbortError"));
    request.onload = async () => {
      if (request.status < 300) return resolve(request.response);
      if (request.status === 401 && (await askForKey())) {
        return upload(path, form, onProgress, { signal, headers: extra }).then(resolve, reject);
      }
      return reject(new ApiError(request.status, request.response ?? {}));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

// Server-sent events over fetch, since EventSource can't carry a key.
export async function* events(path, signal) {
  const answer = await fetch(path, { headers: headers({ Accept: "text/event-stream" }), signal });
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const blocks = pending.split("\n\n");
    pending = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5).trimStart()).join("\n"));
    }
  }
}

export function socket(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url, key ? ["voice-analytics", `api-key.${key}`] : ["voice-analytics"]);
}
