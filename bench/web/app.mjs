// The page: a Start button, then progress and results. It posts the worker's measurements one after
// the other and repeats failed requests.

import { timerStep } from "./clock.mjs";

const $ = (id) => document.getElementById(id);
const STAGES = { load: 0.25, latency: 0.6, drift: 0.15 };
const ALIVE_MS = 10_000;
const TRIES = 6;

let plan;
let cards = [];
let worker;
let sequence = 0;
let queue = Promise.resolve();
let heartbeat;
let over = false;

// Requests to the server.

async function post(path, body) {
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, {
        method: "POST", body: JSON.stringify(body), credentials: "same-origin",
      });
    } catch (error) {
      if (attempt === TRIES) throw new Error("the computer does not respond");
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
      continue;
    }
    if (!response.ok) throw new Error(await response.text());
    return response;
  }
}

function report(message) {
  queue = queue.then(async () => {
    if (over) return;
    await post("report", { run: plan.run, sequence, message });
    sequence += 1;
  });
  return queue;
}

async function describeBrowser() {
  const data = navigator.userAgentData;
  const hints = data
    ? await data.getHighEntropyValues(["model", "platformVersion", "fullVersionList"])
    : {};
  const brands = (hints.fullVersionList ?? data?.brands ?? [])
    .filter(({ brand }) => !/not.?a.?brand/i.test(brand))
    .map(({ brand, version }) => `${brand} ${version}`);
  const system = data ? `${data.platform} ${hints.platformVersion ?? ""}`.trim() : "";
  return {
    user_agent: navigator.userAgent.slice(0, 400),
    brands: brands.join(", ").slice(0, 400),
    model: (hints.model ?? "").slice(0, 400),
    system,
    logical_cores: navigator.hardwareConcurrency ?? null,
    isolated: self.crossOriginIsolated === true,
    timer_step_ms: timerStep(),
  };
}

// The run.

async function start() {
  $("start").disabled = true;
  try {
    const device = await describeBrowser();
    plan = await (await post("start", device)).json();
    $("device").textContent = describe(device);
  } catch (error) {
    finish(false, error.message);
    return;
  }
  $("intro").hidden = true;
  $("start").hidden = true;
  $("hint").textContent = "Keep this page open and visible.";
  $("run").hidden = false;
  $("results").hidden = false;
  cards = plan.bundles.map(newCard);
  keepAwake();
  worker = new Worker("worker.mjs", { type: "module" });
  worker.onmessage = ({ data }) => hear(data);
  worker.onerror = (event) => stopWith(event.message || "the page's worker did not start");
  heartbeat = setInterval(() => report({ type: "alive" }).catch(lost), ALIVE_MS);
  worker.postMessage({ kind: "plan", plan });
  stage("load", 0);
}

async function hear(data) {
  if (data.kind === "show") {
    if (data.stage === "load") {
      $("detail").textContent = plan.bundles[data.index].name;
      stage("load", (data.index + data.share) / plan.bundles.length);
    } else {
      stage(data.stage, data.share);
    }
    return;
  }
  show(data.message);
  try {
    await report(data.message);
  } catch (error) {
    lost(error);
    return;
  }
  worker.postMessage({ kind: "posted", id: data.id });
  if (data.message.type === "done") finish(goldenIsGood());
  if (data.message.type === "failed") finish(false, data.message.message);
}

function stopWith(message) {
  report({ type: "failed", message: message.slice(0, 300) })
    .catch(() => {})
    .finally(() => finish(false, message));
}

function lost(error) {
  finish(false, error.message);
}

let lock;
async function keepAwake() {
  try {
    lock = await navigator.wakeLock?.request("screen");
  } catch {
    // Not allowed at low battery; the page asks the user to keep it visible.
  }
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && plan && !over) keepAwake();
});

// Display.

function show(message) {
  const card = cards[message.bundle];
  if (message.type === "loaded") {
    card.field("files", "intact", "good");
  } else if (message.type === "golden") {
    const { golden_months: expected, tolerance_months: tolerance } = card.plan;
    const changes = message.ages_months.map((age, i) => Math.abs(age - expected[i]));
    const mean = changes.reduce((sum, change) => sum + change, 0) / changes.length;
    const map = Math.max(...message.localizer_difference);
    const right = mean <= tolerance;
    card.good = right && map <= card.plan.localizer_tolerance;
    const wrong = right ? "localizer differs" : `differ by ${months(mean)}`;
    card.field("golden", card.good ? "match" : wrong, card.good ? "good" : "bad");
  } else if (message.type === "latency") {
    card.localize.push(...message.localize_ms);
    card.regress.push(...message.regress_ms);
    card.draw();
    stage("latency");
    $("detail").textContent = `${Math.min(...cards.map((c) => c.localize.length))} queries each`;
  } else if (message.type === "ages") {
    card.ages.push(...message.ages_months);
    card.showDrift();
    const done = cards.reduce((sum, each) => sum + each.ages.length, 0);
    stage("drift", done / (plan.drift_male.length * cards.length));
    $("detail").textContent = card.plan.name;
  }
}

