// The page of cameras: asks for them every two seconds, and shows one tile each.

const PERIOD_MS = 2000;
const STATES = { connecting: "connecting", live: "live", lost: "lost", ended: "ended" };

const tiles = document.getElementById("tiles");
const template = document.getElementById("tile");
const summary = document.getElementById("summary");
const alertLine = document.getElementById("alert");
const keyForm = document.getElementById("key-form");
const known = new Map();
let key = sessionStorage.getItem("adafocus-key") ?? "";

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  key = document.getElementById("key").value;
  sessionStorage.setItem("adafocus-key", key);
  keyForm.hidden = true;
  look();
});

async function look() {
  try {
    const response = await fetch("cameras", key ? { headers: { Authorization: `Bearer ${key}` } } : {});
    if (response.status === 401) {
      keyForm.hidden = false;
      say("An API key is needed.");
      return;
    }
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    show((await response.json()).cameras);
    say("");
  } catch (error) {
    say(`The cameras cannot be asked: ${error.message}. The tiles show what was known before.`);
  }
  setTimeout(look, PERIOD_MS);
}

function say(text) {
  if (alertLine.textContent !== text) alertLine.textContent = text;
}

function show(cameras) {
  for (const camera of cameras) {
    if (!known.has(camera.name)) {
      const tile = template.content.firstElementChild.cloneNode(true);
      tile.querySelector(".tile-name").textContent = camera.name;
      known.set(camera.name, tile);
      tiles.append(tile);
    }
    fill(known.get(camera.name), camera);
  }
  const live = cameras.filter((camera) => camera.state === "live").length;
  const text = `${live} of ${cameras.length} live`;
  if (summary.textContent !== text) summary.textContent = text;
}

function fill(tile, camera) {
  tile.dataset.state = camera.state;
  tile.querySelector(".tile-state").textContent = STATES[camera.state] ?? camera.state;
  tile.querySelector(".tile-label").textContent = camera.label ?? "no window yet";
  tile.querySelector(".tile-meter span").style.width = `${Math.round(100 * (camera.score ?? 0))}%`;
  tile.querySelector(".tile-warning").textContent = warning(camera);
  const facts = {
    score: camera.score === null ? "–" : `${Math.round(100 * camera.score)} %`,
    age: camera.last_window === null ? "–" : ago(Date.now() - Date.parse(camera.last_window)),
    lag: camera.lag_s === null ? "–" : `${camera.lag_s.toFixed(1)} s`,
    windows: camera.windows,
    dropped: camera.dropped,
    reconnects: camera.reconnects,
  };
  for (const [name, value] of Object.entries(facts)) {
    tile.querySelector(`[data-fact="${name}"]`).textContent = value;
  }
}

function warning(camera) {
  if (camera.state === "lost") return camera.reason ?? "the stream stopped";
  if (camera.black) return "The picture is black.";
  if (camera.frozen) return "The picture is frozen.";
  return "";
}

function ago(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

look();
