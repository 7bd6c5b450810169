// The playground. All that comes from outside is written as text, never as markup.

const TOP = 5;
const SCRIPTS = {
  Devanagari: "hi", Bengali: "bn", Tamil: "ta", Telugu: "te", Kannada: "kn", Malayalam: "ml",
  Gujarati: "gu", Gurmukhi: "pa", Oriya: "or", Arabic: "ur", Sinhala: "si", Latin: "en",
};

const byId = (id) => document.getElementById(id);
const form = byId("form");
const text = byId("text");
const model = byId("model");
const other = byId("other");
const answers = byId("answers");
const threshold = byId("threshold");
const own = byId("own");

let models = {};
let lowest = null; // the chosen threshold; null: the models' own
let asked = new AbortController();

/** An element with attributes, and children that are elements or strings. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const named = (level) => (level === null ? "none" : percent(level));

/** Set a number from 0 to 1 for the style sheet. */
function share(element, value) {
  element.style.setProperty("--share", value.toFixed(3));
  return element;
}

/** Language for screen readers, by the script of a text. */
function language(string) {
  for (const [script, code] of Object.entries(SCRIPTS)) {
    if (new RegExp(`\\p{Script=${script}}`, "u").test(string)) return code;
  }
  return "";
}

/** Send a request; returns the response and its time in milliseconds. */
async function ask(path, body, signal) {
  const started = performance.now();
  const response = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
  });
  const content = await response.json();
  if (!response.ok) throw new Error(content.error ?? response.statusText);
  // The browser's network timing excludes other work of the page.
  const timed = performance.getEntriesByName(response.url).at(-1);
  const own = timed && timed.startTime >= started ? timed.responseEnd - timed.requestStart : 0;
  performance.clearResourceTimings();
  return [content, own || performance.now() - started];
}

/** Text with spans as elements. Offsets count characters like Python. */
function marked(string, spans, element) {
  const characters = Array.from(string);
  const paragraph = make("p", { class: "text", dir: "auto", lang: language(string) });
  let at = 0;
  for (const span of spans) {
    const words = characters.slice(span.start, span.end).join("");
    paragraph.append(characters.slice(at, span.start).join(""), element(span, words));
    at = span.end;
  }
  paragraph.append(characters.slice(at).join(""));
  return paragraph;
}

const highlighted = (span, words) =>
  make("mark", { title: percent(span.probability) }, words, make("small", {}, span.label));

function choices(answer) {
  const best = answer.top_k ?? [answer];
  const rows = best.map((choice) =>
    make("tr", {},
      make("th", { scope: "row" }, choice.label),
      make("td", { class: "bar", "aria-hidden": "true" }, share(make("div"), choice.probability)),
      make("td", { class: "number" }, percent(choice.probability))));
  return make("table", {},
    make("caption", {}, "Most likely labels"), make("tbody", {}, ...rows));
}

/** Abstention of a model, with its reason if the answer has one. */
function abstention(answer) {
  return `Abstains: ${(answer.reason ?? "not sure enough").replaceAll("_", " ")}`;
}

function spoken(answer) {
  const found = answer.entities ?? answer.tokens ?? [];
  const parts = found.map((span) => `${span.text}: ${span.label}`);
  if ("label" in answer) parts.unshift(`${answer.label}, ${percent(answer.probability)}`);
  if (answer.abstained) parts.unshift(abstention(answer));
  return parts.join("; ") || "no entities";
}

function answered(name, string, answer, milliseconds, signal) {
  const { version, task } = models[name];
  const article = make("article", { "aria-labelledby": `title-${name}`, "data-model": name });
  if (answer.abstained) article.className = "abstained";
  article.append(make("header", {},
    make("h2", { id: `title-${name}` }, name),
    make("p", { class: "quiet" }, `version ${version} · ${task.replaceAll("_", " ")} · answered in ${milliseconds.toFixed(1)}\u00a0ms with the network`)));
  if (answer.abstained) article.append(make("p", { class: "abstention" }, abstention(answer)));
  article.append(make("p", { class: "quiet" }, `Confidence ${percent(answer.confidence)}, threshold ${named(answer.threshold)}`));
  if ("label" in answer) {
    article.append(make("p", { class: "label" }, answer.label), choices(answer));
  }
  const found = answer.entities ?? answer.tokens;
  if (found) {
    article.append(marked(string, found, highlighted));
    if (!found.length) article.append(make("p", { class: "quiet" }, "No entities."));
  }
  if (answer.truncated) {
    article.append(make("p", { class: "quiet" }, "The text exceeds the model's maximum length: its end was ignored."));
  }
  const targets = [...("label" in answer ? [null] : []), ...(found ?? [])];
  if (targets.length) article.append(why(name, string, answer, targets, signal));
  return article;
}

