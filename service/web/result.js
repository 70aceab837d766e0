/** Shows the answer and its cost. */

import { byId, el } from "./dom.js";
import { confidence, label, milliseconds, number, percent } from "./format.js";

const STAGES = ["upload", "queue", "decode", "glance", "focus"];

/** Show the answer, or the best class so far. */
export function showAnswer(run, model) {
  const place = byId("answer");
  if (run.result === null) {
    const last = run.steps.at(-1);
    place.replaceChildren(
      el("p", { class: "top-label pending" }, last ? label(last.label) : "…"),
      el("p", { class: "why" }, last ? `So far: confidence ${confidence(last.confidence, model.exit_criterion)}` : "No step yet."),
    );
    return;
  }
  place.replaceChildren(...(model.task === "multi_label" ? severalLabels(run.result) : oneLabel(run.result)));
  place.children[0].after(el("p", { class: "why" }, why(run.result, model)));
}

function oneLabel({ predictions: [best, ...others] }) {
  return [
    el("div", { class: "top" }, el("p", { class: "top-label" }, label(best.label)), el("p", { class: "top-score" }, percent(best.score))),
    el("ol", { class: "bars", "aria-label": "Other classes" }, ...others.map(bar)),
  ];
}

function severalLabels({ predictions }) {
  const present = predictions.filter((one) => one.present).map((one) => label(one.label));
  return [
    el("div", { class: "top" }, el("p", { class: "top-label" }, present.join(", ") || "No label")),
    el("ol", { class: "bars", "aria-label": "Labels" }, ...predictions.map(bar)),
  ];
}

function bar({ label: name, score, present }) {
  return el(
    "li",
    { class: "bar-row" },
    el("span", { class: "bar-name" }, ...(present ? [el("b", {}, label(name)), " ✓"] : [label(name)])),
    el("span", { class: "track", "aria-hidden": "true" }, el("i", { "--share": `${score * 100}%` })),
    el("span", { class: "bar-value" }, percent(score)),
  );
}

/** Why the model stopped at this step, and whether the service was too busy for the point that was asked for. */
export function why(result, model) {
  const { point, degraded_from: asked } = result.exit;
  const busy = asked ? ` The service was busy, so it ran ${point} instead of ${asked}.` : "";
  return reasonOf(result, model) + busy;
}

function reasonOf(result, model) {
  const { reason, step, steps, threshold, component } = result.exit;
  const sure = confidence(result.exit.confidence, model.exit_criterion);
  const frames = step === 1 ? "one frame" : `${step} frames`;
  switch (reason) {
    case "confident":
      if (component === "glance") return `Confident at a glance, frame ${step} of ${steps}: ${sure}, and the threshold is ${confidence(threshold, model.exit_criterion)}. The patch was not looked at.`;
      return `Confident after ${frames} of ${steps}: ${sure}, and the threshold is ${confidence(threshold, model.exit_criterion)}.`;
    case "all_steps":
      return `Looked at all ${steps} frames. Confidence at the end: ${sure}.`;
    case "max_gflops":
      return `Compute limit reached after ${frames} of ${steps}. Confidence: ${sure}.`;
    case "max_decode_ms":
      return `Decoding limit reached after ${frames} of ${steps}. Confidence: ${sure}.`;
    case "deadline":
      return `Time limit reached after ${frames} of ${steps}. Confidence: ${sure}.`;
    default:
      return `Only ${frames} of ${steps} could be decoded. Confidence: ${sure}.`;
  }
}

/** Show compute and time. */
export function showCost(run) {
  const place = byId("cost");
  if (run.result === null) {
    place.replaceChildren(el("p", { class: "why" }, run.steps.length ? `${number(run.steps.at(-1).gflops)} GFLOPs so far` : "No step yet."));
    return;
  }
  const { compute, timing_ms: timing, exit } = run.result;
  const saved = 1 - compute.gflops / compute.gflops_full;
  place.replaceChildren(
    el(
      "div",
      { class: "top" },
      el("p", { class: "price" }, el("b", {}, number(compute.gflops)), ` of ${number(compute.gflops_full)} GFLOPs`),
      saved > 0.0005 ? el("p", { class: "saved" }, `${(saved * 100).toFixed(0)} % saved`) : el("p", { class: "why" }, "full cost"),
    ),
    el(
      "div",
      { class: "spent", role: "img", "aria-label": `Glance ${number(compute.glance_gflops)}, focus ${number(compute.focus_gflops)} GFLOPs` },
      el("i", { class: "spent-glance", "--share": `${(compute.glance_gflops / compute.gflops_full) * 100}%` }),
      el("i", { class: "spent-focus", "--share": `${(compute.focus_gflops / compute.gflops_full) * 100}%` }),
    ),
    el(
      "p",
      { class: "key" },
      el("span", { class: "of-glance" }, `glance ${number(compute.glance_gflops)}`),
      el("span", { class: "of-focus" }, `focus ${number(compute.focus_gflops)}`),
    ),
    el(
      "dl",
      { class: "facts" },
      ...fact("Frames looked at", `${compute.frames_used} of ${exit.steps}`),
      ...fact("Frames decoded", run.result.video.frames ? `${compute.frames_decoded} of ${run.result.video.frames}` : compute.frames_decoded),
      ...fact("Decoding took", `${milliseconds(compute.decode_cpu_ms)} ms of processor time`),
      ...fact("Milliseconds", milliseconds(timing.total)),
    ),
    el("ol", { class: "bars", "aria-label": "Milliseconds by stage" }, ...STAGES.map((stage) => stageRow(stage, timing))),
  );
}

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, String(value))];
}

function stageRow(stage, timing) {
  const share = Math.min(1, timing[stage] / timing.total) * 100;
  return el(
    "li",
    { class: "bar-row" },
    el("span", { class: "bar-name" }, stage),
    el("span", { class: "track", "aria-hidden": "true" }, el("i", { class: `of-${stage}`, "--share": `${share}%` })),
    el("span", { class: "bar-value" }, milliseconds(timing[stage])),
  );
}