function stage(name, share) {
  const names = Object.keys(STAGES);
  const titles = { load: "Loading models", latency: "Measuring latency", drift: "Measuring drift" };
  const before = names.slice(0, names.indexOf(name)).reduce((sum, key) => sum + STAGES[key], 0);
  if (share !== undefined) {
    const percent = Math.round(100 * (before + STAGES[name] * share));
    $("share").textContent = percent;
    $("bar").value = percent;
    $("arc").style.strokeDasharray = `${percent} 100`;
  }
  if ($("stage").textContent !== titles[name]) {
    $("stage").textContent = titles[name];
    $("spoken").textContent = titles[name];
  }
}

function goldenIsGood() {
  return cards.every((card) => card.good);
}

function finish(good, reason) {
  if (over) return;
  over = true;
  clearInterval(heartbeat);
  worker?.terminate();
  lock?.release();
  $("intro").hidden = true;
  $("run").hidden = true;
  $("start").hidden = true;
  $("end").hidden = false;
  const title = good ? "Done" : reason ? "Stopped" : "Done, but golden predictions differ";
  $("verdict").textContent = title;
  $("verdict").className = good ? "good" : "bad";
  $("reason").textContent =
    (reason ? `${reason.replace(/\.$/, "")}. The computer has the results so far.` : "")
    || "The computer has the report. You can close this page.";
  document.querySelector("footer").hidden = true;
  $("spoken").textContent = title;
  $("verdict").focus();
  scrollTo(0, 0);
}

function newCard(bundle) {
  const root = $("card").content.firstElementChild.cloneNode(true);
  $("results").append(root);
  root.querySelector("h2").textContent = bundle.name;
  const megabytes = Object.values(bundle.models).reduce((sum, model) => sum + model.bytes, 0) / 1e6;
  root.querySelector(".badge").textContent =
    `${bundle.precision.toUpperCase()} · ${megabytes.toFixed(1)} MB`;
  const card = { plan: bundle, localize: [], regress: [], ages: [], good: false };
  card.field = (name, text, kind) => {
    const cell = root.querySelector(`[data-field=${name}]`);
    cell.textContent = text;
    cell.className = kind ?? "";
  };
  card.draw = () => {
    const total = card.localize.map((ms, i) => ms + card.regress[i]);
    root.querySelector(".p50").textContent = milliseconds(percentile(total, 50));
    for (const key of ["localize", "regress"]) {
      const cells = root.querySelectorAll(`[data-stage=${key}] td`);
      [50, 90, 99].forEach((p, i) => {
        cells[i].textContent = milliseconds(percentile(card[key], p));
      });
    }
    sparkline(root.querySelector(".spark"), total);
  };
  card.showDrift = () => {
    const changes = card.ages.map((age, i) => Math.abs(age - bundle.float_months[i]));
    const mean = changes.reduce((sum, change) => sum + change, 0) / changes.length;
    card.field("mean", months(mean));
    card.field("most", months(Math.max(...changes)));
  };
  return card;
}

function sparkline(svg, times) {
  const top = Math.max(...times) * 1.05;
  const x = (i) => (300 * i) / Math.max(times.length - 1, 1);
  const y = (ms) => 54 - (52 * ms) / top;
  const points = times.map((ms, i) => `${x(i).toFixed(1)} ${y(ms).toFixed(1)}`);
  const line = document.createElementNS(svg.namespaceURI, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: 300, y1: 54, y2: 54 }))
    line.setAttribute(name, value);
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", `M${points.join("L")}`);
  svg.replaceChildren(line, path);
  svg.setAttribute("aria-label", `Latency of ${times.length} queries in order, from 0 to `
    + `${milliseconds(top)} ms`);
}

// The same interpolation as the report's.
function percentile(values, p) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * p) / 100;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at - Math.floor(at));
}

function milliseconds(ms) {
  return ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0);
}

function months(value) {
  return value < 0.005 ? "0.00 months" : `${value.toFixed(2)} months`;
}

function describe(device) {
  const threads = plan.threads === 1 ? "1 thread" : `${plan.threads} threads`;
  const name = device.brands || "this browser";
  return `${name}, ${plan.provider.toUpperCase()}, ${threads}`;
}

$("start").addEventListener("click", start);
