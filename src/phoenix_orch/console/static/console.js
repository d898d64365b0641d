"use strict";
// Times in the viewer's zone, live parts, charts, shortcuts. Pages say everything without it; it keeps them fresh.

const shortTime = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  hourCycle: "h23",
});

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.textContent = shortTime.format(moment);
  }
}

// -- live parts ---------------------------------------------------------------------------------------

function follow(live) {
  const state = document.getElementById("stream");
  const source = new EventSource(live.dataset.stream);
  const connected = (fine) => { state.hidden = fine; };
  source.addEventListener("open", () => connected(true));
  source.addEventListener("error", () => connected(false));
  source.addEventListener("part", (event) => {
    const focused = document.activeElement && live.contains(document.activeElement)
      ? document.activeElement.getAttribute("commandfor") : null;
    htmx.swap({ sourceElement: live, target: live, swap: "innerMorph", text: JSON.parse(event.data) });
    localise(live);
    fillKeys();
    if (focused && !live.contains(document.activeElement)) {
      live.querySelector(`[commandfor="${focused}"]`)?.focus();
    }
  });
  source.addEventListener("charts", () => loadCharts());
  source.addEventListener("away", (event) => {
    state.textContent = JSON.parse(event.data).detail;
    connected(false);
  });
  source.addEventListener("gone", () => { source.close(); connected(false); });
  source.addEventListener("reconnect", () => connected(true));
  addEventListener("pagehide", () => source.close());
}

// -- charts -------------------------------------------------------------------------------------------

let drawn = [];
let loading = false;
let again = false;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    canary: colour("--canary"), stable: colour("--stable"), limit: colour("--text"),
    grid: colour("--line"), text: colour("--quiet"),
    canaryBand: colour("--canary-band"), stableBand: colour("--stable-band"),
  };
}

async function loadCharts() {
  const place = document.getElementById("charts");
  if (!place || typeof uPlot === "undefined") return;
  if (loading) { again = true; return; }
  loading = true;
  try {
    const address = place.dataset.charts || document.getElementById("live").dataset.charts;
    const answer = await fetch(address, { headers: { accept: "application/json" } });
    if (answer.ok) draw(place, await answer.json());
  } catch (error) {
    // The stream says that the server is away; the charts stay as they were.
  } finally {
    loading = false;
    if (again) { again = false; loadCharts(); }
  }
}

function draw(place, found) {
  const look = colours();
  drawn.forEach((chart) => chart.destroy());
  drawn = [];
  place.replaceChildren();
  const charts = found.shares.filter((one) => one.x.length > 1);
  if (!charts.length) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = "Nothing was measured yet. The first numbers come an observation after the release begins.";
    place.append(empty);
    return;
  }
  for (const one of charts) drawn.push(shares(frame(place, one), one, look));
  if (found.evidence) drawn.push(evidence(frame(place, found.evidence), found.evidence, look));
}

function frame(place, one) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const title = document.createElement("strong");
  title.textContent = one.title;
  const note = document.createElement("span");
  note.className = "quiet";
  note.textContent = ` ${one.note}`;
  caption.append(title, note);
  figure.append(caption);
  place.append(figure);
  return figure;
}

const clock = (seconds) => {
  const rest = Math.round(seconds % 60);
  const minutes = Math.floor(seconds / 60) % 60;
  const hours = Math.floor(seconds / 3600);
  const parts = [];
  if (hours) parts.push(`${hours}h`);
  if (minutes) parts.push(`${minutes}m`);
  if (rest || !parts.length) parts.push(`${rest}s`);
  return parts.join("");
};

function options(figure, look, series, extra) {
  const axis = { stroke: look.text, grid: { stroke: look.grid, width: 1 }, ticks: { stroke: look.grid, width: 1 } };
  return {
    width: Math.max(240, figure.clientWidth),
    height: 220,
    scales: { x: { time: false }, y: extra.scale },
    axes: [
      { ...axis, values: (_, all) => all.map(clock) },
      { ...axis, size: 56, values: extra.values, ...extra.axis },
    ],
    series: [{ label: "since it began", value: (_, x) => (x === null ? "-" : clock(x)) }, ...series],
    bands: extra.bands || [],
    cursor: { drag: { x: false, y: false } },
  };
}

const percent = (_, value) => (value === null || value === undefined ? "-" : `${+value.toPrecision(3)} %`);

