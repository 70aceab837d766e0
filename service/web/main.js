/** The page: one clip, one run of it for each operating point, and what is shown of the chosen one. */

import * as api from "./api.js";
import { showComparison } from "./compare.js";
import { Curve } from "./curve.js";
import { byId, el, show } from "./dom.js";
import { confidence, label, number, percent } from "./format.js";
import { wireInput } from "./input.js";
import { Line } from "./line.js";
import { Originals } from "./originals.js";
import { showAnswer, showCost, why } from "./result.js";
import { Stage } from "./stage.js";
import { TimeLine } from "./timeline.js";

const REPLAY_MS = 900;
const ASK_AGAIN_MS = 2000;
const PATIENCE_MS = 150;
const ABOUT_THE_CLIP = new Set([400, 413, 415, 422]);

const state = { model: null, points: [], point: null, clip: null, runs: new Map(), busy: false, chosen: 0, visible: 0 };
const KEYLESS = { title: "This service requires a key", detail: "Enter a key to classify videos.", code: "unauthorized" };
let parts = null;
let cancel = new AbortController();
let replaying = null;
let patience = null;
let askAgain = null;

start();

/** Fetch the manifest, then enable the controls. */
async function start() {
  try {
    const asked = new URLSearchParams(location.search).get("model");
    state.model = await api.model(asked);
    showModels(await api.models(), asked);
  } catch (error) {
    if (error.problem?.status === 401) return askForKey(start);
    complain(error.problem, start);
    byId("model").textContent = "not connected";
    return undefined;
  }
  complain(null);
  const cheapestLast = state.model.operating_points;
  state.points = [...cheapestLast].reverse().sort((one, other) => one.expected_gflops - other.expected_gflops);
  state.point = state.model.default_point;
  parts = { stage: new Stage(state.model), line: new Line(state.model, choose), curve: new Curve(state.model, choose) };
  parts.timeline = new TimeLine({ complain, point: () => state.point });
  showPoints();
  wireInput({ open, complain });
  return showReadiness();
}

/** Ask for an API key, with a message if the last one was refused, and continue with it. */
function askForKey(then) {
  const dialog = byId("key-dialog");
  byId("key-error").textContent = api.hasKey() ? "That key was not accepted." : "";
  dialog.returnValue = "";
  dialog.showModal();
  byId("key").select();
  dialog.addEventListener("close", () => (dialog.returnValue === "given" ? then() : complain(KEYLESS, () => askForKey(then))), { once: true });
}

/** Offer the other models, if there are any. Choosing one opens the page again, with the model in its address. */
function showModels({ default: first, models }, asked) {
  const list = byId("models");
  const names = models.filter(({ state }) => state === "READY").map(({ name }) => name);
  list.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === (asked ?? first) }, name)));
  list.onchange = () => location.assign(`?${new URLSearchParams({ model: list.value })}`);
  show(list, names.length > 1);
}

async function showReadiness() {
  clearTimeout(askAgain);
  const ready = await api.ready();
  const { name, version, labels } = state.model;
  byId("model").replaceChildren(
    el("i", { class: ready ? "lamp on" : "lamp", "aria-hidden": "true" }),
    el("span", {}, `${name} ${version}`),
    el("span", { class: "model-more" }, ` · ${labels.length} classes${ready ? " · ready" : ""}`),
    ready ? "" : " · not ready yet",
  );
  clearTimeout(askAgain);
  if (!ready) askAgain = setTimeout(showReadiness, ASK_AGAIN_MS);
}

function showPoints() {
  const full = state.points.find((point) => point.name === "full");
  byId("point-row").replaceChildren(
    ...state.points.map((point) => {
      const input = el("input", { type: "radio", name: "point", value: point.name, checked: point.name === state.point });
      input.addEventListener("change", () => pick(point.name));
      const share = point.expected_gflops / full.expected_gflops;
      const right = point.expected_accuracy === null ? "" : ` · ${percent(point.expected_accuracy)} accuracy`;
      const words = point === full ? "never stops early" : `${Math.max(1, Math.round(share * 100))} % of the compute`;
      const promise = point.guarantee ? ` · ${guaranteed(point.guarantee)}` : "";
      return el("label", { class: "point" }, input, el("b", {}, point.name), " ", el("small", {}, words + right + promise));
    }),
  );
  show(byId("points"), true);
}

