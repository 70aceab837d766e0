/** The time line of a long video: one button for each window, coloured by label; a click plays that part. */

import * as api from "./api.js";
import { byId, el, show } from "./dom.js";
import { label, number, percent } from "./format.js";

const COLOURS = 8;
const MOST_BUTTONS = 600; // with more windows than this, the events are shown instead

/** The card below the results. */
export class TimeLine {
  /** @param {object} page - `complain(problem)` shows an error, `point()` names the operating point */
  constructor(page) {
    this.page = page;
    this.clip = null;
    this.url = null;
    this.until = null;
    this.cancel = new AbortController();
    this.player = byId("player");
    byId("windows-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    byId("windows-cancel").addEventListener("click", () => this.cancel.abort());
    this.player.addEventListener("timeupdate", () => this.#stopAtEnd());
  }

  /** Forget the last clip and offer this one. */
  open(clip) {
    this.cancel.abort();
    this.clip = clip;
    if (this.url !== null) URL.revokeObjectURL(this.url);
    this.url = null;
    this.player.removeAttribute("src");
    show(this.player, false);
    this.#clear();
    show(byId("timeline"), true);
  }

  /** Classify the clip in windows and draw each as it comes. */
  async run() {
    this.cancel.abort();
    this.cancel = new AbortController();
    const { signal } = this.cancel;
    this.page.complain(null);
    this.#clear();
    this.#busy(true);
    const segments = [];
    const ask = { exit: this.page.point(), top_k: 1, window_s: byId("window").value };
    try {
      const result = await api.classify(this.clip, ask, {
        sent: (share) => this.#say(share < 1 ? `Sending the video: ${Math.floor(share * 100)} %` : "Classifying…"),
        segment: (segment) => {
          segments.push(segment);
          this.#say(`${segments.length} windows, up to ${clock(segment.end_s)}`);
          if (segments.length <= MOST_BUTTONS) this.#draw(segments, segment.end_s);
        },
        signal,
      });
      this.#finish(result);
    } catch (error) {
      if (this.cancel.signal !== signal) return; // another run is shown by now
      this.#say(signal.aborted ? "Cancelled." : "");
      if (!signal.aborted) this.page.complain(error.problem ?? { title: "The page has failed", detail: String(error) });
    }
    this.#busy(false);
  }

  #busy(yes) {
    byId("windows-go").disabled = yes;
    show(byId("windows-cancel"), yes);
  }

  #say(words) {
    byId("timeline-words").textContent = words;
  }

  #clear() {
    this.#say("");
    byId("timeline-bar").replaceChildren();
    byId("timeline-events").replaceChildren();
    byId("timeline-key").replaceChildren();
  }

  #finish({ segments, events, compute }) {
    const parts = segments.length <= MOST_BUTTONS ? segments : events;
    this.#draw(parts, segments.at(-1).end_s);
    const saved = Math.round((1 - compute.gflops / compute.gflops_full) * 100);
    this.#say(`${segments.length} windows, ${events.length} events. ${number(compute.gflops)} GFLOPs, ${saved} % saved.`);
    byId("timeline-events").replaceChildren(...events.map((event) => el("li", {}, this.#button(event, "event", words(event)))));
  }

  /** Draw windows, or events, along the length of the video. */
  #draw(parts, seconds) {
    const counts = new Map();
    for (const part of parts) counts.set(best(part).label, (counts.get(best(part).label) ?? 0) + 1);
    const names = [...counts.keys()].sort((one, other) => counts.get(other) - counts.get(one));
    const colour = (name) => `colour-${Math.min(names.indexOf(name), COLOURS)}`;
    byId("timeline-bar").replaceChildren(
      ...parts.map((part) => {
        const button = this.#button(part, `part ${colour(best(part).label)}`, "");
        button.setAttribute("aria-label", words(part));
        button.title = words(part);
        button.style.setProperty("--from", `${(part.start_s / seconds) * 100}%`);
        button.style.setProperty("--long", `${(Math.max(0, part.end_s - part.start_s) / seconds) * 100}%`);
        button.style.setProperty("--score", `${best(part).score * 100}%`);
        return button;
      }),
    );
    byId("timeline-key").replaceChildren(...names.slice(0, COLOURS).map((name) => el("span", { class: colour(name) }, label(name))));
  }

  #button(part, kind, content) {
    return el("button", { type: "button", class: kind, onclick: () => this.#play(part) }, content);
  }

  /** Play one part of the clip from this device. */
  async #play({ start_s: start, end_s: end }) {
    if (this.url === null) {
      this.url = URL.createObjectURL(this.clip);
      this.player.src = this.url;
    }
    show(this.player, true);
    this.until = end;
    this.player.currentTime = start;
    try {
      await this.player.play();
    } catch (error) {
      if (error.name !== "AbortError") this.#say("This browser cannot play the video.");
    }
  }

  #stopAtEnd() {
    if (this.until === null || this.player.currentTime < this.until) return;
    this.until = null;
    this.player.pause();
  }
}

function best(part) {
  return part.predictions ? part.predictions[0] : part;
}

function words(part) {
  return `${label(best(part).label)}, ${clock(part.start_s)} to ${clock(part.end_s)}, ${percent(best(part).score)}`;
}

/** Seconds as a clock shows them. */
function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${rest}` : rest;
}