/** Evidence of words for the label, or for the chosen entity or word. */
function why(name, string, answer, targets, signal) {
  const id = `why-${name}`;
  const choose = make("select", { id });
  targets.forEach((target, index) => choose.append(make("option", { value: index },
    target ? `${target.text}: ${target.label}` : answer.label)));
  const body = make("div", { "aria-live": "polite" });
  let turn = 0;
  async function explain() {
    const mine = ++turn;
    const target = targets[choose.value];
    const request = { model: name, text: string };
    if (target) request.target = { start: target.start, end: target.end, label: target.label };
    try {
      const [explanation] = await ask("/playground/explain", request, signal);
      if (mine === turn) body.replaceChildren(...evidence(string, explanation));
    } catch (error) {
      if (error.name !== "AbortError" && mine === turn) {
        body.replaceChildren(make("p", {}, `No explanation: ${error.message}`));
      }
    }
  }
  choose.addEventListener("change", explain);
  explain();
  return make("section", { class: "why", "aria-label": `Why, ${name}` },
    make("header", {}, make("label", { for: id }, "Why"), choose), body);
}

function evidence(string, explanation) {
  const most = Math.max(...explanation.parts.map((part) => Math.abs(part.evidence)), 0.05);
  const words = marked(string, explanation.parts, (part, shown) =>
    share(make("span", { class: `word ${part.evidence < 0 ? "against" : "for"}` }, shown), Math.abs(part.evidence) / most));
  const rows = explanation.parts.map((part) => make("tr", {},
    make("th", { scope: "row", dir: "auto", lang: language(part.text) }, part.text),
    make("td", { class: "number" }, `${part.evidence < 0 ? "−" : "+"}${Math.abs(part.evidence).toFixed(2)}`),
    make("td", { class: "number" }, percent(part.probability))));
  const head = ["word", "evidence", "without it"].map((title, index) =>
    make("th", { scope: "col", ...(index ? { class: "number" } : {}) }, title));
  return [words,
    make("p", { class: "quiet" }, `Solid lines: evidence for the answer; dashed lines: against it (${explanation.milliseconds.toFixed(1)}\u00a0ms).`),
    make("details", {}, make("summary", {}, "As numbers"),
      make("p", { class: "quiet" }, `Evidence: loss of log-odds of “${explanation.label}” (${percent(explanation.probability)}) without the word.`),
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)))];
}

function fail(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = !message;
}

async function answer(name, string, signal) {
  const path = `/v1/models/${encodeURIComponent(name)}:predict`;
  const body = { instances: [string], top_k: TOP, threshold: lowest };
  const [content, milliseconds] = await ask(path, body, signal);
  return [name, content.predictions[0], milliseconds];
}

async function submit() {
  const string = text.value.trim();
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  fail("");
  if (!string) {
    fail("Type or paste a text first.");
    text.focus();
    return;
  }
  answers.setAttribute("aria-busy", "true");
  try {
    await loaded; // the user may be faster than the list of models
    const results = [];
    // One after the other, so that times do not overlap.
    for (const name of new Set([model.value, other.value].filter(Boolean))) {
      results.push(await answer(name, string, signal));
    }
    answers.replaceChildren(...results.map(([name, found, milliseconds]) =>
      answered(name, string, found, milliseconds, signal)));
    byId("status").textContent = results.map(([name, found]) => `${name}: ${spoken(found)}`).join(". ");
  } catch (error) {
    if (error.name === "AbortError") return;
    answers.replaceChildren();
    byId("status").textContent = "";
    fail(`No answer: ${error.message}`);
  }
  answers.removeAttribute("aria-busy");
}

/** Show the chosen threshold, or that of the chosen model. */
function showThreshold() {
  const ofModel = models[model.value].threshold;
  threshold.value = lowest ?? ofModel ?? 0;
  byId("lowest").textContent = lowest === null ? `${named(ofModel)} (the model's)` : percent(lowest);
  own.hidden = lowest === null;
}

async function start() {
  const served = (await (await fetch("/metadata")).json()).models;
  models = Object.fromEntries(served.map((each) => [each.name, each]));
  const names = Object.keys(models);
  const options = () => names.map((name) => make("option", { value: name }, name));
  model.append(...options());
  other.append(make("option", { value: "" }, "nothing"), ...options());
  byId("second").hidden = names.length < 2;
  [threshold.min, threshold.max] = served[0].threshold_limits;
  showThreshold();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
function choose(level) {
  lowest = level;
  showThreshold();
}
const again = () => answers.childElementCount && submit();
for (const choice of [model, other, threshold]) choice.addEventListener("change", again);
model.addEventListener("change", showThreshold);
threshold.addEventListener("input", () => choose(Number(threshold.value)));
own.addEventListener("click", () => {
  choose(null);
  threshold.focus();
  again();
});
text.addEventListener("keydown", (event) => {
  // While an input method composes (Hindi from Latin keys), Enter accepts its suggestion.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
const loaded = start();
loaded.catch((error) => fail(`The list of models is not available: ${error.message}`));