/** What a certified point promises. */
function guaranteed({ risk, epsilon, confidence: sure }) {
  const what = risk === "answer_changed" ? "change the answer" : "lose a right answer";
  return `at most ${(100 * epsilon).toPrecision(2)} % of videos ${what} (${percent(sure)} sure)`;
}

/** Open a clip and classify it. */
function open(blob) {
  cancel.abort();
  stopReplay();
  state.clip = blob;
  state.runs = new Map();
  document.body.classList.add("has-clip");
  byId("drop-words").textContent = "Drop another video";
  parts.stage.open(new Originals(blob));
  parts.timeline.open(blob);
  run(state.point);
}

/** Choose another operating point: show its result, or classify the clip with it. */
function pick(point) {
  if (state.busy && point !== state.point) halt();
  state.point = point;
  for (const input of document.querySelectorAll("input[name=point]")) input.checked = input.value === point;
  if (!state.clip) return;
  if (state.runs.get(point)?.result) display(state.runs.get(point));
  else run(point);
}

/** Cancel the current run because something else is shown. */
function halt() {
  cancel.abort();
  cancel = new AbortController();
  state.busy = false;
  progress(null);
}

/** Classify the clip at one operating point and show each step. */
async function run(point) {
  cancel.abort();
  cancel = new AbortController();
  const { signal } = cancel;
  stopReplay();
  complain(null);
  say("");
  const thresholds = state.model.operating_points.find(({ name }) => name === point).thresholds.slice();
  thresholds[thresholds.length - 1] = null;
  const current = { point, thresholds, steps: [], result: null };
  state.runs.set(point, current);
  state.busy = true;
  progress("Sending the video", 0);
  display(current);
  bringIntoView();
  try {
    const ask = { exit: point, top_k: Math.min(5, state.model.labels.length) };
    const sent = (share) => (share < 1 ? progress(`Sending the video: ${Math.floor(share * 100)} %`, share) : progress("Classifying…"));
    current.result = await api.classify(state.clip, ask, { sent, step: (step) => stepArrived(current, step), signal });
    say(`${label(current.result.predictions[0].label)}, ${percent(current.result.predictions[0].score)}. ${why(current.result, state.model)}`);
  } catch (error) {
    if (state.runs.get(point) === current) state.runs.delete(point);
    if (cancel.signal !== signal) return;
    if (signal.aborted) say("Cancelled. The clip is still here.");
    else if (error.problem?.status === 401) askForKey(() => run(point));
    else complain(error.problem ?? { title: "The page has failed", detail: String(error) }, () => run(point));
  }
  if (cancel.signal !== signal) return; // another run is shown by now
  state.busy = false;
  progress(null);
  if (state.runs.has(point)) display(current);
  else if (state.runs.size) pick([...state.runs.keys()].at(-1));
  else nothing(signal.aborted);
  if (signal.aborted) byId(state.runs.size ? "choose" : "again").focus(); // the button that had the focus has gone
}

function stepArrived(current, step) {
  if (state.runs.get(state.point) !== current) return;
  current.steps.push(step);
  progress(`Looking: step ${step.step} of ${state.model.steps}`);
  say(`Step ${step.step}: ${label(step.label)}, ${confidence(step.confidence, state.model.exit_criterion)}`);
  parts.line.add(step, current.steps.length - 1);
  state.visible = current.steps.length;
  choose(current.steps.length - 1, current);
}

