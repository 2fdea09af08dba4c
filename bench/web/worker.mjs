// Measure in a separate thread, so that the page stays responsive and drawing does not disturb the
// timings. The page posts the measurements; the next block waits until they are posted.

import { timerStep } from "./clock.mjs";

let send; // sends a message to the server; resolves when it was received
let show; // sends progress to the page

let answered = 0;
const waiting = new Map();

self.onmessage = async ({ data }) => {
  if (data.kind === "posted") {
    waiting.get(data.id)?.();
    waiting.delete(data.id);
    return;
  }
  send = (message) =>
    new Promise((resolve) => {
      waiting.set(++answered, resolve);
      self.postMessage({ kind: "post", id: answered, message });
    });
  show = (event) => self.postMessage({ kind: "show", ...event });
  try {
    await bench(data.plan);
    await send({ type: "done" });
  } catch (error) {
    const message = String(error?.message ?? error).slice(0, 300) || "unknown error";
    await send({ type: "failed", message });
  }
};

async function bench(plan) {
  await checkProvider(plan);
  const ort = await import(`./ort/${plan.runtime}`);
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = plan.threads;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const bundles = [];
  for (const index of plan.bundles.keys()) bundles.push(await open(ort, plan, index));
  await takeTimes(plan, bundles);
  for (const bundle of bundles) await runDrift(ort, plan, bundle);
}

async function checkProvider(plan) {
  if (!self.isSecureContext) throw new Error("this browser treats the page as insecure");
  if (plan.threads > 1 && !self.crossOriginIsolated)
    throw new Error("this browser does not allow threads; use --threads 1");
  if (plan.provider === "webgpu" && !(await navigator.gpu?.requestAdapter()))
    throw new Error("this browser does not support WebGPU; use --provider wasm");
  if (plan.provider === "webnn" && !navigator.ml)
    throw new Error("this browser does not support WebNN; use --provider wasm");
}

// Files.

async function fetchBytes(path, size, onShare) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  if (!size) return new Uint8Array(await response.arrayBuffer());
  const bytes = new Uint8Array(size);
  const reader = response.body.getReader();
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > size) throw new Error(`${path}: larger than in the manifest`);
    bytes.set(value, filled);
    filled += value.length;
    onShare(filled / size);
  }
  if (filled !== size) throw new Error(`${path}: truncated`);
  return bytes;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function open(ort, plan, index) {
  const { name, models } = plan.bundles[index];
  const roles = ["localizer", "regressor"];
  const total = roles.reduce((sum, role) => sum + models[role].bytes, 0);
  const files = {};
  let before = 0;
  for (const role of roles) {
    const { bytes: size, sha256: expected } = models[role];
    const onShare = (share) =>
      show({ stage: "load", index, share: (before + size * share) / total });
    files[role] = await fetchBytes(`models/${index}/${role}`, size, onShare);
    before += size;
    if ((await sha256(files[role])) !== expected)
      throw new Error(`${name}: the ${role} has changed since export (SHA-256 differs)`);
  }
  const golden = await goldenInputs(ort, plan.bundles[index], index);
  const options = { executionProviders: [plan.provider] };
  const sessions = {};
  if (index === 0) {
    // The first session compiles the library; this time must not count for the bundle.
    await (await ort.InferenceSession.create(files.localizer, options)).release();
  }
  const start = performance.now();
  for (const role of roles) {
    sessions[role] = await ort.InferenceSession.create(files[role], options);
    delete files[role];
  }
  const loaded = performance.now();
  await sessions.localizer.run(golden.working[0]);
  await sessions.regressor.run(golden.crops[0]);
  const first = performance.now();
  await send({
    type: "loaded", bundle: index, load_ms: loaded - start, first_ms: first - loaded,
  });
  const bundle = { index, plan: plan.bundles[index], sessions, golden, localize: [], regress: [] };
  await checkGolden(bundle);
  return bundle;
}

// Inputs.

async function goldenInputs(ort, plan, index) {
  const bytes = await fetchBytes(`golden/${index}`);
  const count = plan.golden_male.length;
  const area = plan.working ** 2;
  const floats = new Float32Array(bytes.buffer, 0, count * area);
  const Answers = plan.labels ? Int32Array : Float32Array;
  const answers = new Answers(bytes.buffer, count * area * 4, count * area);
  const shape = [1, 1, plan.working, plan.working];
  const working = plan.golden_male.map((_, i) => ({
    image: new ort.Tensor("float32", floats.slice(i * area, (i + 1) * area), shape),
  }));
  const crops = bytes.subarray(count * area * 8);
  return {
    working,
    answers: plan.golden_male.map((_, i) => answers.subarray(i * area, (i + 1) * area)),
    crops: plan.golden_male.map((male, i) => regressorFeeds(ort, plan, crops, i, male)),
  };
}

