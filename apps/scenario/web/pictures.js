// Pictures of the machine at one step. Each function takes the picture and the one before, draws,
// and marks what differs. All text goes in as text, never as markup.
"use strict";

const TABLE_BITS = 9;
const CELLS_MAX = 96;
const SMALL_FRAMES_FROM = 400;

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else node.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function panel(title, id, ...children) {
  return el("div", { class: "panel", id }, el("h3", {}, title), ...children);
}

const hex = (n) => "0x" + n.toString(16);
const address = (page) => hex(page * 4096);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// The class that colours what a frame holds.
function ownerClass(frame) {
  if (!frame) return "free";
  if (frame.state === "free" || frame.state === "pcp") return "free";
  if (frame.state === "reserved" || frame.state === "offline") return "boot";
  return { user: "anon", file: "file", shmem: "shmem", table: "table", boot: "boot" }[frame.owner] ||
    "kernel";
}

function frameTitle(frame, pfn) {
  const parts = [`frame ${pfn}`, frame.state];
  for (const key of ["owner", "count", "mapcount", "age", "queue", "flags", "slot"]) {
    if (frame[key] !== undefined) parts.push(`${key} ${frame[key]}`);
  }
  return parts.join(" · ");
}

function entriesByPage(task) {
  const map = new Map();
  if (task) for (const entry of task.entries) map.set(entry[0], entry);
  return map;
}

function taskIn(picture, pid) {
  return picture && picture.tasks ? picture.tasks.find((t) => t.pid === pid) : undefined;
}

function pageCell(picture, entry, page, label, before) {
  const classes = ["cell"];
  let text = "";
  let title = `${label} · ${address(page)}`;
  const data = {};
  if (!entry) {
    classes.push("none");
    title += " · no entry";
  } else {
    const [, kind, bits, target] = entry;
    title += ` · ${kind}`;
    if (kind === "present" || kind === "unmapped") {
      classes.push(ownerClass(picture.frames[target]));
      text = target;
      title += ` · frame ${target}` + (bits ? ` · ${bitWords(bits)}` : "");
      data["data-pfn"] = target;
      if (bits.includes("W")) classes.push("writable");
    } else if (kind === "swapped") {
      classes.push("swapped");
      text = target.split(":").pop();
      title += ` · ${target}`;
    } else if (kind === "zero") {
      classes.push("zero");
      text = "0";
      title += " · the shared zero page";
    }
  }
  if (!same(entry, before)) classes.push("changed");
  return el("div", { class: classes.join(" "), title, ...data }, text);
}

function bitWords(bits) {
  const words = { W: "writable", X: "executable", A: "accessed", D: "dirty" };
  return [...bits].map((b) => words[b]).join(" ");
}

function pageLabel(area, page) {
  return area.grows ? `stack-${area.end - page}p` : `${area.name}+${page - area.start}p`;
}

function drawArea(picture, task, area, oldTask, entries, oldEntries) {
  const pages = area.end - area.start;
  const old = oldTask && oldTask.areas.find(
    (a) => (area.grows ? a.end === area.end : a.start === area.start));
  const box = el("div", {
    class: "area" + (area.locked ? " locked" : "") + (old && same(old, area) ? "" : " changed"),
    style: `flex-grow:${Math.max(1, Math.log2(pages + 1)).toFixed(2)}`,
    title: `${area.name} ${address(area.start)}..${address(area.end)} · ${pages} pages · ` +
      `${area.prot}${area.shared ? " shared" : ""}${area.locked ? " locked" : ""} · ` +
      `resident ${area.rss} · in swap ${area.swap}`,
  });
  box.append(el("div", { class: "name" }, area.name),
    el("div", { class: "note" }, `${pages}p ${area.prot}${area.shared ? " shared" : ""}`));
  const cells = el("div", { class: "cells" });
  let shown = 0;
  for (let page = area.start; page < area.end; ++page) {
    const entry = entries.get(page);
    if (pages > CELLS_MAX && !entry && !oldEntries.get(page)) continue;
    if (++shown > CELLS_MAX) break;
    cells.append(pageCell(picture, entry, page, pageLabel(area, page), oldEntries.get(page)));
  }
  box.append(cells);
  if (pages > CELLS_MAX) box.append(el("div", { class: "note" }, "pages with entries only"));
  const spPage = task.sp / 4096;
  const holdsSp = spPage > area.start && spPage <= area.end && area.grows;
  if (holdsSp) {
    const part = (spPage - area.start) / pages;
    box.append(el("div", { class: "sp", style: `left:${(part * 100).toFixed(1)}%`,
      title: `stack pointer ${hex(task.sp)}` }, "▲ sp"));
  }
  return [box, holdsSp];
}

