  /* Over training: a figure a quantity, a line a policy; [at, value, low, high, n] a point. */
  function trainingFigure(figure) {
    const width = 400, height = 190, left = 44, right = 14, top = 10, bottom = 40;
    const every = figure.lines.flatMap((line) => line.points);
    const xs = every.map((point) => point[0]);
    const ys = figure.bounded ? [0, 1] : every.map((point) => point[1]);
    let low = Math.min(...ys), high = Math.max(...ys);
    if (high === low) { low -= 0.5; high += 0.5; }
    const first = Math.min(...xs), last = Math.max(...xs);
    const x = first === last ? () => (left + width - right) / 2 : scale(first, last, left + 6, width - right - 6);
    const y = scale(low, high, height - bottom, top);
    const svg = createFigure(width, height, `${figure.name}, ${figure.note}, over ${figure.over}`);
    for (const at of figure.bounded ? [0, 0.25, 0.5, 0.75, 1] : ticks(low, high, 4)) {
      svg.append(s("line", { class: at === 0 ? "zero" : "axis", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
        s("text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, formatShort(at)));
    }
    for (const at of first === last ? [first] : ticks(first, last, 6).filter(Number.isInteger)) svg.append(s("text", { x: x(at), y: height - 24, "text-anchor": "middle" }, formatShort(at)));
    svg.append(s("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, figure.over));
    for (const line of figure.lines) {
      const colour = armColour(line.policy), group = s("g", {});
      group.append(s("polyline", { points: line.points.map((point) => `${x(point[0])},${y(point[1])}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": line.dashed ? "5 4" : "none" }));
      if (line.points.length < 30) for (const point of line.points) {
        const mark = s("circle", { cx: x(point[0]), cy: y(point[1]), r: 3.2, fill: line.dashed ? "var(--panel)" : colour, stroke: colour, "stroke-width": 1.4 });
        addTooltip(mark, `${line.policy} ${line.label}, ${figure.over} ${point[0]}: ${formatFixed(point[1])}${point[2] === null ? "" : ` (${formatFixed(point[2])} to ${formatFixed(point[3])})`}${figure.over === "batch" ? `, n = ${point[4]}` : ""}`);
        group.append(mark);
      }
      svg.append(group);
    }
    return h("figure", {}, h("h3", {}, figure.name, " ", h("small", {}, figure.note)), svg);
  }
  function drawTraining() {
    $("batches-figures").append(...index.batches.map(trainingFigure));
    $("log-figures").append(...index.training.map(trainingFigure));
    const steps = index.steps.map((rate) => ({
      name: rate.name, note: "held out", over: "step", bounded: false,
      lines: Object.entries(rate.policies).map(([policy, points]) => ({ policy, label: "", dashed: false, points: points.filter((point) => point[1].value !== null).map(([step, each]) => [step, each.value, each.low, each.high, each.n]) })).filter((line) => line.points.length),
    })).filter((figure) => figure.lines.length);
    $("steps-figures").append(...steps.map(trainingFigure));
    const drawn = [...new Set([...index.batches, ...index.training, ...steps].flatMap((figure) => figure.lines.map((line) => policyOf.get(line.policy) ?? line.policy)))].sort((a, b) => colours.get(a) - colours.get(b));
    $("training-legend").append(...drawn.map((policy) => { const swatch = h("i", {}); swatch.style.background = armColour(policy); return h("span", {}, swatch, policy); }));
    $("batches-note").hidden = !index.batches.length;
    $("log").hidden = !index.training.length;
    $("log").open = !index.batches.length;
    showSection("training", drawn.length > 0);
  }
