/** Frames of the clip at full size, if this browser can play it; otherwise the small JPEGs from the service are shown. */

const PATIENCE_MS = 2500;
const LARGEST_SIDE = 960;
const GRID = 12;
const ALIKE = 16;

/** The frames of one clip. */
export class Originals {
  /** @param {Blob} clip - not played before a frame is requested: a file that the service rejects may be a playlist */
  constructor(clip) {
    this.clip = clip;
    this.kept = new Map();
    this.video = document.createElement("video");
    this.url = null;
    this.busy = null;
  }

  /** Forget the clip. */
  close() {
    this.kept.clear();
    if (this.url === null) return;
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
  }

  /** Width and height as displayed, or null while unknown. */
  get size() {
    const { videoWidth: width, videoHeight: height } = this.video;
    return width && height ? { width, height } : null;
  }

  /**
   * The frame of a step, drawn on a canvas; null where it cannot be had.
   * @param {object} step - an event `step`
   * @param {HTMLImageElement} seen - what the service decoded there: another decoder's frame must resemble it
   */
  frame(step, seen) {
    if (!this.kept.has(step.frame)) {
      this.busy ??= this.#open();
      const drawn = this.busy.then((fine) => (fine === false ? null : this.#draw(step, seen)));
      this.busy = drawn.then(() => true, () => true);
      this.kept.set(step.frame, drawn.catch(() => null));
    }
    return this.kept.get(step.frame);
  }

  #open() {
    this.url = URL.createObjectURL(this.clip);
    this.video.muted = true;
    this.video.preload = "auto";
    this.video.src = this.url;
    return happened(this.video, "loadeddata").catch(() => false);
  }

  async #draw(step, seen) {
    if (step.time_s === null || !this.size) return null;
    const sought = happened(this.video, "seeked");
    this.video.currentTime = step.time_s + 0.002;
    await sought;
    const { width, height } = this.size;
    const scale = Math.min(1, LARGEST_SIDE / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    const { view } = step.image;
    const [across, down] = [canvas.width / step.image.width, canvas.height / step.image.height];
    const part = [view.x * across, view.y * down, view.width * across, view.height * down];
    const difference = distance(thumbnail(canvas, ...part), thumbnail(seen, 0, 0, seen.naturalWidth, seen.naturalHeight));
    return difference <= ALIKE ? canvas : null;
  }
}

/** Resolves when the video says so; rejects when it fails or takes too long. */
function happened(video, name) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const end = (settle) => () => {
      over.abort();
      clearTimeout(timer);
      settle();
    };
    const timer = setTimeout(end(() => reject(new Error("too slow"))), PATIENCE_MS);
    video.addEventListener(name, end(resolve), { signal: over.signal });
    video.addEventListener("error", end(() => reject(new Error("cannot play"))), { signal: over.signal });
  });
}

function thumbnail(source, x, y, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = GRID;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, GRID, GRID); // black, as the service fills what lies beyond the edges of the video
  context.drawImage(source, x, y, width, height, 0, 0, GRID, GRID);
  return context.getImageData(0, 0, GRID, GRID).data;
}

/** Mean difference in grey levels. */
function distance(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i += 1) sum += Math.abs(one[i] - other[i]);
  return sum / ((one.length * 3) / 4);
}