function drawSpaces(picture, before) {
  const out = [];
  for (const task of picture.tasks || []) {
    const oldTask = taskIn(before, task.pid);
    const head = el("div", { class: "space-head" }, el("b", {}, task.name),
      el("span", {}, `pid ${task.pid}`));
    const space = el("div", { class: "space" + (task.alive ? "" : " dead") }, head);
    if (!task.alive) {
      head.append(el("span", {}, `dead, exit code ${task.exit_code}`));
    } else if (task.leader !== task.pid) {
      head.append(el("span", {}, `a thread of pid ${task.leader}`));
    } else {
      head.append(el("span", {}, `rss ${task.rss} of ${task.total_vm} pages` +
        (task.swap ? `, ${task.swap} in swap` : "")));
      const entries = entriesByPage(task);
      const oldEntries = entriesByPage(oldTask);
      const bar = el("div", { class: "bar" });
      let end = null;
      for (const area of task.areas) {
        if (end !== null && area.start > end) {
          bar.append(el("div", { class: "gap",
            title: `nothing mapped: ${area.start - end} pages` }, "⋯"));
        }
        const [box, withSp] = drawArea(picture, task, area, oldTask, entries, oldEntries);
        bar.append(box);
        if (withSp) bar.classList.add("with-sp");
        end = area.end;
      }
      space.append(bar);
    }
    out.push(space);
  }
  return panel("Address spaces", "spaces", out,
    el("div", { class: "legend" }, legend("anon", "anonymous"), legend("file", "file"),
      legend("shmem", "shared memory"), legend("swapped", "in swap: slot"),
      legend("zero", "zero page"), el("span", {}, "number: frame · thick foot: writable · " +
        "outlined: changed in this step")));
}

function legend(kind, text) {
  return el("span", {}, el("i", { class: kind }), text);
}

function bitStrip(kind, bits) {
  const strip = el("span", { class: "bits mono" });
  const present = kind === "present";
  for (const [letter, on] of [["R", present || kind === "zero"], ["W", bits.includes("W")],
    ["X", bits.includes("X")], ["A", bits.includes("A")], ["D", bits.includes("D")]]) {
    strip.append(el("span", { class: on ? "on" : "off" }, letter));
  }
  return strip;
}

function drawTables(picture, before) {
  const rowsMax = 24;
  const out = [];
  for (const task of picture.tasks || []) {
    if (!task.alive || task.leader !== task.pid) continue;
    const oldEntries = entriesByPage(taskIn(before, task.pid));
    const leaves = new Map();
    for (const entry of task.entries) {
      const leaf = Math.floor(entry[0] / 512);
      if (!leaves.has(leaf)) leaves.set(leaf, []);
      leaves.get(leaf).push(entry);
    }
    const boxes = [];
    for (const [leaf, entries] of leaves) {
      const index = (level) => Math.floor(leaf / 2 ** (TABLE_BITS * level)) % 512;
      const table = el("table", {});
      // When there are too many, those that changed are the ones to see.
      let rows = entries;
      if (rows.length > rowsMax) {
        const changed = rows.filter((e) => !same(e, oldEntries.get(e[0])));
        const rest = rows.filter((e) => same(e, oldEntries.get(e[0])));
        rows = changed.concat(rest).slice(0, rowsMax).sort((a, b) => a[0] - b[0]);
      }
      for (const entry of rows) {
        const [page, kind, bits, target] = entry;
        const resident = kind === "present" || kind === "unmapped";
        table.append(el("tr", { class: same(entry, oldEntries.get(page)) ? "" : "changed",
          title: address(page), "data-pfn": resident ? target : null },
        el("td", { class: "mono" }, page % 512), el("td", {}, kind),
        el("td", {}, resident ? `frame ${target}` : target === null ? "" : target),
        el("td", {}, bitStrip(kind, bits))));
      }
      const hidden = entries.length - rows.length;
      boxes.push(el("div", { class: "leaf" },
        el("div", { class: "path mono" }, `pgd[${index(2)}] → pud[${index(1)}] → pmd[${index(0)}] → pte`),
        table, hidden > 0 ? el("div", { class: "path" }, `and ${hidden} more`) : null));
    }
    out.push(el("div", { class: "space-head" }, el("b", {}, task.name),
      el("span", {}, `${task.tables} frames of tables`)), el("div", { class: "tables" }, boxes));
  }
  return panel("Page tables", "tables", out);
}

