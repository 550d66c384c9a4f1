// With #selftest in its address the page goes through its own steps, by the same keys and buttons
// as a reader, and writes what it found into the document, where a browser test reads it.
"use strict";

const problems = [];
window.addEventListener("error", (event) => problems.push(`error: ${event.message}`));

// Names, contents, buffers and slabs: each that the picture has is drawn with its numbers, and what
// changed is marked.
function checkCaches(step, check) {
  const { picture, changes } = run.steps[step - 1];
  const text = (id) => (byId(id) ? byId(id).textContent : "");
  for (const [name, cache] of Object.entries(picture.names || {})) {
    check(text("names").includes(`${name}${cache.total}, ${cache.unused} unused`),
      `step ${step} draws ${name} wrongly`);
  }
  for (const file of picture.files.slice(0, CELLS_MAX)) {
    check(text("files").includes(`${file.name}${file.cached} of `), `step ${step} hides ${file.name}`);
  }
  for (const disk of picture.disks) {
    check(text("buffers").includes(`${disk.name}${disk.buffers} in ${disk.pages} pages`),
      `step ${step} draws buffers of ${disk.name} wrongly`);
  }
  const boxes = picture.slabs.reduce((sum, slab) => sum + Math.min(slab.slabs, CELLS_MAX), 0);
  check(document.querySelectorAll("#slabs .slab-box").length === boxes, `step ${step} draws other slabs`);
  for (const id of ["names", "files", "buffers", "slabs"]) {
    const changed = changes.some((c) => c.group === id && c.kind !== "gone");
    check(!changed || byId(id).querySelector(".changed"), `step ${step} changed ${id} and marks none`);
  }
}

function selfTest() {
  const check = (condition, text) => { if (!condition) problems.push(text); };
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const shown = () => byId("story").textContent + byId("pictures").innerHTML;
  check(lastStep > 0, "the run has no steps");
  check(byId("pictures").querySelectorAll(".frame").length === run.machine.frames,
    "not every frame is drawn");
  press("Home");
  const views = [shown()];
  for (let i = 1; i <= lastStep; ++i) {
    if (i % 2) press("ArrowRight"); else byId("forward").click();
    check(byId("position").textContent === `${i} / ${lastStep}`, `forward to ${i} shows another step`);
    check(byId("story").textContent.includes(run.steps[i - 1].title), `step ${i} hides its title`);
    views.push(shown());
    check(views[i] !== views[i - 1], `step ${i} looks like the one before`);
    const frames = run.steps[i - 1].changes.filter((c) => c.group === "frames").length;
    const marked = document.querySelectorAll("#frames .frame.changed").length;
    check(frames === 0 || marked > 0, `step ${i} changed ${frames} frames and marks none`);
    checkCaches(i, check);
    for (const [name, list] of Object.entries(run.steps[i - 1].picture.queues)) {
      const row = byId(`queue-${name}`);
      check(list.length === 0 || (row && row.textContent.includes(`(${list.length})`)),
        `step ${i} draws the list ${name} wrongly`);
    }
  }
  check(byId("forward").disabled, "the last step can be left forward");
  for (let i = lastStep - 1; i >= 0; --i) {
    if (i % 2) press("ArrowLeft"); else byId("back").click();
    check(shown() === views[i], `back to ${i} does not show what forward showed`);
  }
  press("End");
  check(shown() === views[lastStep], "End does not lead to the last step");
  byId("slider").value = 1;
  byId("slider").dispatchEvent(new Event("input"));
  check(shown() === views[1], "the slider does not lead to step 1");
  const theme = document.documentElement.dataset.theme;
  byId("theme").click();
  check(document.documentElement.dataset.theme !== theme, "the theme does not change");
  const result = byId("selftest-result");
  result.hidden = false;
  result.textContent = problems.length ? problems.slice(0, 20).join("\n") :
    `selftest ok: ${lastStep} steps forward and back`;
  // A test may look at many pages in frames of one.
  if (parent !== window) parent.postMessage({ file: run.file, text: result.textContent }, "*");
}

if (location.hash === "#selftest") selfTest();