function regressorFeeds(ort, plan, crops, index, male) {
  const area = plan.side ** 2;
  const pixels = Float32Array.from(
    crops.subarray(index * area, (index + 1) * area), (grey) => grey / 255,
  );
  const feeds = { image: new ort.Tensor("float32", pixels, [1, 1, plan.side, plan.side]) };
  if (plan.sex) feeds.sex = new ort.Tensor("float32", [male], [1, 1]);
  return feeds;
}

async function ageOf(bundle, feeds) {
  const outputs = await bundle.sessions.regressor.run(feeds);
  const age = outputs[bundle.plan.models.regressor.output].data[0];
  if (!Number.isFinite(age)) throw new Error(`${bundle.plan.name}: a predicted age is not finite`);
  return age;
}

async function checkGolden(bundle) {
  const ages = [];
  const differences = [];
  for (const [i, answer] of bundle.golden.answers.entries()) {
    const outputs = await bundle.sessions.localizer.run(bundle.golden.working[i]);
    const map = outputs[bundle.plan.models.localizer.output].data;
    let worst = 0;
    let changed = 0;
    for (let p = 0; p < answer.length; p++) {
      worst = Math.max(worst, Math.abs(map[p] - answer[p]));
      changed += map[p] !== answer[p];
    }
    differences.push(bundle.plan.labels ? changed / answer.length : worst);
    ages.push(await ageOf(bundle, bundle.golden.crops[i]));
  }
  await send({
    type: "golden", bundle: bundle.index, ages_months: ages, localizer_difference: differences,
  });
}

// Latency.

async function takeTime(session, feeds, runs) {
  const start = performance.now();
  for (let i = 0; i < runs; i++) await session.run(feeds);
  return (performance.now() - start) / runs;
}

// Number of runs in one sample, so that the clock's resolution is at most 2 % of the sample.
async function runsPerTime(session, inputs, warmUp, step) {
  const runs = Math.max(warmUp, 1);
  const start = performance.now();
  for (let i = 0; i < runs; i++) await session.run(inputs[i % inputs.length]);
  const each = Math.max((performance.now() - start) / runs, step / 10);
  return Math.max(1, Math.ceil((50 * step) / each));
}

// Bundles run alternately, because the phone gets hotter and slower: ratios stay valid.
async function takeTimes(plan, bundles) {
  const step = timerStep();
  for (const bundle of bundles) {
    const { sessions, golden } = bundle;
    const warm = (session, inputs) => runsPerTime(session, inputs, plan.warm_up, step);
    bundle.runs = {
      localize: await warm(sessions.localizer, golden.working),
      regress: await warm(sessions.regressor, golden.crops),
    };
  }
  let query = 0;
  for (;;) {
    const size = Math.min(plan.block, plan.max_queries - query);
    for (const bundle of bundles) await takeBlock(bundle, query, size, bundles.length > 1);
    query += size;
    const share = Math.min(...bundles.map((bundle) => doneShare(plan, bundle)));
    show({ stage: "latency", share });
    if (share >= 1) return;
  }
}

function doneShare(plan, bundle) {
  const count = bundle.localize.length;
  if (count >= plan.max_queries) return 1;
  const { localize, regress } = bundle.runs;
  const sum = (times) => times.reduce((total, ms) => total + ms, 0);
  const seconds = (sum(bundle.localize) * localize + sum(bundle.regress) * regress) / 1000;
  const duration = plan.min_duration_s ? seconds / plan.min_duration_s : 1;
  return Math.max(Math.min(count / plan.min_queries, duration), count / plan.max_queries);
}

async function takeBlock(bundle, first, size, coldStart) {
  const { sessions, golden, runs } = bundle;
  const images = golden.crops.length;
  const localize = [];
  const regress = [];
  if (coldStart) {
    // Not timed: the caches hold another bundle's weights.
    await sessions.localizer.run(golden.working[first % images]);
    await sessions.regressor.run(golden.crops[first % images]);
  }
  for (let i = first; i < first + size; i++) {
    localize.push(await takeTime(sessions.localizer, golden.working[i % images], runs.localize));
    regress.push(await takeTime(sessions.regressor, golden.crops[i % images], runs.regress));
  }
  bundle.localize.push(...localize);
  bundle.regress.push(...regress);
  await send({
    type: "latency",
    bundle: bundle.index,
    localize_ms: localize,
    regress_ms: regress,
    runs_per_sample: Math.max(runs.localize, runs.regress),
  });
}

// Drift.

async function runDrift(ort, plan, bundle) {
  const images = plan.drift_male.length;
  let ages = [];
  let start = 0;
  for (let first = 0; first < images; first += plan.chunk) {
    const crops = await fetchBytes(`crops/${bundle.plan.crops}/${first}`);
    for (let i = first; i < Math.min(first + plan.chunk, images); i++) {
      const male = plan.drift_male[i];
      ages.push(await ageOf(bundle, regressorFeeds(ort, bundle.plan, crops, i - first, male)));
      if (ages.length === 16 || i === images - 1) {
        await send({ type: "ages", bundle: bundle.index, start, ages_months: ages });
        start = i + 1;
        ages = [];
      }
    }
  }
}
