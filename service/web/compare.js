/** The same clip at every operating point. */

import { byId, el, show } from "./dom.js";
import { label, milliseconds, number, percent } from "./format.js";

/** The point whose button has the keyboard focus. The rows are rebuilt with every step; the focus must stay. */
let held = null;

/**
 * @param {object} state - of the page: model, runs by point, the point that is shown
 * @param {(point: string) => void} pick - called with a point to run or to show
 */
export function showComparison(state, pick) {
  const rows = state.points.map((point) => row(point, state.runs.get(point.name), state, pick));
  const frame = byId("compare-frame");
  const focused = document.activeElement;
  if (byId("compare").contains(focused)) held = focused.dataset.point;
  else if (focused !== frame) held = null;
  byId("compare").replaceChildren(...rows);
  const again = held && byId("compare").querySelector(`button[data-point="${held}"]:not(:disabled)`);
  if (held) (again || frame).focus({ preventScroll: true });
  const rest = state.points.some((point) => !state.runs.get(point.name)?.result);
  if (!rest && focused === byId("run-all")) frame.focus({ preventScroll: true });
  show(byId("run-all"), rest);
}

function row(point, run, state, pick) {
  const current = state.point === point.name;
  const name = el("th", { scope: "row" }, point.name);
  if (!run?.result) {
    const button = el("button", { type: "button", "data-point": point.name, disabled: state.busy, onclick: () => pick(point.name) }, `Run ${point.name}`);
    return el("tr", { class: current ? "current" : null }, name, el("td", { colspan: 4 }, run && current && state.busy ? "looking…" : button));
  }
  const { predictions, exit, compute, timing_ms: timing } = run.result;
  const button = el(
    "button",
    { type: "button", class: "link", "data-point": point.name, disabled: state.busy, "aria-pressed": String(current), onclick: () => pick(point.name) },
    point.name,
  );
  name.replaceChildren(button);
  return el(
    "tr",
    { class: current ? "current" : null },
    name,
    el("td", {}, label(predictions[0].label), el("small", {}, ` ${percent(predictions[0].score)}`)),
    el("td", { class: "numbers" }, `${exit.step} of ${exit.steps}`),
    el("td", { class: "numbers with-bar" }, barred(compute.gflops, compute.gflops_full, number(compute.gflops))),
    el("td", { class: "numbers with-bar" }, barred(answering(timing), slowest(state), milliseconds(answering(timing)))),
  );
}

/** Milliseconds from the last byte received to the answer. */
function answering(timing) {
  return Math.max(0, timing.total - timing.upload);
}

function slowest(state) {
  return Math.max(...[...state.runs.values()].filter((run) => run.result).map((run) => answering(run.result.timing_ms)));
}

function barred(value, whole, words) {
  return el("span", { class: "barred" }, el("span", {}, words), el("span", { class: "track", "aria-hidden": "true" }, el("i", { "--share": `${(value / whole) * 100}%` })));
}
