/** Calls the service: its model, its samples, and the classification of one clip at a time. */

/** A request that failed; `problem` is the problem document of the service (RFC 9457). */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

const KEY = "adafocus-key";
const UNREACHABLE = {
  title: "The service does not answer",
  detail: "The connection failed. Is the service still running?",
  code: "unreachable",
};

/** Keep the key until this tab is closed. */
export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Whether a key has been entered. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

const UNREADABLE = {
  title: "The file cannot be read",
  detail: "It is a folder, or was moved, changed or deleted since it was chosen. Choose it again.",
  code: "unreadable_file",
};

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function getJson(path) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), cache: "no-store" });
  } catch {
    throw new Refused(UNREACHABLE);
  }
  const document = await response.json().catch(() => ({ ...UNREACHABLE, title: `Status ${response.status}` }));
  if (!response.ok) throw new Refused({ status: response.status, ...document });
  return document;
}

let chosen = null;

/** The models of the service, and the name of its default one. */
export function models() {
  return getJson("models");
}

/** The manifest of a model, on which clips are classified from now on; of the default one if no name is given. */
export function model(name) {
  chosen = name;
  return getJson(`model${name ? `?${new URLSearchParams({ model: name })}` : ""}`);
}

/** Whether the service is ready. */
export async function ready() {
  try {
    await getJson("readyz");
    return true;
  } catch {
    return false;
  }
}

/** The sample clips that the service offers. */
export function samples() {
  return getJson("samples");
}

/** A sample clip as a blob. */
export async function sample(url) {
  let status;
  try {
    const response = await fetch(url);
    if (response.ok) return await response.blob();
    status = response.status;
  } catch {
    throw new Refused(UNREACHABLE);
  }
  throw new Refused({ title: "The sample cannot be loaded", detail: `The service returned status ${status}.`, code: "no_sample" });
}

/**
 * Classify a clip and report each step. XMLHttpRequest is used because only it reports both the progress of the
 * upload and the part of the response that has arrived.
 *
 * @param {Blob} clip - the video
 * @param {object} ask - query parameters
 * @param {object} watch - `sent(share)`, `step(event)` or `segment(event)`, and `signal` to cancel
 * @returns the event `result`
 */
export async function classify(clip, ask, { sent, step, segment, signal }) {
  if (!(await readable(clip))) throw new Refused(UNREADABLE);
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let result = null;
    const events = new Events((name, data) => {
      if (name === "step") step(data);
      if (name === "segment") segment(data);
      if (name === "result") result = data;
      if (name === "problem") reject(new Refused(data));
    });
    const named = chosen ? { model: chosen } : {};
    request.open("POST", `classify?${new URLSearchParams({ ...named, ...ask, stream: "true", frames: "true" })}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => sent(event.total ? event.loaded / event.total : 0);
    request.upload.onload = () => sent(1);
    request.onprogress = () => request.status === 200 && events.feed(request.responseText);
    request.onload = () => {
      if (request.status !== 200) return reject(new Refused(problemOf(request)));
      events.feed(request.responseText);
      return result ? resolve(result) : reject(new Refused({ ...UNREACHABLE, title: "The response is incomplete" }));
    };
    request.onerror = () => reject(new Refused(UNREACHABLE));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(clip);
  });
}

/** Whether the clip can be read. Sending a folder, or a file that was deleted, would look like a failed connection. */
function readable(clip) {
  return clip.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

function problemOf(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return { ...UNREACHABLE, title: `Status ${request.status}`, detail: "The response is not from this service." };
  }
}

/** Parses server-sent events from a text that grows. */
class Events {
  constructor(tell) {
    this.tell = tell;
    this.read = 0;
  }

  feed(text) {
    for (let end = text.indexOf("\n\n", this.read); end >= 0; end = text.indexOf("\n\n", this.read)) {
      const lines = text.slice(this.read, end).split("\n");
      this.read = end + 2;
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field("data");
      if (data) this.tell(field("event"), JSON.parse(data));
    }
  }
}