function drawFrames(picture, before) {
  const grid = el("div", { class: "grid" });
  const small = picture.frames.length >= SMALL_FRAMES_FROM;
  picture.frames.forEach((frame, pfn) => {
    const old = before && before.frames[pfn];
    const classes = ["frame", ownerClass(frame)];
    if (small) classes.push("small");
    if (frame.slot) classes.push("cached");
    if (frame.flags && frame.flags.includes("dirty")) classes.push("dirty");
    if (frame.flags && frame.flags.includes("writeback")) classes.push("writeback");
    if (before && !same(frame, old)) classes.push("changed");
    grid.append(el("div", { class: classes.join(" "), title: frameTitle(frame, pfn),
      "data-pfn": pfn }, el("span", { class: "pfn" }, pfn),
    frame.age !== undefined ? frame.age : "",
    frame.count !== undefined ? el("span", { class: "count" }, `×${frame.count}`) : null));
  });
  return panel("Page frames", "frames", grid,
    el("div", { class: "legend" }, legend("free", "free"), legend("anon", "anonymous"),
      legend("file", "file"), legend("shmem", "shared memory"), legend("table", "page table"),
      legend("kernel", "kernel"), legend("boot", "reserved"),
      el("span", {}, "big: age · ×: references · red corner: in the swap cache · thick foot: dirty · " +
        "dashed: being written")));
}

function drawQueues(picture, before) {
  const rows = [];
  for (const [name, frames] of Object.entries(picture.queues)) {
    const old = before ? before.queues[name] || [] : frames;
    if (frames.length === 0 && old.length === 0) continue;
    const boxes = frames.slice(0, CELLS_MAX).map((pfn) => {
      const frame = picture.frames[pfn];
      return el("div", { class: `box ${ownerClass(frame)}` + (old.includes(pfn) ? "" : " changed"),
        title: frameTitle(frame, pfn), "data-pfn": pfn }, pfn,
      frame.age !== undefined ? el("i", {}, ` ${frame.age}`) : null);
    });
    if (frames.length > CELLS_MAX) boxes.push(el("span", {}, `and ${frames.length - CELLS_MAX} more`));
    rows.push(el("div", { class: "queue", id: `queue-${name}` },
      el("div", { class: "label" }, `${name} (${frames.length})`),
      el("div", { class: "grid" }, boxes)));
  }
  if (rows.length === 0) rows.push(el("div", { class: "legend" }, "all lists are empty"));
  return panel("Ageing lists, head first; small: age", "queues", rows);
}

function drawSwaps(picture, before) {
  if (!picture.swaps.length) return null;
  const out = picture.swaps.map((swap) => {
    const old = before && before.swaps.find((s) => s.name === swap.name);
    const grid = el("div", { class: "grid" });
    let highest = 64;
    swap.counts.forEach((count, i) => { if (count >= 0) highest = Math.max(highest, i + 1); });
    swap.counts.slice(0, highest).forEach((count, i) => {
      const cached = swap.cached[i + 1];
      const changed = old && (old.counts[i] !== count || old.cached[i + 1] !== cached);
      grid.append(el("div", {
        class: "slot" + (count >= 0 ? " used" : "") + (cached !== undefined ? " cached" : "") +
          (changed ? " changed" : ""),
        title: `slot ${i + 1} · ` + (count < 0 ? "free" : `${count} references`) +
          (cached !== undefined ? ` · in the swap cache, frame ${cached}` : ""),
        "data-pfn": cached,
      }, count >= 0 ? count : ""));
    });
    return el("div", {}, el("div", { class: "space-head" }, el("b", {}, swap.name),
      el("span", {}, `${swap.used} of ${swap.size} slots used, priority ${swap.priority}`)), grid);
  });
  return panel("Swap areas; number: references of the slot, framed: in the swap cache", "swaps", out);
}

function drawMemory(picture, before) {
  const m = picture.memory;
  const clean = m.inactive_clean || 0;
  const top = Math.max(m.mem_free + clean, m.watermark_high * 2, 1);
  const part = (n) => `${Math.min(100, 100 * n / top).toFixed(2)}%`;
  const gauge = el("div", { class: "gauge" + (before && before.memory.mem_free !== m.mem_free ?
    " changed" : "") },
  el("div", { class: "fill", style: `width:${part(m.mem_free)}` }),
  el("div", { class: "fill clean", style: `left:${part(m.mem_free)};width:${part(clean)}` }));
  for (const mark of ["min", "low", "high"]) {
    gauge.append(el("div", { class: "tick", style: `left:${part(m["watermark_" + mark])}` }, mark));
  }
  gauge.append(el("div", { class: "text" }, `${m.mem_free} free` + (clean ? ` + ${clean} clean` : "") +
    ` of ${m.mem_total} frames`));
  return panel("Free memory and its watermarks", "memory", gauge);
}