/** Show a run from its beginning. */
function display(current) {
  stopReplay();
  show(byId("empty"), false);
  show(byId("cancelled"), false);
  show(byId("results"), true);
  parts.line.clear();
  current.steps.forEach((step, index) => parts.line.add(step, index));
  if (current.result) parts.line.finish(current.result);
  state.visible = current.steps.length;
  if (current.steps.length === 0) parts.stage.clear();
  choose(current.steps.length - 1, current);
}

/** On a small screen the results lie below the fold. */
function bringIntoView() {
  const { top } = byId("results").getBoundingClientRect();
  if (top > innerHeight * 0.6 || top < 0) byId("results").scrollIntoView({ block: "start" });
}

/** Show that there is no result, and whether the user has cancelled it. */
function nothing(cancelled) {
  show(byId("results"), false);
  show(byId("empty"), !cancelled);
  show(byId("cancelled"), cancelled);
}

/** Show one step of a run. */
function choose(index, current = state.runs.get(state.point)) {
  if (!current) return;
  state.chosen = index;
  if (current.steps[index]) parts.stage.show(current.steps[index]);
  parts.line.mark(current.steps, index, state.visible);
  parts.curve.draw(current, index, state.visible);
  showAnswer(current, state.model);
  showCost(current);
  showComparison(state, pick);
  byId("previous").disabled = index <= 0;
  byId("next").disabled = index >= current.steps.length - 1;
  byId("replay").disabled = !current.result;
}

function replay() {
  const current = state.runs.get(state.point);
  if (replaying !== null) return stopReplay(current);
  byId("replay").textContent = "Stop";
  state.visible = 0;
  const next = () => {
    state.visible += 1;
    choose(state.visible - 1);
    if (state.visible >= current.steps.length) stopReplay(current);
  };
  replaying = setInterval(next, REPLAY_MS);
  return next();
}

function stopReplay(current = null) {
  clearInterval(replaying);
  replaying = null;
  byId("replay").textContent = "Replay slowly";
  if (!current) return;
  state.visible = current.steps.length;
  choose(state.chosen);
}

async function runTheRest() {
  await settled();
  for (const { name } of state.points) {
    if (state.runs.get(name)?.result) continue;
    pick(name);
    await settled();
    if (!state.runs.get(name)?.result) return;
  }
}

/** Wait until no run is going on. */
async function settled() {
  while (state.busy) await new Promise((resolve) => requestAnimationFrame(resolve));
}

/** Show the progress, but only if it takes longer than a moment. */
function progress(words, share = null) {
  if (words === null) {
    clearTimeout(patience);
    patience = null;
    return show(byId("progress"), false);
  }
  patience ??= setTimeout(() => show(byId("progress"), true), PATIENCE_MS);
  byId("progress-words").textContent = words;
  const bar = byId("progress-bar");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  return undefined;
}

function say(words) {
  byId("live").textContent = words;
}

/** Show an error, with a button to try again where that can help; null removes it. */
function complain(problem, again = null) {
  const place = byId("alert");
  if (!problem) return place.replaceChildren();
  const id = problem.instance?.split(":").at(-1);
  if (problem.code === "unreachable" && parts) showReadiness();
  const retry = again && !ABOUT_THE_CLIP.has(problem.status) && el("button", { type: "button", onclick: () => goOn(again) }, "Try again");
  return place.replaceChildren(
    el("h2", {}, problem.title),
    el("p", {}, problem.detail),
    el("p", { class: "alert-foot" }, retry || null, el("code", {}, problem.code), id ? el("small", {}, `request ${id}`) : null),
  );
}

/** Try again. The button that has the focus disappears with the error. */
function goOn(again) {
  complain(null);
  byId("work").focus({ preventScroll: true });
  again();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.keepKey(byId("key").value.trim());
  byId("key-dialog").close("given");
});
byId("cancel").addEventListener("click", () => cancel.abort());
byId("again").addEventListener("click", () => goOn(() => run(state.point)));
byId("previous").addEventListener("click", () => choose(state.chosen - 1));
byId("next").addEventListener("click", () => choose(state.chosen + 1));
byId("replay").addEventListener("click", replay);
byId("run-all").addEventListener("click", runTheRest);
