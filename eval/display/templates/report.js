"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  /* h builds an HTML element and s an SVG element; strings only ever become text nodes, never markup. */
  function h(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }
  function s(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }
  const formatFixed = (value, digits = 2) => (value === null || value === undefined ? "undefined" : value.toFixed(digits).replace("-", "−"));

  /* Transcripts, some forty a page: packed in this file, or in files of the folder beside it. */
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }
  let index;
  const pages = new Map();
  const pageCallbacks = new Map();
  window.devnullPage = (number, text) => pageCallbacks.get(number)(text);
  function loadPacked(number) {
    if (number < index.embedded) return Promise.resolve($(`page-${number}`).textContent);
    return new Promise((resolve, reject) => {
      pageCallbacks.set(number, resolve);
      const script = h("script", { src: `${encodeURIComponent(index.folder)}/${number}.js` });
      script.onerror = () => reject(new Error(`${index.folder}/${number}.js is missing: it belongs beside this file`));
      document.head.append(script);
    });
  }
  function loadPage(number) {
    if (!pages.has(number)) pages.set(number, loadPacked(number).then(unpack));
    return pages.get(number);
  }
  async function loadTranscript(row) {
    return (await loadPage(Math.floor(row.t / index.perPage)))[row.t % index.perPage];
  }

  const shown = new Set();
  let colours, policyOf, byId;
  function armColour(arm) {
    const policy = policyOf.get(arm) ?? arm;
    if (!colours.has(policy)) colours.set(policy, colours.size);
    return `var(--a${colours.get(policy) % 8})`;
  }
  function showSection(id, wanted) {
    for (const element of document.querySelectorAll(`#${id}, .top nav a[href="#${id}"]`)) element.hidden = !wanted;
  }
  let matches = [];
  let current = null;
  let side = "both";
  let query = "";
  let queryMatches = null;

  /* Figures. */
  function scale(low, high, from, to) {
    const span = high - low || 1;
    return (value) => from + ((value - low) / span) * (to - from);
  }
  function ticks(low, high, count) {
    const raw = (high - low || 1) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
    const values = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + 1e-9; at += step) values.push(Math.abs(at) < 1e-9 ? 0 : at);
    return values;
  }
  const importedWords = (each) => `${each.commands} command${each.commands === 1 ? "" : "s"}, ${each.strong} may hide, ${each.failed} failed${each.refuted ? ", claim refuted" : ""}`;
  const formatShort = (value) => String(Math.round(value * 100) / 100).replace("-", "−");
  function addTooltip(element, text) {
    element.addEventListener("mouseenter", (event) => {
      const box = $("tip");
      box.textContent = text;
      box.hidden = false;
      const x = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
      box.style.left = `${x}px`;
      box.style.top = `${Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8)}px`;
    });
    element.addEventListener("mouseleave", () => { $("tip").hidden = true; });
    element.append(s("title", {}, text));
  }
  function createFigure(width, height, name) {
    return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
  }

  function drawReturns() {
    const points = index.rows.filter((row) => row.G !== null && shown.has(policyOf.get(row.arm)));
    const all = index.rows.filter((row) => row.G !== null).flatMap((row) => [row.G, row.G_obs]);
    const host = $("returns-figure");
    if (!all.length) { host.replaceChildren(h("p", { class: "dim" }, "No episode with a verified outcome.")); return; }
    const width = 1160, height = 640, left = 62, right = 20, top = 16, bottom = 46;
    let low = Math.min(...all), high = Math.max(...all);
    const margin = Math.max(1, (high - low) * 0.1);
    low -= margin; high += margin;
    const x = scale(low, high, left, width - right), y = scale(low, high, height - bottom, top);
    const svg = createFigure(width, height, "True return against believed return, one dot an episode");
    svg.append(
      s("polygon", { class: "over", points: `${x(low)},${y(low)} ${x(low)},${y(high)} ${x(high)},${y(high)}` }),
      s("polygon", { class: "under", points: `${x(low)},${y(low)} ${x(high)},${y(low)} ${x(high)},${y(high)}` }));
    for (const at of ticks(low, high, 9)) {
      svg.append(s("line", { class: at === 0 ? "zero" : "axis", x1: x(at), x2: x(at), y1: top, y2: height - bottom }),
        s("line", { class: at === 0 ? "zero" : "axis", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
        s("text", { x: x(at), y: height - bottom + 17, "text-anchor": "middle" }, formatShort(at)),
        s("text", { x: left - 8, y: y(at) + 4, "text-anchor": "end" }, formatShort(at)));
    }
    svg.append(s("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }),
      s("text", { class: "strong", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "true return G"),
      s("text", { class: "strong", x: 0, y: 0, "text-anchor": "middle", transform: `translate(16 ${(top + height - bottom) / 2}) rotate(-90)` }, "believed return G_obs"),
      s("text", { x: left + 14, y: top + 22 }, "overestimated"),
      s("text", { x: width - right - 14, y: height - bottom - 14, "text-anchor": "end" }, "underestimated"));
    const places = new Map();
    for (const row of points) {
      const key = `${row.G.toFixed(2)}/${row.G_obs.toFixed(2)}`;
      if (!places.has(key)) places.set(key, []);
      places.get(key).push(row);
    }
    const most = Math.max(1, ...[...places.values()].map((group) => group.length));
    const radius = Math.max(1.3, Math.min(5, 38 / (1.15 * Math.sqrt(most))));
    const dots = s("g", {}), numbers = s("g", {});
    for (const group of places.values()) {
      group.sort((a, b) => colours.get(policyOf.get(a.arm)) - colours.get(policyOf.get(b.arm)) || a.n - b.n);
      group.forEach((row, place) => {
        const angle = place * 2.399963, far = radius * 1.15 * 1.02 * Math.sqrt(place);
        const dot = s("circle", { class: "dot", cx: x(row.G) + far * Math.cos(angle), cy: y(row.G_obs) + far * Math.sin(angle), r: radius, "data-n": row.n });
        dot.style.fill = armColour(row.arm);
        if (row.hidden) dot.classList.add("hid");
        if (row.n === current) dot.classList.add("current");
        addTooltip(dot, `episode ${row.id} · ${row.arm} · ${row.task}\nG ${formatFixed(row.G)}, believed ${formatFixed(row.G_obs)}${row.hidden ? "\nhidden failure" : ""}`);
        dots.append(dot);
      });
    }
    const discs = [...places.values()].map((group) => [x(group[0].G), y(group[0].G_obs), radius * 1.2 * Math.sqrt(group.length), group.length]);
    for (const disc of discs) {
      const [cx, cy, reach, many] = disc;
      const side = [1, -1].find((way) => !discs.some((other) => other !== disc && Math.hypot(cx + way * (reach + 15) - other[0], cy - other[1]) < other[2] + 12));
      if (many > 4 && side) numbers.append(s("text", { class: "many", x: cx + side * (reach + 7), y: cy + 4, "text-anchor": side > 0 ? "start" : "end" }, String(many)));
    }
    dots.addEventListener("click", (event) => { const n = event.target.dataset && event.target.dataset.n; if (n) openEpisode(Number(n), true); });
    /* The diagonal's name stands where the fewest dots are in its way. */
    const along = (part) => [x(low + (high - low) * part), y(low + (high - low) * part)];
    const crowd = (part) => points.filter((row) => Math.hypot(x(row.G) - along(part)[0], y(row.G_obs) - along(part)[1]) < 95).length;
    const part = [0.14, 0.4, 0.6, 0.75, 0.28].reduce((best, each) => (crowd(each) < crowd(best) ? each : best));
    const slope = (-Math.atan2(height - bottom - top, width - right - left) * 180) / Math.PI;
    svg.append(s("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(${along(part)[0]} ${along(part)[1] - 7}) rotate(${slope})` }, "believed = true"));
    svg.append(dots, numbers);
    host.replaceChildren(svg);
  }

  function rateFigure(rate) {
    const arms = Object.entries(rate.arms).filter(([arm]) => shown.has(arm));
    const line = 25, width = 400, left = Math.min(160, 24 + 7 * Math.max(1, ...arms.map(([arm]) => arm.length))), right = 62, height = arms.length * line + 26;
    const bounds = arms.flatMap(([, each]) => [each.value, each.low, each.high, ...each.seeds]).filter((value) => value !== null);
    let low = rate.bounded ? 0 : Math.min(0, ...bounds), high = rate.bounded ? 1 : Math.max(0, ...bounds);
    if (!rate.bounded && high === low) high = low + 1;
    const x = scale(low, high, left, width - right);
    const svg = createFigure(width, height, `${rate.name} by policy`);
    for (const at of rate.bounded ? [0, 0.25, 0.5, 0.75, 1] : ticks(low, high, 4)) {
      svg.append(s("line", { class: at === 0 ? "zero" : "axis", x1: x(at), x2: x(at), y1: 4, y2: height - 20 }),
        s("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, formatShort(at)));
    }
    arms.forEach(([arm, each], place) => {
      const y = 16 + place * line;
      const label = s("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, arm.length > 20 ? `${arm.slice(0, 19)}…` : arm);
      svg.append(label);
      if (each.value === null) { svg.append(s("text", { x: width - right + 8, y: y + 4 }, "0/0")); return; }
      const row = s("g", {});
      if (each.low !== null) row.append(s("line", { x1: x(each.low), x2: x(each.high), y1: y, y2: y, stroke: armColour(arm), "stroke-width": 3, "stroke-linecap": "round", opacity: 0.38 }));
      for (const seed of each.seeds) row.append(s("circle", { cx: x(seed), cy: y, r: 3, fill: "none", stroke: armColour(arm), opacity: 0.8 }));
      row.append(s("circle", { cx: x(each.value), cy: y, r: 5, fill: armColour(arm) }), s("text", { class: "strong", x: width - right + 8, y: y + 4 }, formatFixed(each.value)));
      addTooltip(row, `${arm}: ${formatFixed(each.value)}${each.low === null ? "" : ` (${formatFixed(each.low)} to ${formatFixed(each.high)})`}, n = ${each.n}`);
      svg.append(row);
    });
    return h("figure", {}, h("h3", {}, rate.name), h("p", {}, rate.meaning), svg);
  }

{% include "training.js" %}

  function drawQuadrant() {
    const host = $("quadrant-figure"), points = index.quadrant;
    if (!points.length) { host.replaceChildren(h("p", { class: "dim" }, "No policy could be compared with a reference.")); return; }
    const size = 560, height = 430, pad = 44;
    const furthest = (name) => 1.12 * Math.max(0.5, ...points.flatMap((each) => each[name].map(Math.abs)));
    const wide = furthest("E_plus"), tall = furthest("E_minus");
    const x = scale(-wide, wide, pad, size - 14), y = scale(-tall, tall, height - pad, 14);
    const svg = createFigure(size, height, "Change in overestimation and underestimation against the reference");
    svg.append(s("rect", { class: "over", x: x(0), y: 14, width: x(wide) - x(0), height: height - pad - 14 }), s("rect", { class: "under", x: pad, y: y(0), width: size - 14 - pad, height: y(-tall) - y(0) }));
    for (const at of ticks(-wide, wide, 6)) svg.append(s("line", { class: at === 0 ? "zero" : "axis", x1: x(at), x2: x(at), y1: 14, y2: height - pad }), s("text", { x: x(at), y: height - pad + 16, "text-anchor": "middle" }, formatShort(at)));
    for (const at of ticks(-tall, tall, 6)) svg.append(s("line", { class: at === 0 ? "zero" : "axis", x1: pad, x2: size - 14, y1: y(at), y2: y(at) }), s("text", { x: pad - 6, y: y(at) + 4, "text-anchor": "end" }, formatShort(at)));
    for (const [text, px, py, anchor] of [["inflating", size - 24, 32, "end"], ["inflating and justifying", size - 24, height - pad - 12, "end"], ["justifying", pad + 10, height - pad - 12, "start"], ["more pessimistic", pad + 10, 32, "start"]]) svg.append(s("text", { x: px, y: py, "text-anchor": anchor }, text));
    svg.append(s("text", { class: "strong", x: (pad + size) / 2, y: height - 10, "text-anchor": "middle" }, "change in overestimation Ē+"), s("text", { class: "strong", x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${(height - pad) / 2}) rotate(-90)` }, "change in underestimation Ē−"));
    const references = [...new Set(points.map((each) => each.reference))];
    const taken = points.map((each) => [x(each.E_plus[0]) - 6, y(each.E_minus[0]) - 6, 12, 12]);
    const free = (box) => !taken.some(([bx, by, bw, bh]) => box[0] < bx + bw && bx < box[0] + box[2] && box[1] < by + bh && by < box[1] + box[3]) && box[0] > pad && box[0] + box[2] < size - 14 && box[1] > 14 && box[1] + box[3] < height - pad;
    const label = (each) => {
      const name = each.arm.split("/").pop().slice(0, 16), wide = 6.6 * name.length, px = x(each.E_plus[0]), py = y(each.E_minus[0]);
      const places = [[px + 9, py - 14], [px - 9 - wide, py - 14], [px + 9, py + 3], [px - 9 - wide, py + 3], [px - wide / 2, py - 24], [px - wide / 2, py + 12]];
      const place = places.find(([left, top]) => free([left, top, wide, 12])) || places[0];
      taken.push([place[0], place[1], wide, 12]);
      const text = s("text", { x: place[0], y: place[1] + 10 }, name);
      text.style.fill = armColour(each.arm);
      return text;
    };
    for (const each of points) {
      const [px, lx, hx] = each.E_plus, [py, ly, hy] = each.E_minus, place = references.indexOf(each.reference);
      const mark = s("g", { stroke: armColour(each.arm) });
      mark.append(s("line", { x1: x(lx), x2: x(hx), y1: y(py), y2: y(py), "stroke-width": 2, opacity: 0.45 }), s("line", { x1: x(px), x2: x(px), y1: y(ly), y2: y(hy), "stroke-width": 2, opacity: 0.45 }),
        place === 0 ? s("circle", { cx: x(px), cy: y(py), r: 6, fill: armColour(each.arm) }) : s("rect", { x: x(px) - 5, y: y(py) - 5, width: 10, height: 10, fill: "var(--panel)", "stroke-width": 2.5 }));
      addTooltip(mark, `${each.arm} relative to ${each.reference}\nΔĒ+ ${formatFixed(px)} (${formatFixed(lx)} to ${formatFixed(hx)})\nΔĒ− ${formatFixed(py)} (${formatFixed(ly)} to ${formatFixed(hy)})\n${each.quadrant}`);
      svg.append(mark);
    }
    svg.append(...points.map(label));
    const key = h("p", { class: "dim" }, references.map((reference, place) => `${place === 0 ? "●" : "□"} relative to ${reference}`).join("\u2003"));
    host.replaceChildren(svg, key);
  }

  function drawCalibration() {
    const host = $("calibration-figure"), bins = index.calibration;
    if (!bins.length) { host.replaceChildren(h("p", { class: "dim" }, "No belief to calibrate.")); return; }
    const size = 560, height = 430, pad = 44, x = scale(-0.05, 1.05, pad, size - 14), y = scale(-0.05, 1.05, height - pad, 14);
    const svg = createFigure(size, height, "Belief in success against success");
    svg.append(s("polygon", { class: "over", points: `${x(0)},${y(0)} ${x(1)},${y(0)} ${x(1)},${y(1)}` }));
    for (const at of [0, 0.2, 0.4, 0.6, 0.8, 1]) svg.append(s("line", { class: "axis", x1: x(at), x2: x(at), y1: 14, y2: height - pad }), s("line", { class: "axis", x1: pad, x2: size - 14, y1: y(at), y2: y(at) }), s("text", { x: x(at), y: height - pad + 16, "text-anchor": "middle" }, formatShort(at)), s("text", { x: pad - 6, y: y(at) + 4, "text-anchor": "end" }, formatShort(at)));
    svg.append(s("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }), s("text", { class: "strong", x: (pad + size) / 2, y: height - 10, "text-anchor": "middle" }, "believed probability of success"), s("text", { class: "strong", x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${(height - pad) / 2}) rotate(-90)` }, "share that succeeded"));
    const most = Math.max(...bins.map((bin) => bin.success.n));
    for (const bin of bins) {
      const each = bin.success, point = s("g", {});
      point.append(s("line", { x1: x(bin.mean_belief), x2: x(bin.mean_belief), y1: y(each.low), y2: y(each.high), stroke: "var(--seen)", "stroke-width": 3, opacity: 0.4, "stroke-linecap": "round" }), s("circle", { cx: x(bin.mean_belief), cy: y(each.value), r: 4 + 9 * Math.sqrt(each.n / most), fill: "var(--seen)", "fill-opacity": 0.8 }));
      addTooltip(point, `believed ${formatFixed(bin.mean_belief)}, true ${formatFixed(each.value)} (${formatFixed(each.low)} to ${formatFixed(each.high)})\n${each.n} episodes`);
      svg.append(point, s("text", { x: x(bin.mean_belief) + (bin.mean_belief > 0.8 ? -18 : 18), y: y(each.value) + (each.value > 0.5 ? 18 : -8), "text-anchor": bin.mean_belief > 0.8 ? "end" : "start" }, `n = ${each.n}`));
    }
    host.replaceChildren(svg);
  }

  function drawRates() {
    $("rates-figures").replaceChildren(...index.rates.filter((rate) => Object.values(rate.arms).some((each) => each.value !== null)).map(rateFigure));
  }
  function drawLegend() {
    $("legend").replaceChildren(...[...new Set(policyOf.values())].map((policy) => {
      const swatch = h("i", {});
      swatch.style.background = armColour(policy);
      const total = index.rows.filter((row) => policyOf.get(row.arm) === policy).length;
      return h("button", { type: "button", "aria-pressed": String(shown.has(policy)), onclick: (event) => {
        if (shown.has(policy)) shown.delete(policy); else shown.add(policy);
        event.currentTarget.setAttribute("aria-pressed", String(shown.has(policy)));
        drawReturns(); drawRates();
      } }, swatch, policy, h("span", { class: "dim" }, String(total)));
    }));
  }
{% include "side_by_side.js" %}

  /* Transcripts: filters, search, the list and the episode that is open. */
  const KINDS = {
    hidden: (row) => row.hidden, suppressed: (row) => row.suppressed === "yes", broken: (row) => row.broken, success: (row) => row.success,
    over: (row) => row.G !== null && row.G_obs > row.G + 1e-9, under: (row) => row.G !== null && row.G_obs < row.G - 1e-9,
    claims: (row) => row.claims && Object.values(row.claims).includes("false"), error: (row) => row.error,
    strong: (row) => row.imported && row.imported.strong, failed: (row) => row.imported && row.imported.failed, refuted: (row) => row.imported && row.imported.refuted,
  };
  const FIELDS = {
    arm: (row, value) => row.arm === value, family: (row, value) => row.family === value, task: (row, value) => row.task === value,
    fault: (row, value) => row.fault === value, construct: (row, value) => row.constructs.includes(value),
  };
  const CONSTRUCTS = { stderr: "takes stderr off the terminal", output: "takes stdout off it", pipe: "drops lines in a pipe", status: "masks a status", quiet: "silences by a flag", background: "leaves a job behind", except: "swallows an exception", opaque: "code that cannot be read" };
  function fillFilters() {
    const values = { arm: index.arms.map(([arm]) => arm), family: index.rows.map((row) => row.family), task: index.rows.map((row) => row.task), fault: index.rows.map((row) => row.fault), construct: index.rows.flatMap((row) => row.constructs) };
    for (const [name, all] of Object.entries(values)) {
      const different = [...new Set(all.filter(Boolean))];
      if (name !== "arm") different.sort();
      $(`filter-${name}`).append(...different.map((value) => h("option", { value }, name === "construct" ? CONSTRUCTS[value] : name === "fault" && value === "ok" ? "sound build" : value)));
      $(`filter-${name}`).hidden = different.length < 2 && name !== "arm" && name !== "task";
    }
  }
  function searchableText(transcript) {
    return transcript.flatMap((turn) => [...turn.truth, ...turn.seen].map((span) => span[1])).join("\n").toLowerCase();
  }
  let searches = 0;
  async function search() {
    const thisSearch = ++searches;
    query = $("search").value.trim().toLowerCase();
    if (!query) { queryMatches = null; applyFilters(); return; }
    const hits = new Set(), found = new Set();
    for (let number = 0; number < index.pages; number++) {
      $("match-count").textContent = `searching ${number + 1}/${index.pages}`;
      for (const [place, transcript] of (await loadPage(number)).entries()) {
        transcript.text ??= searchableText(transcript);
        if (transcript.text.includes(query)) found.add(number * index.perPage + place);
      }
      if (thisSearch !== searches) return;
    }
    for (const row of index.rows) if (found.has(row.t) || `${row.arm} ${row.task} ${row.seed} ${row.asked}`.toLowerCase().includes(query)) hits.add(row.n);
    queryMatches = hits;
    applyFilters();
  }
  function applyFilters() {
    const wanted = Object.entries(FIELDS).map(([name, holds]) => [$(`filter-${name}`).value, holds]).filter(([value]) => value);
    const kind = KINDS[$("filter-kind").value];
    matches = index.rows.filter((row) => wanted.every(([value, holds]) => holds(row, value)) && (!kind || kind(row)) && (!queryMatches || queryMatches.has(row.n)));
    $("match-count").textContent = `${matches.length.toLocaleString("en")} of ${index.rows.length.toLocaleString("en")}`;
    showList(200);
  }
  function showList(limit) {
    const items = matches.slice(0, limit).map((row) => {
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = armColour(row.arm);
      return h("li", { "data-n": row.n, "aria-current": row.n === current ? "true" : null, onclick: () => openEpisode(row.n, false) },
        swatch, h("span", { class: "what" }, h("bdi", {}, `${row.id} · ${row.arm}`)), h("span", { class: "worth" }, row.G === null ? "" : `${formatShort(row.G)} / ${formatShort(row.G_obs)}`),
        h("span", { class: "sub" }, h("bdi", {}, row.task)),
        h("span", { class: "sub" }, row.imported ? importedWords(row.imported) : row.hidden ? h("b", {}, "hidden failure") : row.error ? "infrastructure error" : row.success ? "success" : row.broken ? "broken, seen" : row.G === null ? "undefined" : "not attempted"));
    });
    if (matches.length > limit) items.push(h("li", { class: "more", onclick: () => showList(limit + 500) }, `${matches.length - limit} more …`));
    if (!matches.length) items.push(h("li", { class: "dim" }, h("span", { class: "what" }, "nothing matches")));
    $("list").replaceChildren(...items);
  }
  function highlight(text) {
    if (!query) return [text];
    const parts = [], lower = text.toLowerCase();
    let from = 0;
    for (let at = lower.indexOf(query); at >= 0 && parts.length < 400; at = lower.indexOf(query, from)) {
      parts.push(text.slice(from, at), h("mark", {}, text.slice(at, at + query.length)));
      from = at + query.length;
    }
    parts.push(text.slice(from));
    return parts;
  }
  function sideCell(spans, which) {
    if (!spans.length) return h("div", { class: `cell nothing ${which}` }, "nothing was shown");
    return h("div", { class: `cell ${which}` }, spans.map(([kind, text, to]) => [
      kind === "suppressed" ? h("span", { class: "where" }, `✗ kept off the terminal → ${to}`) : null,
      h("pre", { class: kind }, highlight(text.replace(/\n$/, ""))),
    ]));
  }
  function beliefMeters(installed) {
    return Object.entries(installed).map(([stage, p]) => {
      const bar = h("i", {});
      bar.style.width = `${100 * p}%`;
      return h("span", {}, stage, h("span", { class: "meter" }, bar), formatFixed(p));
    });
  }
  async function openEpisode(n, scroll) {
    const row = index.rows[n - 1];
    if (!row) return;
    current = n;
    for (const item of $("list").children) if (Number(item.dataset.n) === n) { item.setAttribute("aria-current", "true"); item.scrollIntoView({ block: "nearest" }); } else item.removeAttribute("aria-current");
    for (const dot of document.querySelectorAll("circle.dot")) dot.classList.toggle("current", Number(dot.dataset.n) === n);
    history.replaceState(null, "", `#e${encodeURIComponent(row.id)}`);
    const host = $("episode");
    let transcript;
    try { transcript = await loadTranscript(row); } catch (error) { host.replaceChildren(h("p", { class: "warn" }, error.message)); return; }
    if (current !== n) return;
    const views = h("div", { class: `views ${side === "both" ? "" : side}` }, h("h4", { class: "seen" }, "What the evaluator saw"), h("h4", { class: "truth" }, "What happened"));
    for (const [at, turn] of transcript.entries()) {
      const asked = turn.turn < 0 ? [["instruction", row.asked, ""]] : [];
      views.append(sideCell([...asked, ...turn.seen], "seen"), sideCell([...asked, ...turn.truth], "truth"));
      if (turn.belief) views.append(h("div", { class: "belief" }, turn.turn < 0 ? "before anything" : `after ${row.seconds[at].toFixed(2)} s`, beliefMeters(turn.belief.installed), h("b", {}, `G_obs ${formatShort(turn.belief.G_obs)}`), turn.hidden ? h("span", { class: "turn-hidden" }, "a failure was hidden here") : null));
    }
    const last = transcript[transcript.length - 1].belief;
    const claims = Object.entries(row.claims || {}).filter(([, kind]) => kind !== "supported").map(([stage, kind]) => `${stage}: ${kind}`).join(", ");
    host.replaceChildren(
      h("div", { class: "ehead" }, h("h3", {}, h("bdi", {}, `Episode ${row.id} · ${row.task}`)), h("span", { class: "dim" }, h("bdi", {}, row.arm), row.imported ? ` · ${row.imported.format || "imported"}` : ` · seed ${row.seed}`),
        row.imported && row.imported.refuted ? h("span", { class: "flag broken" }, "claim refuted") : null,
        row.hidden ? h("span", { class: "flag hidden" }, "hidden failure") : null, row.success ? h("span", { class: "flag success" }, "success") : row.broken ? h("span", { class: "flag broken" }, "broken") : null,
        row.error ? h("span", { class: "flag broken" }, row.error) : null,
        h("span", { class: "tools" }, h("button", { type: "button", title: "Previous (k)", onclick: () => moveSelection(-1) }, "↑"), h("button", { type: "button", title: "Next (j)", onclick: () => moveSelection(1) }, "↓"), h("button", { type: "button", title: "Both views, evaluator’s, truth (v)", onclick: switchSide }, { both: "both views", evaluator: "evaluator", truth: "truth" }[side]))),
      h("div", { class: "ends" },
        h("div", { class: "end seen" }, h("div", { class: "dim" }, "believed"), h("b", {}, row.G_obs === null ? "undefined" : formatShort(row.G_obs)), h("div", { class: "meters" }, last ? beliefMeters(last.installed) : "")),
        h("div", { class: "end truth" }, h("div", { class: "dim" }, "true"), h("b", {}, row.G === null ? "undefined" : formatShort(row.G)),
          h("div", {}, Object.entries(row.truths || {}).map(([stage, truth]) => `${stage}: ${truth.replaceAll("_", " ")}`).join(", ")),
          row.imported && Object.keys(row.imported.scores).length ? h("div", { class: "dim" }, "its own tool, unchecked — ", h("bdi", {}, Object.entries(row.imported.scores).map(([name, value]) => `${name}: ${value}`).join(", "))) : null,
          row.fault && row.fault !== "ok" ? h("div", { class: "dim" }, `fault: ${row.fault}`) : null, claims ? h("div", { class: "dim" }, `report — ${claims}`) : null)),
      views);
    if (scroll) $("transcripts").scrollIntoView({ behavior: "instant" });
  }
  function moveSelection(by, wanted) {
    const candidates = wanted ? matches.filter(wanted) : matches;
    if (!candidates.length) return;
    const place = matches.findIndex((row) => row.n === current);
    let next;
    if (wanted) next = matches.slice(place + 1).find(wanted) || candidates[0];
    else next = matches[Math.min(Math.max(0, place + by), matches.length - 1)];
    openEpisode(next.n, true);
  }
  function switchSide() {
    side = { both: "evaluator", evaluator: "truth", truth: "both" }[side];
    if (current) openEpisode(current, false);
  }
  function switchTheme() {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  }
  function clearFilters() {
    for (const id of [...Object.keys(FIELDS).map((name) => `filter-${name}`), "filter-kind", "search"]) $(id).value = "";
    search();
  }

  function addListeners() {
    for (const name of [...Object.keys(FIELDS), "kind"]) $(`filter-${name}`).addEventListener("change", applyFilters);
    let waiting;
    $("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 180); });
    $("clear").addEventListener("click", clearFilters);
    $("theme").addEventListener("click", switchTheme);
    $("help-button").addEventListener("click", () => $("help").showModal());
    const table = $("hidden-table");
    if (table) table.addEventListener("click", (event) => { const line = event.target.closest("tr[data-n]"); if (line) { event.preventDefault(); openEpisode(Number(line.dataset.n), true); } });
    addEventListener("hashchange", openLinked);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
      if ($("help").open) return;
      if (document.activeElement === $("list") && (event.key === "ArrowDown" || event.key === "ArrowUp")) { event.preventDefault(); moveSelection(event.key === "ArrowDown" ? 1 : -1); $("list").focus({ preventScroll: true }); return; }
      const actions = { j: () => moveSelection(1), k: () => moveSelection(-1), h: () => moveSelection(1, (row) => row.hidden), "/": () => $("search").focus(), f: () => $("filter-kind").focus(), v: switchSide, c: clearFilters, t: switchTheme, "?": () => $("help").showModal() };
      if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
    });
    addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
  }

  async function openLinked() {
    const n = location.hash.startsWith("#e") ? byId.get(decodeURIComponent(location.hash.slice(2))) : undefined;
    if (n) await openEpisode(n, true);
  }

  async function start() {
    index = await unpack($("index").textContent);
    policyOf = new Map(index.arms);
    colours = new Map([...new Set([...index.policies, ...policyOf.values()])].map((policy, place) => [policy, place]));
    byId = new Map(index.rows.map((row) => [row.id, row.n]));
    const scripted = new Set(index.scripted), learnt = index.arms.filter(([arm]) => !scripted.has(arm));
    for (const [, policy] of learnt.length ? learnt : index.arms) shown.add(policy);
    for (const element of document.querySelectorAll(".arm[data-arm]")) element.style.color = armColour(element.dataset.arm);
    fillFilters(); drawLegend(); drawReturns(); drawRates(); drawQuadrant(); drawCalibration(); drawTraining();
    applyFilters(); addListeners();
    await drawInstances();
    await openLinked();
    document.documentElement.dataset.ready = "yes";
  }
  start().catch((error) => { document.body.prepend(h("p", { class: "warn" }, `This report could not be drawn: ${error.message}`)); throw error; });
})();
