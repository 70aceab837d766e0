/** The ways to choose a clip: a file, a drop, the camera, a sample. */

import * as api from "./api.js";
import { cannotRecord, record } from "./camera.js";
import { byId, el, show } from "./dom.js";
import { bytes, label, shortened } from "./format.js";

/** @param {object} page - `open(blob)` takes a clip, `complain(problem)` shows an error */
export function wireInput({ open, complain }) {
  let wishes = 0; // a sample that arrives after another clip was chosen is ignored
  const take = (file, more = "") => {
    wishes += 1;
    byId("input-hint").textContent = `${shortened(file.name)}, ${bytes(file.size)}${more}`;
    byId("input-hint").title = file.name;
    open(file);
  };
  const fetchSample = async (name, url) => {
    const wish = (wishes += 1);
    try {
      const file = new File([await api.sample(url)], name);
      if (wish === wishes) take(file);
    } catch (error) {
      if (wish === wishes) complain(error.problem, () => fetchSample(name, url));
    }
  };
  wireFile(take);
  wireDrop(take, complain);
  wireCamera(take);
  offerSamples(fetchSample);
}

function wireFile(take) {
  const input = byId("file");
  byId("choose").disabled = false;
  byId("choose").onclick = () => input.click();
  input.onchange = () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file) take(file);
  };
}

function wireDrop(take, complain) {
  const place = byId("drop");
  let depth = 0;
  const over = (change) => {
    depth = change === 0 ? 0 : depth + change;
    place.classList.toggle("over", depth > 0);
  };
  document.ondragenter = () => over(1);
  document.ondragleave = () => over(-1);
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    over(0);
    const [file, ...others] = event.dataTransfer.files;
    if (file) take(file, others.length ? ` · the first of ${others.length + 1} files` : "");
    else complain({ title: "Not a file", detail: "Drop a video file from this device.", code: "no_file" });
  };
}

function wireCamera(take) {
  const button = byId("record");
  const obstacle = cannotRecord();
  button.disabled = obstacle !== null;
  if (obstacle) byId("input-hint").textContent += ` ${obstacle}`;
  button.onclick = async () => {
    const clip = await record();
    if (clip) take(new File([clip], "Recording", { type: clip.type }));
    else button.focus();
  };
}

async function offerSamples(choose) {
  const { clips, notice } = await api.samples().catch(() => ({ clips: [], notice: null }));
  byId("sample-list").replaceChildren(
    ...clips.map(({ name, url }) => {
      const title = label(name.replace(/\.[^.]+$/, ""));
      const poster = el("video", { src: `${url}#t=4`, preload: "metadata", muted: true, playsinline: true, tabindex: "-1", "aria-hidden": "true" });
      return el("li", {}, el("button", { type: "button", class: "sample", onclick: () => choose(name, url) }, poster, el("span", {}, title)));
    }),
  );
  if (notice) byId("sample-notice").replaceChildren(el("a", { href: notice }, "Sources of the samples"));
  show(byId("samples"), clips.length > 0);
}
