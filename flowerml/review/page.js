"use strict";
// Names, labels and texts come from anyone's data: they are only ever set as text, never as HTML.

const token = location.hash.slice(1);
const $ = (id) => document.getElementById(id);
const AHEAD = 3; // cards whose pictures are fetched before they are shown
const KEPT = 60; // pictures in memory
const MAX_CHOICES = 200; // classes in the list at once; typing narrows it down

let review = null; // what does not change: examples, cards, classes
let state = null; // decisions, settled cards, counts
let shown = []; // the numbers of the cards in the filter
let at = 0; // the place in `shown`; its length is the summary
let busy = false; // a decision is being saved
const undoable = []; // numbers of cards, in the order they were decided on in this tab
const views = new Map(); // example -> promise of {url} or {text} or {error}

async function call(path, body) {
  const options = { headers: { authorization: `Bearer ${token}` }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  try {
    return await fetch(path, options);
  } catch {
    throw new Error("flowerml review is not answering; start it again, and open the link that it prints");
  }
}

async function start() {
  if (!token) return;
  const response = await call("/api/review");
  if (!response.ok) throw new Error(await response.text());
  review = await response.json();
  state = review.state;
  document.title = `Review of ${review.title}`;
  $("title").textContent = document.title;
  $("nothing").hidden = true;
  $("table").textContent = review.table;
  $("command").textContent = review.command;
  const total = { name: "", meaning: "all cards", count: review.cards.length };
  for (const finding of [total, ...review.findings]) {
    const text = finding.name ? `${finding.name}: ${finding.meaning} (${finding.count})` : `all cards (${finding.count})`;
    $("filter").append(new Option(text, finding.name));
  }
  filter();
}

function filter() {
  const name = $("filter").value;
  const fits = (number) => !name || review.cards[number].reasons.some((reason) => reason.finding === name);
  shown = [...review.cards.keys()].filter(fits);
  show(nextOpen(-1) ?? shown.length);
}

const cardAt = (place) => review.cards[shown[place]];
const decisionOn = (card) => state.decisions[card.example] ?? null;
const isDone = (number) => decisionOn(review.cards[number]) !== null || state.settled.includes(number);
const nameOf = (number) => review.classes[number].name;

function nextOpen(after) {
  const places = [...shown.keys()];
  const open = (place) => !isDone(shown[place]);
  return places.slice(after + 1).find(open) ?? places.slice(0, Math.max(after, 0)).find(open) ?? null;
}

function show(place) {
  at = Math.max(0, Math.min(place, shown.length));
  const summary = at >= shown.length;
  $("summary").hidden = !summary;
  $("card").hidden = summary;
  if (summary) drawSummary();
  else drawCard();
  drawProgress();
}

function drawProgress() {
  const { left, all } = state.counts;
  $("position").textContent = at < shown.length ? `${at + 1} of ${shown.length}` : "";
  $("progress").max = all;
  $("progress").value = all - left;
  $("done").textContent = `${all - left} of ${all} done`;
}

function drawCard() {
  const card = cardAt(at);
  const example = review.examples[card.example];
  const decision = decisionOn(card);
  $("card").classList.remove("new");
  void $("card").offsetWidth; // so that the animation starts again
  $("card").classList.add("new");
  $("label").textContent = nameOf(example.label);
  $("id").textContent = `${example.id}${example.split ? ` · ${example.split}` : ""}`;
  $("test").hidden = example.split !== "test";
  drawVerdict(card, decision);
  drawSuggestion(card);
  $("reasons").replaceChildren(...card.reasons.map(reasonItem));
  drawFigure($("example"), card.example, "");
  $("partners").replaceChildren(...card.partners.map(partnerFigure));
  $("examples").classList.toggle("copies", card.partners.length > 0);
  for (const kind of ["keep", "drop"]) $(kind).setAttribute("aria-pressed", String(decision?.kind === kind));
  disable($("undo"), decision === null && undoable.length === 0);
  for (let ahead = 1; ahead <= AHEAD; ahead += 1) {
    const next = at + ahead < shown.length ? cardAt(at + ahead) : null;
    for (const number of next ? [next.example, ...next.partners] : []) view(number);
  }
}

function drawVerdict(card, decision) {
  const settled = decision === null && state.settled.includes(shown[at]);
  $("verdict").hidden = decision === null && !settled;
  $("verdict").textContent = settled ? "settled by the decision on its copy" : decision ? described(decision) : "";
}

function described(decision) {
  if (decision.kind === "relabel") return `now ${nameOf(decision.label)}`;
  return decision.kind === "keep" ? "kept as it is" : "dropped";
}

const suggestion = (card) => card.reasons.find((reason) => reason.suggested !== null) ?? null;

function drawSuggestion(card) {
  const reason = suggestion(card);
  const line = $("suggestion");
  line.hidden = reason === null;
  disable($("take"), reason === null);
  $("take").querySelector("span").textContent = reason ? `It is ${nameOf(reason.suggested)}` : "No suggestion";
  if (reason === null) return;
  const strong = document.createElement("b");
  strong.textContent = nameOf(reason.suggested);
  const label = document.createElement("span");
  label.className = "soft";
  label.textContent = "suggested";
  line.replaceChildren(label, " ", strong, reason.probability === null ? "" : ` ${percent(reason.probability)}`);
}

function percent(share) {
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

function reasonItem(reason) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = reason.finding;
  item.append(name, `: ${reason.text}`);
  return item;
}

function partnerFigure(number) {
  const figure = document.createElement("figure");
  figure.append(Object.assign(document.createElement("div"), { className: "content" }), document.createElement("figcaption"));
  const example = review.examples[number];
  const decision = state.decisions[number];
  const now = decision ? `, ${described(decision)}` : "";
  drawFigure(figure, number, `its copy: ${nameOf(example.label)}, ${example.split || "no split"}${now} · ${example.id}`);
  return figure;
}

function drawFigure(figure, number, caption) {
  const box = figure.querySelector(".content");
  figure.querySelector("figcaption").textContent = caption;
  figure.dataset.example = number;
  box.replaceChildren();
  view(number).then((content) => {
    if (figure.dataset.example !== String(number)) return; // another card is shown by now
    box.replaceChildren(contentElement(content, review.examples[number]));
  });
}

function contentElement(content, example) {
  if (content.url) return Object.assign(new Image(), { src: content.url, alt: `${review.noun} labelled ${nameOf(example.label)}` });
  const element = document.createElement(content.error ? "p" : "pre");
  element.textContent = content.error ?? content.text;
  element.dir = "auto";
  if (!content.error) element.tabIndex = 0; // a long text scrolls by keys
  return element;
}

function view(number) {
  if (!views.has(number)) views.set(number, load(number));
  const content = views.get(number);
  views.delete(number); // so that the map is in the order of use
  views.set(number, content);
  if (views.size > KEPT) forget(views.keys().next().value);
  return content;
}

async function forget(number) {
  const content = await views.get(number);
  if (document.querySelector(`[data-example="${number}"] img`)) return;
  views.delete(number);
  if (content.url) URL.revokeObjectURL(content.url);
}

async function load(number) {
  try {
    const response = await call(`/api/examples/${number}`);
    if (!response.ok) return { error: `${review.noun}: ${await response.text()}` };
    const isPicture = response.headers.get("content-type").startsWith("image/");
    return isPicture ? { url: URL.createObjectURL(await response.blob()) } : { text: await response.text() };
  } catch (error) {
    views.delete(number); // to be tried again
    return { error: error.message };
  }
}

function drawSummary() {
  const counts = state.counts;
  $("summary-title").textContent = counts.left ? `${counts.left} of ${counts.all} cards are left` : "All cards are done";
  const lines = [[counts.keep, "kept as they are"], [counts.relabel, "have another class now"], [counts.drop, "dropped"],
    [counts.settled, "settled by the decision on a copy"], [counts.left, "to be decided"]];
  $("counts").replaceChildren(...lines.flatMap(([count, text]) => [
    Object.assign(document.createElement("dt"), { textContent: count }),
    Object.assign(document.createElement("dd"), { textContent: text }),
  ]));
  $("warnings").replaceChildren(...state.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("go-on").hidden = counts.keep + counts.relabel + counts.drop === 0;
  say($("summary-title").textContent);
}

function disable(button, off) {
  button.setAttribute("aria-disabled", String(off)); // stays in the order of Tab, and is announced
}

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function decide(decision) {
  if (busy || at >= shown.length) return;
  busy = true;
  const number = shown[at];
  const card = review.cards[number];
  try {
    const response = await call("/api/decisions", { example: card.example, decision, seen: decisionOn(card) });
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    const answer = isJson ? await response.json() : { error: await response.text() };
    complain(answer.error ?? "");
    if (answer.state) state = answer.state; // another tab was faster
    if (!response.ok) return show(at);
    take(answer);
    if (decision === null) return show(at);
    undoable.push(number);
    const next = nextOpen(at);
    show(next ?? shown.length);
    if (next !== null) say(`${described(answer.decision)}. ${announced()}`);
  } catch (error) {
    complain(`not saved: ${error.message}`);
  } finally {
    busy = false;
  }
}

function take(answer) {
  if (answer.decision === null) delete state.decisions[answer.example];
  else state.decisions[answer.example] = answer.decision;
  state = { ...state, settled: answer.settled, counts: answer.counts, warnings: answer.warnings };
}

function announced() {
  const card = cardAt(at);
  const reason = suggestion(card);
  const other = reason ? `, suggested ${nameOf(reason.suggested)}` : "";
  return `Card ${at + 1} of ${shown.length}: labelled ${nameOf(review.examples[card.example].label)}${other}`;
}

function keep() { decide({ kind: "keep", label: null }); }
function drop() { decide({ kind: "drop", label: null }); }
function relabel(label) { decide({ kind: "relabel", label }); }

function takeSuggestion() {
  const reason = at < shown.length ? suggestion(cardAt(at)) : null;
  if (reason) relabel(reason.suggested);
  else say("there is no suggestion for this card");
}

function undo() {
  if (busy) return;
  if (at < shown.length && decisionOn(cardAt(at)) !== null) {
    forgetUndo(shown[at]);
    decide(null).then(() => say(`undone. ${announced()}`));
    return;
  }
  const number = undoable.pop();
  if (number === undefined) return say("there is nothing to undo");
  if (!shown.includes(number)) {
    $("filter").value = "";
    shown = [...review.cards.keys()];
  }
  show(shown.indexOf(number));
  if (decisionOn(review.cards[number]) !== null) decide(null).then(() => say(`undone. ${announced()}`));
}

function forgetUndo(number) {
  const place = undoable.lastIndexOf(number);
  if (place >= 0) undoable.splice(place, 1);
}

function move(step) {
  if (!shown.length) return;
  show(at + step);
  if (at < shown.length) say(announced());
}

// The list of classes.

let choices = [];
let chosen = 0;

function openPicker() {
  if (busy || at >= shown.length) return;
  $("search").value = "";
  $("picker").showModal();
  narrow();
  $("search").focus();
}

function narrow() {
  const wanted = $("search").value.trim().toLowerCase();
  const starts = (text) => (text.toLowerCase().startsWith(wanted) ? 0 : 1);
  const fits = (each) => `${each.name} ${each.label}`.toLowerCase().includes(wanted);
  choices = [...review.classes.keys()].filter((number) => fits(review.classes[number]));
  choices.sort((one, two) => starts(review.classes[one].name) - starts(review.classes[two].name) || one - two);
  choices = choices.slice(0, MAX_CHOICES);
  $("classes").replaceChildren(...choices.map(choiceItem));
  if (!choices.length) {
    $("classes").append(Object.assign(document.createElement("li"), { className: "none", textContent: "no class of this name" }));
  }
  choose(0);
}

function choiceItem(number, place) {
  const { name, label } = review.classes[number];
  const item = Object.assign(document.createElement("li"), { id: `class-${number}`, textContent: name === label ? name : `${name} (${label})` });
  item.setAttribute("role", "option");
  item.addEventListener("click", () => finish(place));
  return item;
}

function choose(place) {
  if (!choices.length) return $("search").removeAttribute("aria-activedescendant");
  chosen = (place + choices.length) % choices.length;
  const items = [...$("classes").children];
  items.forEach((item, number) => item.setAttribute("aria-selected", String(number === chosen)));
  items[chosen].scrollIntoView({ block: "nearest" });
  $("search").setAttribute("aria-activedescendant", items[chosen].id);
}

function finish(place) {
  if (!choices.length) return;
  $("picker").close();
  relabel(choices[place]);
}

$("search").addEventListener("input", narrow);
$("search").addEventListener("keydown", (event) => {
  if (event.isComposing) return; // an input method is writing
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in steps) choose(chosen + steps[event.key]);
  else if (event.key === "Enter") finish(chosen);
  else return;
  event.preventDefault();
});
$("picker").addEventListener("click", (event) => { if (event.target === $("picker")) $("picker").close(); });

// Keys and buttons.

const KEYS = { k: keep, t: takeSuggestion, d: drop, u: undo, "/": openPicker, ArrowLeft: () => move(-1), ArrowRight: () => move(1) };

document.addEventListener("keydown", (event) => {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!review || !action || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("picker").open) return;
  if (event.target.matches("select") && event.key !== "/") return; // letters and arrows choose there
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) action();
});

const BUTTONS = { keep, take: takeSuggestion, other: openPicker, drop, undo, previous: () => move(-1), next: () => move(1),
  "to-summary": () => show(shown.length), back: () => show(nextOpen(-1) ?? 0) };
for (const [id, action] of Object.entries(BUTTONS)) {
  $(id).addEventListener("click", () => { if (review && $(id).getAttribute("aria-disabled") !== "true") action(); });
}
$("filter").addEventListener("change", () => { filter(); $("filter").blur(); });
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(review.command);
  $("copy").textContent = "Copied";
});

async function refresh() {
  if (!review || busy || document.hidden) return;
  const response = await call("/api/state");
  if (!response.ok) return;
  state = await response.json();
  show(at);
}

// Another tab may have decided on cards meanwhile.
document.addEventListener("visibilitychange", () => refresh().catch((error) => complain(error.message)));
window.addEventListener("hashchange", () => location.reload());
start().catch((error) => complain(error.message));
