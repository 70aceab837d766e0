/** The service, as the page speaks to it: what it serves, and one clip at a time classified while we watch. */

/** A request that got no answer; `problem` is the service's own account of it (RFC 9457). */
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

/** Keep the key for as long as this tab lives. */
export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Whether a key was given. */
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

/** What is being served: the bundle's manifest. */
export function model() {
  return getJson("model");
}

/** Whether the service has loaded its model. */
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
  throw new Refused({ title: "The sample cannot be fetched", detail: `The service answered with status ${status}.`, code: "no_sample" });
}

/**
 * Classify a clip and watch. One request does it: XMLHttpRequest alone reports both how far an upload is and what
 * of the answer has arrived.
 *
 * @param {Blob} clip - the video
 * @param {object} ask - query parameters
 * @param {object} watch - `sent(share)`, `step(event)`, and `signal` to cancel
 * @returns the event `result`
 */
export async function classify(clip, ask, { sent, step, signal }) {
  if (!(await readable(clip))) throw new Refused(UNREADABLE);
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let result = null;
    const events = new Events((name, data) => {
      if (name === "step") step(data);
      if (name === "result") result = data;
      if (name === "problem") reject(new Refused(data));
    });
    request.open("POST", `classify?${new URLSearchParams({ ...ask, stream: "true", frames: "true" })}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => sent(event.total ? event.loaded / event.total : 0);
    request.upload.onload = () => sent(1);
    request.onprogress = () => request.status === 200 && events.feed(request.responseText);
    request.onload = () => {
      if (request.status !== 200) return reject(new Refused(problemOf(request)));
      events.feed(request.responseText);
      return result ? resolve(result) : reject(new Refused({ ...UNREACHABLE, title: "The answer broke off" }));
    };
    request.onerror = () => reject(new Refused(UNREACHABLE));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(clip);
  });
}

/** Whether the clip is there: sending a folder, or a file that has gone, would look like a failed connection. */
function readable(clip) {
  return clip.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

function problemOf(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return { ...UNREACHABLE, title: `Status ${request.status}`, detail: "The answer was not one of this service." };
  }
}

/** Server-sent events out of a text that grows. */
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
