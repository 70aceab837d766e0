/** The confidence of each step, compared with the threshold. */

import { byId, svg } from "./dom.js";
import { confidence, isShare, label } from "./format.js";

const EDGE = { left: 44, right: 10, top: 14, bottom: 30 };

/** The curve of a run. */
export class Curve {
  /**
   * @param {object} model - the manifest
   * @param {(index: number) => void} choose - called with the index of a step that was picked
   */
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    this.last = null;
    new ResizeObserver(() => this.last && this.draw(...this.last)).observe(byId("curve"));
  }

  /**
   * @param {object} run - its steps, point and result
   * @param {number} chosen - index of the step that is shown
   * @param {number} visible - how many of the steps to draw
   */
  draw(run, chosen, visible) {
    this.last = [run, chosen, visible];
    const steps = run.steps.slice(0, visible);
    const place = byId("curve");
    if (place.clientWidth < 2 * EDGE.left) return; // hidden
    const axis = this.#axis(run, place.clientWidth, place.clientHeight);
    const ended = run.result !== null && visible === run.steps.length;
    place.replaceChildren(
      svg(
        "svg",
        { width: axis.width, height: axis.height, viewBox: `0 0 ${axis.width} ${axis.height}`, role: "img", "aria-label": this.#words(run, steps) },
        ...this.#grid(axis),
        ...this.#thresholds(run, axis),
        ...(ended ? this.#unused(run, axis) : []),
        ...this.#points(run, steps, chosen, axis, ended),
      ),
    );
    const some = run.thresholds.some((threshold) => threshold !== null);
    byId("curve-key").replaceChildren(some ? "shaded: confident enough to stop" : "this point never stops early");
  }

  #axis(run, width, height) {
    const all = [...run.steps.map((step) => step.confidence), ...run.thresholds.filter((value) => value !== null)];
    const share = isShare(this.model.exit_criterion);
    const low = share ? 0 : Math.min(...all, 0);
    const high = share ? 1 : Math.max(...all, low + 1);
    const band = (width - EDGE.left - EDGE.right) / this.model.steps;
    const tall = height - EDGE.top - EDGE.bottom;
    return {
      width,
      height,
      band,
      low,
      high,
      left: (index) => EDGE.left + index * band,
      x: (index) => EDGE.left + (index + 0.5) * band,
      y: (value) => EDGE.top + (1 - (value - low) / (high - low)) * tall,
    };
  }

  #grid(axis) {
    const parts = [];
    for (let i = 0; i <= 4; i += 1) {
      const value = axis.low + ((axis.high - axis.low) * i) / 4;
      const y = axis.y(value);
      parts.push(svg("line", { class: "grid", x1: EDGE.left, x2: axis.width - EDGE.right, y1: y, y2: y }));
      const words = isShare(this.model.exit_criterion) ? `${value * 100} %` : value.toFixed(1);
      parts.push(svg("text", { class: "tick", x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, words));
    }
    const every = Math.ceil(24 / axis.band);
    for (let index = 0; index < this.model.steps; index += every) {
      const at = { class: "tick", x: axis.x(index), y: axis.height - 10, "text-anchor": "middle" };
      parts.push(svg("text", at, String(index + 1)));
    }
    return parts;
  }

  #thresholds(run, axis) {
    return run.thresholds.flatMap((threshold, index) => {
      if (threshold === null) return [];
      const [x, y] = [axis.left(index), axis.y(threshold)];
      return [
        svg("rect", { class: "zone", x, y: EDGE.top, width: axis.band, height: Math.max(0, y - EDGE.top) }),
        svg("line", { class: "threshold", x1: x, x2: x + axis.band, y1: y, y2: y }),
      ];
    });
  }

  #unused(run, axis) {
    const from = axis.left(run.steps.length);
    const width = axis.width - EDGE.right - from;
    if (width < 1) return [];
    const box = svg("rect", { class: "unused", x: from, y: EDGE.top, width, height: axis.height - EDGE.top - EDGE.bottom });
    if (width < 90) return [box];
    const at = { class: "tick", x: from + width / 2, y: axis.height - EDGE.bottom - 12, "text-anchor": "middle" };
    return [box, svg("text", at, "not needed")];
  }

  #points(run, steps, chosen, axis, ended) {
    const path = steps.map((step, index) => `${index ? "L" : "M"}${axis.x(index)} ${axis.y(step.confidence)}`).join("");
    const dots = steps.map((step, index) => {
      const stopped = ended && index === steps.length - 1;
      const at = { cx: axis.x(index), cy: axis.y(step.confidence) };
      return svg(
        "g",
        { class: `dot${index === chosen ? " chosen" : ""}${stopped ? " stopped" : ""}`, onclick: () => this.choose(index) },
        svg("circle", { ...at, r: 14, class: "dot-reach" }),
        svg("circle", { ...at, r: stopped ? 6.5 : 4.5, class: "dot-mark" }),
        svg("title", {}, `step ${step.step}: ${label(step.label)}, ${confidence(step.confidence, this.model.exit_criterion)}`),
      );
    });
    return [svg("path", { class: "curve-line", d: path }), ...dots];
  }

  #words(run, steps) {
    const told = steps.map((step, index) => {
      const threshold = run.thresholds[index];
      const sure = confidence(step.confidence, this.model.exit_criterion);
      const wanted = threshold === null ? "" : `, ${confidence(threshold, this.model.exit_criterion)} to stop`;
      return `step ${step.step}: ${label(step.label)} ${sure}${wanted}`;
    });
    return `Confidence by step. ${told.join("; ")}`;
  }
}
