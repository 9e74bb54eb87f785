  /* Side by side: one instance as several policies met it, marked against the first of them. */
  const instances = new Map();
  function findInstances() {
    const wanted = new Set(index.compared), byKey = new Map();
    for (const row of index.rows) {
      if (!wanted.has(policyOf.get(row.arm)) || row.G === null) continue;
      const key = `${row.task} · seed ${row.seed} · ${row.faulty ? "faulty" : "sound"} build`;
      if (!byKey.has(key)) byKey.set(key, new Map());
      const policies = byKey.get(key), policy = policyOf.get(row.arm);
      if (!policies.has(policy)) policies.set(policy, row);
    }
    const worth = (rows) => { const hidden = index.compared.map((policy) => Boolean(rows.get(policy) && rows.get(policy).hidden)); return (hidden[1] ? 4 : 0) - (hidden[0] ? 2 : 0) - (hidden[2] ? 1 : 0) + rows.size; };
    const found = [...byKey].filter(([, rows]) => rows.size > 1).sort((a, b) => worth(b[1]) - worth(a[1])).slice(0, 200);
    for (const [key, rows] of found) instances.set(key, rows);
  }
  /* Lines of an episode: [kind, text]. Kinds: command, shown, suppressed, report. */
  function episodeLines(transcript) {
    const lines = [];
    for (const turn of transcript) for (const [kind, text] of turn.truth) {
      if (!["command", "shown", "suppressed", "report", "message"].includes(kind)) continue;
      for (const line of text.replace(/\n$/, "").split("\n")) lines.push([kind, line]);
    }
    return lines.slice(0, 400);
  }
  /* Longest common subsequence of two lists: ["-", of a], ["+", of b] or ["=", of b, of a]. */
  function difference(a, b, same) {
    const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) table[i][j] = same(a[i], b[j]) ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    const edits = [];
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && same(a[i], b[j])) edits.push(["=", b[j++], a[i++]]);
      else if (i < a.length && (j === b.length || table[i + 1][j] >= table[i][j + 1])) edits.push(["-", a[i++]]);
      else edits.push(["+", b[j++]]);
    }
    return edits;
  }
  const words = (text) => text.match(/\s+|[^\s]+/g) || [];
  const markWords = (before, after) => difference(words(before), words(after), (a, b) => a === b).map(([mark, word]) => (mark === "=" ? word : h(mark === "+" ? "ins" : "del", {}, word)));
  /* Lines that stand for one another: the same, both reports, or commands that begin with the same two words. */
  function standsFor(a, b) {
    if (a[0] !== b[0]) return false;
    const begin = (text) => words(text).slice(0, 3).join("");
    return a[1] === b[1] || a[0] === "report" || (a[0] === "command" && begin(a[1]) === begin(b[1]));
  }
  function diffColumn(lines, base) {
    if (!base) return lines.map(([kind, text]) => h("pre", { class: kind }, text || " "));
    return difference(base, lines, standsFor).map(([mark, [kind, text], before]) => {
      if (mark === "=") return h("pre", { class: kind }, before[1] === text ? text || " " : markWords(before[1], text));
      if (kind === "suppressed") return mark === "+" ? h("pre", { class: kind }, text || " ") : null;
      return h("pre", { class: kind }, h(mark === "+" ? "ins" : "del", {}, text || " "));
    });
  }
  async function showInstance() {
    const rows = instances.get($("instance").value);
    if (!rows) return;
    const chosen = index.compared.filter((policy) => rows.has(policy)).map((policy) => rows.get(policy));
    let transcripts;
    try { transcripts = await Promise.all(chosen.map(loadTranscript)); } catch (error) { $("columns").replaceChildren(h("p", { class: "warn" }, error.message)); return; }
    const lines = transcripts.map(episodeLines);
    $("columns").replaceChildren(...chosen.map((row, place) => {
      const name = h("b", {}, row.arm);
      name.style.color = armColour(row.arm);
      return h("div", { class: "column" }, h("h3", {}, name), h("p", { class: "dim" }, h("a", { href: `#e${encodeURIComponent(row.id)}` }, `episode ${row.id}`), ` · true ${formatShort(row.G)}, believed ${formatShort(row.G_obs)}`, row.hidden ? [" · ", h("span", { class: "turn-hidden" }, "hidden failure")] : row.success ? " · success" : row.broken ? " · broken, seen" : " · not attempted"),
        h("div", { class: "cell" }, diffColumn(lines[place], place ? lines[0] : null)));
    }));
    document.querySelector("#columns").style.setProperty("--columns", chosen.length);
  }
  function drawInstances() {
    findInstances();
    showSection("beside", instances.size > 0);
    if (!instances.size) return Promise.resolve();
    $("instance").append(...[...instances.keys()].map((key) => h("option", { value: key }, key)));
    $("instance-note").textContent = instances.size === 1 ? "1 instance" : `${instances.size} instances, the most telling first`;
    $("instance").addEventListener("change", showInstance);
    return showInstance();
  }
