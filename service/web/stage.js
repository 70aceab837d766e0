/** One step as a picture: the frame, the patch in it, and beside it the pixels that really reached the networks. */

import { byId } from "./dom.js";
import { confidence, label, seconds } from "./format.js";

const FOCUS = "#ffb02e";

/** The picture of the chosen step. */
export class Stage {
  constructor(model) {
    this.model = model;
    this.originals = null;
    this.shown = null;
    this.turn = 0;
    byId("glance-size").textContent = `${model.geometry.crop} × ${model.geometry.crop} px`;
    byId("focus-size").textContent = `${model.patch_size} × ${model.patch_size} px`;
    new ResizeObserver(() => this.shown && this.#paint()).observe(byId("picture").parentElement);
  }

  /** Another clip. */
  open(originals) {
    this.originals?.close();
    this.originals = originals;
    this.clear();
  }

  /** Show no step. */
  clear() {
    this.turn += 1;
    this.shown = null;
    byId("stage-words").textContent = "";
    for (const id of ["picture", "glance", "focus"]) {
      const canvas = byId(id);
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
  }

  /** Show a step of a run. */
  async show(step) {
    const turn = (this.turn += 1);
    const shown = { step, seen: await loaded(step.image.data), original: null };
    if (turn !== this.turn) return; // pictures may be ready in another order than they were asked for
    this.shown = shown;
    this.#words(step);
    this.#paint();
    const original = await this.originals.frame(step, shown.seen);
    if (this.shown === shown && original) {
      shown.original = original;
      this.#paint();
    }
  }

  #words(step) {
    const parts = [`step ${step.step} of ${this.model.steps}`, `frame ${step.frame}`, seconds(step.time_s)];
    byId("stage-words").textContent = parts.filter(Boolean).join(" · ");
    const sure = confidence(step.confidence, this.model.exit_criterion);
    byId("picture").setAttribute(
      "aria-label",
      `Frame ${step.frame} with the patch of step ${step.step}, ` +
        `${step.patch.width} by ${step.patch.height} pixels at ${step.patch.x}, ${step.patch.y}: ` +
        `${label(step.label)}, ${sure}`,
    );
  }

  #paint() {
    const { step, seen, original } = this.shown;
    const { patch, image } = step;
    const { view } = image;
    const world = original ? { x: 0, y: 0, width: image.width, height: image.height } : view;
    const context = fitted(byId("picture"), original ?? { width: view.width, height: view.height });
    const across = context.canvas.width / world.width; // pixels of a video need not be square
    const down = context.canvas.height / world.height;
    const at = (box) => [(box.x - world.x) * across, (box.y - world.y) * down, box.width * across, box.height * down];
    context.imageSmoothingQuality = "high";
    if (original) context.drawImage(original, 0, 0, context.canvas.width, context.canvas.height);
    else context.drawImage(seen, ...at(view));
    shade(context, [0, 0, context.canvas.width, context.canvas.height], at(view), 0.5);
    shade(context, at(view), at(patch), 0.22);
    frame(context, at(patch), devicePixelRatio || 1);
    pixels(byId("glance"), seen, [0, 0, seen.naturalWidth, seen.naturalHeight]);
    const [zoomAcross, zoomDown] = [seen.naturalWidth / view.width, seen.naturalHeight / view.height];
    pixels(byId("focus"), seen, [
      Math.round((patch.x - view.x) * zoomAcross),
      Math.round((patch.y - view.y) * zoomDown),
      this.model.patch_size,
      this.model.patch_size,
    ]);
  }
}

async function loaded(data) {
  const image = new Image();
  image.src = data;
  await image.decode();
  return image;
}

/** A canvas as large as its place allows, in the shape of what it shows. */
function fitted(canvas, shape) {
  const place = canvas.parentElement;
  const height = Math.min((place.clientWidth * shape.height) / shape.width, place.clientHeight);
  const width = (height * shape.width) / shape.height;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return canvas.getContext("2d");
}

/** Darken what lies in one box and not in the other. */
function shade(context, [x, y, width, height], hole, strength) {
  context.fillStyle = `rgb(8 10 14 / ${strength})`;
  context.beginPath();
  context.rect(x, y, width, height);
  context.rect(...hole);
  context.fill("evenodd");
}

/** A thin frame with strong corners. */
function frame(context, [x, y, width, height], ratio) {
  const arm = Math.min(width, height) * 0.22;
  context.strokeStyle = FOCUS;
  context.lineWidth = 1.25 * ratio;
  context.strokeRect(x, y, width, height);
  context.lineWidth = 3.5 * ratio;
  context.lineCap = "round";
  context.beginPath();
  for (const [cx, cy, dx, dy] of [[x, y, 1, 1], [x + width, y, -1, 1], [x, y + height, 1, -1], [x + width, y + height, -1, -1]]) {
    context.moveTo(cx + dx * arm, cy);
    context.lineTo(cx, cy);
    context.lineTo(cx, cy + dy * arm);
  }
  context.stroke();
}

/** A part of a picture at its true resolution; the style sheet enlarges it without smoothing. */
function pixels(canvas, source, [x, y, width, height]) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(source, x, y, width, height, 0, 0, width, height);
}