// A bar of parts [class, number, words], as long as its numbers are beside the largest of the run.
function stock(label, parts, whole, text, changed) {
  const track = el("div", { class: "track" });
  for (const [kind, number, words] of parts) {
    if (number <= 0) continue;
    track.append(el("i", { class: kind, title: `${number} ${words}`,
      style: `width:${(100 * number / Math.max(whole, 1)).toFixed(2)}%` }));
  }
  return el("div", { class: "stock" + (changed ? " changed" : "") },
    el("div", { class: "label" }, label), track, el("div", { class: "text" }, text));
}

// The largest stocks that the pictures show, by name.
function peaksOf(pictures) {
  const peaks = {};
  const note = (name, number) => { peaks[name] = Math.max(peaks[name] || 1, number); };
  for (const picture of pictures) {
    if (!picture) continue;
    for (const [name, cache] of Object.entries(picture.names || {})) note(name, cache.total);
    for (const disk of picture.disks) note(`disk ${disk.name}`, disk.buffers);
  }
  return peaks;
}

function drawNames(picture, before, peaks) {
  if (!picture.names) return null;
  const { dentries: d, inodes: i } = picture.names;
  const old = before && before.names ? before.names : picture.names;
  return panel("Names and inodes in memory", "names",
    stock("dentries", [["table", d.total - d.unused, "in use"],
      ["file", d.unused - d.negative, "unused"], ["zero", d.negative, "negative"]], peaks.dentries,
    `${d.total}, ${d.unused} unused, ${d.negative} negative`, !same(d, old.dentries)),
    stock("inodes", [["table", i.total - i.unused, "in use"], ["file", i.unused, "unused"]],
      peaks.inodes, `${i.total}, ${i.unused} unused, ${i.dirty} dirty`, !same(i, old.inodes)),
    el("div", { class: "legend" }, legend("table", "in use: inodes that dentries name, directories of " +
      "dentries"), legend("file", "unused: may go"), legend("zero", "negative: no such file")));
}

function drawFiles(picture, before) {
  if (!picture.files.length) return null;
  const rows = picture.files.slice(0, CELLS_MAX).map((file) => {
    const old = before && before.files.find((f) => f.number === file.number);
    const pages = Math.ceil(file.bytes / 4096);
    const busy = file.dirty + file.writeback;
    return stock(file.name, [["file", file.cached - busy, "clean"], ["swapped", busy, "dirty"]], pages,
      `${file.cached} of ${pages} pages` + (file.dirty ? `, ${file.dirty} dirty` : "") +
      (file.writeback ? `, ${file.writeback} being written` : ""), before && !same(file, old));
  });
  const hidden = picture.files.length - rows.length;
  return panel("Pages of files in the page cache", "files", rows,
    hidden > 0 ? el("div", { class: "legend" }, `and ${hidden} more`) : null,
    el("div", { class: "legend" }, legend("file", "clean"), legend("swapped", "dirty or being written")));
}

function drawDisks(picture, before, peaks) {
  if (!picture.disks.length) return null;
  return panel("Buffers of blocks", "buffers", picture.disks.map((disk) => {
    const old = before && before.disks.find((d) => d.name === disk.name);
    return stock(disk.name, [["file", disk.buffers - disk.dirty, "clean"],
      ["swapped", disk.dirty, "dirty"]], peaks[`disk ${disk.name}`],
    `${disk.buffers} in ${disk.pages} pages, ${disk.dirty} dirty`, before && !same(disk, old));
  }), el("div", { class: "legend" }, legend("file", "clean"), legend("swapped", "dirty")));
}

function drawSlabs(picture, before) {
  if (!picture.slabs.length) return null;
  const rows = picture.slabs.map((slab) => {
    const old = before && before.slabs.find((s) => s.name === slab.name);
    const grid = el("div", { class: "grid" });
    for (let i = 0; i < Math.min(slab.slabs, CELLS_MAX); ++i) {
      const active = i < slab.active_slabs;
      grid.append(el("div", { class: "slab-box " + (active ? "table" : "free"),
        title: active ? "a slab with objects in use" : "an empty slab" }));
    }
    if (slab.slabs > CELLS_MAX) grid.append(el("span", {}, `and ${slab.slabs - CELLS_MAX} more`));
    return el("div", { class: "stock" + (before && !same(slab, old) ? " changed" : "") },
      el("div", { class: "label" }, slab.name), grid,
      el("div", { class: "text" }, `${slab.active} of ${slab.total} objects, ${slab.frames} frames`));
  });
  return panel("Slabs of object caches", "slabs", rows,
    el("div", { class: "legend" }, legend("table", "a slab with objects in use"), legend("free", "an empty slab")));
}

function drawPictures(picture, before, peaks) {
  return [drawMemory, drawSpaces, drawFrames, drawQueues, drawSwaps, drawNames, drawFiles, drawDisks,
    drawSlabs, drawTables].map((draw) => draw(picture, before, peaks)).filter((node) => node !== null);
}
