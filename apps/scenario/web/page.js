// The page: where the reader is, the story of the step, and the controls.
"use strict";

const run = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const lastStep = run.steps.length;
let at = 0;

// Step 0 is the stage before anything happened.
const pictureAt = (i) => (i === 0 ? run.picture : run.steps[i - 1].picture);
const peaks = peaksOf(Array.from({ length: lastStep + 1 }, (_, i) => pictureAt(i)));

function walkList(items) {
  return el("ul", { class: "walk" }, items.map((item) => {
    if (item.call !== undefined) {
      return el("li", {}, el("code", { class: "call" }, item.call), item.text ? ` ${item.text}` : "",
        item.items ? walkList(item.items) : null);
    }
    if (item.step !== undefined) return el("li", { class: "step" }, item.step);
    if (item.remark !== undefined) return el("li", { class: "remark" }, item.remark);
    return el("li", { class: "more" }, `… ${item.more} more like those above`);
  }));
}

function operationNodes(operation, failed) {
  const head = el("div", { class: "operation" + (failed ? " failed" : operation.expectation ?
    " holds" : "") }, el("code", {}, operation.text));
  if (operation.times) head.append(el("span", { class: "times" }, ` ${operation.times} times`));
  if (operation.result && !operation.expectation) {
    head.append(el("span", { class: "result mono" }, ` → ${operation.result}`));
  }
  if (failed && run.result.expected !== undefined) {
    head.append(el("div", { class: "result mono" },
      `expected ${run.result.expected}, actual ${run.result.actual}`));
  }
  return [head, operation.walk ? walkList(operation.walk) : null];
}

function changeRows(changes) {
  const signs = { new: "+", gone: "−", changed: "~" };
  const rows = [];
  let group = "";
  for (const change of changes) {
    if (change.group !== group) {
      group = change.group;
      rows.push(el("tr", {}, el("th", { colspan: 3 }, group)));
    }
    const counts = group === "counters" || group === "I/O";
    const fields = change.fields.map((field, i) => counts ? [
      i ? ", " : "", group === "counters" ? "" : `${field.name} `,
      el("b", { title: `${field.before} → ${field.after}` }, `+${field.after - field.before}`),
    ] : [
      i ? ", " : "", `${field.name} `,
      field.before !== undefined && change.kind === "changed" ?
        el("span", { class: "before" }, field.before) : null,
      field.before !== undefined && field.after !== undefined ? " → " : "",
      field.after !== undefined ? el("b", {}, field.after) :
        change.kind === "gone" ? field.before : " gone",
    ]);
    rows.push(el("tr", { class: change.kind === "changed" ? "changed-row" : change.kind },
      el("td", { class: "sign" }, signs[change.kind]), el("td", {}, change.subject),
      el("td", {}, fields.flat())));
  }
  return rows;
}

function storyNodes() {
  if (at === 0) {
    return [el("div", { class: "panel" }, el("h2", {}, "The stage is set"),
      el("p", {}, "Nothing has happened yet. Step forward with the arrow key or the button; what a " +
        "step changes is outlined in the pictures. Point at a frame to see where it is used."))];
  }
  const step = run.steps[at - 1];
  const nodes = [];
  const card = el("div", { class: "panel" }, el("h2", {}, `${step.number}. ${step.title}`));
  if (step.narrative) {
    card.append(el("div", { class: "narrative" },
      step.narrative.split("\n").filter((p) => p).map((p) => el("p", {}, p))));
  }
  nodes.push(card);
  const path = el("div", { class: "panel", id: "path" }, el("h3", {}, "What happened"));
  for (const operation of step.operations) {
    const failed = Boolean(operation.failed);
    path.append(...operationNodes(operation, failed).filter((n) => n));
  }
  nodes.push(path);
  if (step.changes.length) {
    nodes.push(el("div", { class: "panel", id: "changes" }, el("h3", {}, "What changed"),
      el("table", { class: "changes" }, changeRows(step.changes))));
  }
  return nodes;
}

function show(step) {
  at = Math.max(0, Math.min(lastStep, step));
  byId("slider").value = at;
  byId("position").textContent = `${at} / ${lastStep}`;
  byId("first").disabled = byId("back").disabled = at === 0;
  byId("last").disabled = byId("forward").disabled = at === lastStep;
  byId("story").replaceChildren(...storyNodes());
  const picture = pictureAt(at);
  byId("pictures").replaceChildren(
    ...(picture ? drawPictures(picture, at === 0 ? null : pictureAt(at - 1), peaks) : []));
}

function light(event, on) {
  const owner = event.target instanceof Element ? event.target.closest("[data-pfn]") : null;
  if (!owner) return;
  for (const node of document.querySelectorAll(`[data-pfn="${owner.dataset.pfn}"]`)) {
    node.classList.toggle("lit", on);
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function start() {
  document.title = `${run.title} · Spillway`;
  byId("title").textContent = run.title || run.file;
  byId("machine").textContent = run.machine ? `${run.machine.text} · ${run.file}` : run.file;
  byId("slider").max = lastStep;
  const result = byId("result");
  if (run.result.end === "good") {
    result.textContent = `${run.result.operations} operations, ${run.result.expectations} ` +
      "expectations, all of which hold.";
  } else {
    result.className = "bad";
    result.textContent = `Line ${run.result.line}: ${run.result.what}` +
      (run.result.expected ? `\nexpected: ${run.result.expected}\nactual: ${run.result.actual}` : "");
  }
  byId("first").onclick = () => show(0);
  byId("back").onclick = () => show(at - 1);
  byId("forward").onclick = () => show(at + 1);
  byId("last").onclick = () => show(lastStep);
  byId("slider").oninput = (event) => show(Number(event.target.value));
  byId("theme").onclick = () =>
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: lastStep };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(moves[event.key]);
  });
  document.addEventListener("mouseover", (event) => light(event, true));
  document.addEventListener("mouseout", (event) => light(event, false));
  // A link may name a step: run.html#7.
  const wanted = Number.parseInt(location.hash.slice(1), 10);
  show(Number.isNaN(wanted) ? 0 : wanted);
}

start();