function shares(figure, one, look) {
  const edge = (label, colour) => ({ label, class: "edge", stroke: colour, width: 0.5, points: { show: false }, value: percent });
  const line = (label, colour, dash) => ({ label, stroke: colour, width: 2, dash, points: { show: false }, value: percent });
  const series = [
    line("canary", look.canary), edge("canary at least", look.canary), edge("canary at most", look.canary),
    line("stable", look.stable, [7, 3]), edge("stable at least", look.stable), edge("stable at most", look.stable),
    line("limit", look.limit, [2, 4]),
  ];
  const data = [
    one.x, one.canary.observed, one.canary.lower, one.canary.upper,
    one.stable.observed, one.stable.lower, one.stable.upper, one.limit,
  ];
  return new uPlot(options(figure, look, series, {
    scale: { range: [0, one.top] },
    values: (_, all) => all.map((value) => `${+value.toPrecision(3)} %`),
    bands: [
      { series: [3, 2], fill: look.canaryBand },
      { series: [6, 5], fill: look.stableBand },
    ],
  }), data, figure);
}

function evidence(figure, one, look) {
  const odds = (_, value) => (value === null || value === undefined ? "-" : `${+value.toPrecision(2)} : 1`);
  const series = [
    { label: "evidence", stroke: look.canary, width: 2, points: { show: false }, value: odds },
    { label: "threshold", stroke: look.limit, width: 2, dash: [2, 4], points: { show: false }, value: odds },
  ];
  const strongest = Math.max(one.threshold * 10, ...one.e.filter((value) => value !== null));
  return new uPlot(options(figure, look, series, {
    scale: { distr: 3, range: [0.1, Math.min(strongest, 1e9)] },
    values: (_, all) => all.map((value) => (value === null ? "" : `${value}`)),
    axis: { splits: (_, __, least, most) => powers(least, most), filter: (_, all) => all },
  }), [one.x, one.e, one.x.map(() => one.threshold)], figure);
}

function powers(least, most) {
  const found = [];
  for (let power = Math.ceil(Math.log10(least)); power <= Math.log10(most) + 1e-9; power += 1) found.push(10 ** power);
  return found;
}

let resized = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => drawn.forEach((chart) => {
    const figure = chart.root.parentElement;
    if (Math.abs(figure.clientWidth - chart.width) > 2) {
      chart.setSize({ width: Math.max(240, figure.clientWidth), height: 220 });
    }
  }));
});

// -- logs ---------------------------------------------------------------------------------------------

function tail() {
  const log = document.getElementById("log-lines");
  if (!log) return;
  const wanted = document.getElementById("follow");
  log.scrollTop = log.scrollHeight;
  document.addEventListener("htmx:after:swap", () => { if (wanted.checked) log.scrollTop = log.scrollHeight; });
  document.addEventListener("htmx:before:request", (event) => { if (!wanted.checked) event.preventDefault(); });
  wanted.addEventListener("change", () => {
    const more = log.querySelector(".more");
    if (wanted.checked && more) htmx.ajax("GET", more.getAttribute("hx-get"), { source: more, target: more, swap: "outerHTML" });
  });
}

// -- shortcuts, dialogs, theme ------------------------------------------------------------------------

function fillKeys() {
  const list = document.getElementById("keys");
  if (!list) return;
  list.replaceChildren();
  for (const one of document.querySelectorAll("[data-key]")) {
    const key = document.createElement("dt");
    const what = document.createElement("dd");
    key.textContent = one.dataset.key;
    what.textContent = one.getAttribute("aria-label") || one.textContent.trim();
    list.append(key, what);
  }
}

let before = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog[open]")) return;
  const typed = before ? `${before} ${event.key}` : event.key;
  before = event.key === "g" && !before ? "g" : "";
  const found = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === typed);
  if (found && found.offsetParent !== null) { event.preventDefault(); found.click(); }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[commandfor]");
  if (!button) return;
  const dialog = document.getElementById(button.getAttribute("commandfor"));
  if (button.dataset.step !== undefined) {
    const step = dialog.querySelector("input[name=step]");
    if (step) step.value = button.dataset.step;
  }
  if (!("commandForElement" in HTMLButtonElement.prototype)) {
    if (button.getAttribute("command") === "close") dialog.close();
    else dialog.showModal();
  }
});

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("phoenix-theme", root.dataset.theme);
  loadCharts();
}

document.getElementById("theme")?.addEventListener("click", switchTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => loadCharts());
document.addEventListener("htmx:after:swap", () => localise(document));
localise(document);
fillKeys();
tail();
const live = document.getElementById("live");
if (live) follow(live);
loadCharts();
