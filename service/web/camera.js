/** Records a few seconds from the camera. */

import { byId } from "./dom.js";

const SECONDS = 5;
const TYPES = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
const REASONS = {
  NotAllowedError: "The browser denied access to the camera. Allow it for this page and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

/** Why this page cannot record, or null if it can. */
export function cannotRecord() {
  if (!globalThis.isSecureContext) return "Recording needs HTTPS, or this page opened as localhost.";
  return navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder ? null : "This browser cannot record.";
}

/** Let the user record; resolves with a clip, or with null if it was closed. */
export async function record() {
  const dialog = byId("camera");
  const over = new AbortController();
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(null), { once: true, signal: over.signal });
    byId("camera-close").addEventListener("click", () => dialog.close(), { signal: over.signal });
  });
  let stream = null;
  say("Waiting for the camera…");
  byId("camera-go").disabled = true;
  dialog.showModal();
  const clip = open().then((opened) => {
    stream = opened;
    return over.signal.aborted ? null : recorded(stream, over.signal); // closed while the browser was asking
  });
  try {
    return await Promise.race([closed, clip.catch((error) => (over.signal.aborted ? null : complain(error, closed)))]);
  } finally {
    over.abort();
    clip.catch(() => null).then(() => stop(stream));
    stop(stream);
    if (dialog.open) dialog.close();
  }
}

function open() {
  return navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "environment" },
    audio: false,
  });
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  const viewfinder = byId("viewfinder");
  if (viewfinder.srcObject === stream) viewfinder.srcObject = null; // else it shows another recording's
}

function say(words) {
  byId("camera-words").textContent = words;
}

function complain(error, closed) {
  say(REASONS[error.name] ?? "The camera cannot be used.");
  byId("viewfinder").srcObject = null;
  return closed;
}

async function recorded(stream, signal) {
  const viewfinder = byId("viewfinder");
  viewfinder.srcObject = stream;
  await viewfinder.play();
  say("Ready.");
  const go = byId("camera-go");
  go.disabled = false;
  go.focus();
  await new Promise((resolve) => go.addEventListener("click", resolve, { once: true, signal }));
  go.disabled = true;
  return take(stream);
}

/** Record for as long as it takes, counting down. */
function take(stream) {
  const type = TYPES.find((name) => MediaRecorder.isTypeSupported(name));
  const recorder = new MediaRecorder(stream, { mimeType: type });
  const parts = [];
  let left = SECONDS;
  say(`Recording: ${left} s left`);
  const tick = setInterval(() => {
    left -= 1;
    say(`Recording: ${left} s left`);
    if (left <= 0) recorder.stop();
  }, 1000);
  return new Promise((resolve, reject) => {
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      clearInterval(tick);
      resolve(new Blob(parts, { type: recorder.mimeType }));
    };
    recorder.onerror = () => {
      clearInterval(tick);
      reject(new Error("recording failed"));
    };
    recorder.start();
  });
}
