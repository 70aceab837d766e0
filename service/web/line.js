/** The sampled frames along the video: each filled when it is visited, numbered by the visiting order. */

import { byId, el } from "./dom.js";
import { confidence, label, seconds } from "./format.js";

const MOST_IN_A_ROW = 10;

/** The time line of a run. */
export class Line {
  /**
   * @param {object} model - the manifest
   * @param {(index: number) => void} choose - called with the index of a step that was picked
   */
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    this.cells = [];
    const rows = Math.ceil(model.steps / MOST_IN_A_ROW);
    byId("line").style.setProperty("--cells", Math.ceil(model.steps / rows));
  }

  /** Empty cells, one for each frame that may be looked at. */
  clear() {
    this.cells = Array.from({ length: this.model.steps }, () => el("li", { class: "cell" }, el("span", { class: "blank" })));
    byId("line").replaceChildren(...this.cells);
    byId("line-words").textContent = "";
  }

  /** Fill in the cell of a step. */
  add(step, index) {
    const cell = this.cells[this.model.steps === 1 ? 0 : step.place];
    const sure = confidence(step.confidence, this.model.exit_criterion);
    const { view } = step.image;
    const share = (value, whole) => `${((value / whole) * 100).toFixed(2)}%`;
    const patch = el("i", {
      class: "cell-patch",
      "--x": share(step.patch.x - view.x, view.width),
      "--y": share(step.patch.y - view.y, view.height),
      "--w": share(step.patch.width, view.width),
      "--h": share(step.patch.height, view.height),
    });
    const button = el(
      "button",
      {
        type: "button",
        class: "cell-button",
        "aria-pressed": "false",
        "aria-label": `Step ${step.step}, ${seconds(step.time_s)}: ${label(step.label)}, ${sure}`,
        onclick: () => this.choose(index),
      },
      el("span", { class: "cell-picture" }, el("img", { src: step.image.data, alt: "", draggable: "false" }), patch),
      el("b", { class: "cell-order", "aria-hidden": "true" }, String(step.step)),
    );
    cell.replaceChildren(button, el("span", { class: "cell-time", "aria-hidden": "true" }, shortTime(step.time_s)));
    cell.classList.add("seen");
  }

  /** Mark the step that is shown, and dim those after it while it is replayed. */
  mark(steps, chosen, visible) {
    steps.forEach((step, index) => {
      const cell = this.cells[this.model.steps === 1 ? 0 : step.place];
      cell.classList.toggle("later", index >= visible);
      cell.querySelector("button").setAttribute("aria-pressed", String(index === chosen));
    });
  }

  /** Say what became of the rest. */
  finish(result) {
    for (const cell of this.cells) cell.classList.toggle("unseen", !cell.classList.contains("seen"));
    const { step, steps } = result.exit;
    const rest = steps - step;
    byId("line-words").textContent =
      rest === 0 ? `All ${steps} sampled frames, in the order of the video.`
        : `${step} of ${steps} sampled frames, in the order of the video; the hatched ones were not needed.`;
  }
}

function shortTime(time) {
  if (time === null) return "";
  if (time < 60) return `${time.toFixed(1)} s`;
  return `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`;
}
