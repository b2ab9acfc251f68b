"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const boxes = [...document.querySelectorAll(".chart")];
const drawn = new Map();  // number of a chart -> a promise of its view
let cell = -1, chosen = "";

// -- From what the page holds to rows of a chart

function rowsOf(d) {
  if (d.rows) return d.rows;
  if (d.series) return d.series.flatMap(s => s.x.map((x, k) => (
    {run: s.name, cell: s.cell, kind: s.kind, group: s.group ?? data.cells[s.cell], x, y: s.y[k], k})));
  const at = i => d.tokens[i] + "  (position " + i + ")";
  return d.weights.flatMap((row, query) => row.slice(0, d.causal ? query + 1 : row.length).map((w, key) => (
    {query, key, weight: w / 1000, from: at(query), to: at(key), writes: d.written[query - d.begin + 1] ?? "-"})));
}

// -- Colors, from the style of the page

function theme() {
  const css = getComputedStyle(document.documentElement), of = name => css.getPropertyValue("--" + name).trim();
  const ink = of("ink"), dim = of("dim"), soft = of("soft"), font = "system-ui, sans-serif";
  return {
    of,
    config: {
      background: of("paper"), font, padding: 4, view: {stroke: "transparent"},
      axis: {labelColor: dim, titleColor: ink, gridColor: soft, domainColor: soft, tickColor: soft, labelFontSize: 12,
        titleFontSize: 13, titleFontWeight: 500, titlePadding: 8, labelSeparation: 8},
      axisBand: {grid: false, ticks: false, domain: false, labelFontSize: 11, labelPadding: 3},
      legend: {labelColor: ink, orient: "bottom", direction: "vertical", labelFontSize: 12, symbolType: "circle",
        symbolOpacity: 1, symbolSize: 90, symbolStrokeWidth: 0, symbolFillColor: undefined},
      range: {category: data.colors.map(pair => pair[dark.matches ? 1 : 0]), ramp: [of("paper"), of("deep")],
        heatmap: [of("paper"), of("deep")]},
      line: {strokeCap: "round"},
      style: {
        shade: {color: of("shade"), opacity: 1}, zero: {color: dim, strokeDash: [4, 3]},
        shaded: {color: dim, align: "left", baseline: "bottom", dx: 6, fontSize: 11},
        interval: {color: data.colors[0][dark.matches ? 1 : 0], strokeWidth: 3},
        value: {color: data.colors[0][dark.matches ? 1 : 0], size: 110, opacity: 1},
        name: {color: ink, align: "left", baseline: "bottom", dy: -8, dx: 4, fontSize: 12},
        edge: {color: of("accent"), strokeWidth: 1.5, opacity: .9},
      },
    },
  };
}

// -- Drawing

function draw(i) {
  const chart = data.charts[i], box = boxes[i], {of, config} = theme();
  const spec = JSON.parse(JSON.stringify(chart.spec), (key, value) =>
    key === "value" && (value === "@accent" || value === "@dim") ? of(value.slice(1)) : value);
  spec.data = {values: rowsOf(chart.data)};
  if (!chart.size) {
    spec.width = "container";
    spec.autosize = {type: "fit-x", contains: "padding"};
    const names = spec.layer.map(one => one.encoding?.color?.scale?.domain ?? []).flat();
    const wide = 36 + 7 * Math.max(0, ...names.map(name => name.length));
    config.legend.columns = Math.max(1, Math.floor((box.clientWidth - 70) / wide));
    config.legend.labelLimit = Math.max(120, box.clientWidth - 90);
  }
  return vegaEmbed(box, spec, {
    mode: "vega-lite", renderer: "canvas", actions: false, config, defaultStyle: true,
    tooltip: {theme: dark.matches ? "dark" : "light"},
  }).then(({view}) => {
    box.style.minHeight = "";
    return set(view, cell, chosen);
  });
}

function need(i) {
  if (!drawn.has(i)) drawn.set(i, draw(i));
  return drawn.get(i);
}

async function set(view, shown, run) {
  const known = view.getState({signals: name => name === "cell" || name === "chosen"}).signals;
  if ("cell" in known && (known.cell !== shown || known.chosen !== run)) {
    await view.signal("cell", shown).signal("chosen", run).runAsync();
  }
  return view;
}

function update() {
  drawn.forEach(one => one.then(view => set(view, cell, chosen)));
}

const watch = new IntersectionObserver(entries => entries.forEach(entry => {
  if (entry.isIntersecting) {
    watch.unobserve(entry.target);
    need(boxes.indexOf(entry.target));
  }
}), {rootMargin: "400px"});
boxes.forEach(box => watch.observe(box));
const all = () => Promise.all(boxes.map((_, i) => need(i)));
addEventListener("beforeprint", all);
dark.addEventListener("change", () => {
  const again = [...drawn.keys()];
  Promise.all(drawn.values()).then(views => {
    views.forEach(view => view.finalize());
    again.forEach(i => drawn.set(i, draw(i)));
  });
});

// -- Downloads

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.querySelectorAll(".save button").forEach((button, i) => button.addEventListener("click", async () => {
  const text = await (await need(i)).toSVG();
  const name = data.charts[i].title.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").toLowerCase();
  save(new Blob([text], {type: "image/svg+xml"}), name + ".svg");
}));

// -- Tables: sort, filter, CSV, runs that stand out

const order = new Intl.Collator(undefined, {numeric: true});
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;

function compare(a, b) {  // numbers by value, before text; nothing last
  const [x, y] = [a, b].map(one => NUMBER.test(one) ? 0 : one === "" || one === "-" ? 2 : 1);
  return x - y || (x === 0 ? Number(a) - Number(b) : order.compare(a, b));
}

function sort(table, column, down) {
  const body = table.tBodies[0], of = row => row.cells[column].textContent.trim();
  const empty = row => ["", "-"].includes(of(row));
  const rows = [...body.rows].map(row => [row, of(row)]);
  rows.sort(([r, a], [s, b]) => empty(r) || empty(s) ? empty(r) - empty(s) : (down ? -1 : 1) * compare(a, b));
  body.append(...rows.map(([row]) => row));
  [...table.tHead.rows[0].cells].forEach((head, i) =>
    head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
}

document.querySelectorAll(".table").forEach(part => {
  const table = part.querySelector("table"), field = part.querySelector("input"), count = part.querySelector(".count");
  part.querySelectorAll(".sort").forEach((button, i) => button.addEventListener("click", () =>
    sort(table, i, button.parentElement.getAttribute("aria-sort") === "ascending")));
  const visible = () => [...table.tBodies[0].rows].filter(row => row.classList.length === 0);
  part.say = () => { if (count) count.textContent = visible().length + " of " + table.tBodies[0].rows.length + " rows"; };
  field?.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = [...row.cells].map(one => one.textContent).join(" ").toLowerCase();
      row.classList.toggle("out", !words.every(word => text.includes(word)));
    }
    part.say();
  });
  part.querySelector(".csv")?.addEventListener("click", event => {
    const quote = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
    const rows = [table.tHead.rows[0], ...visible()];
    const text = rows.map(row => [...row.cells].map(one => quote(one.textContent.trim())).join(",")).join("\r\n");
    save(new Blob([text + "\r\n"], {type: "text/csv"}), event.target.dataset.file);
  });
  table.addEventListener("click", event => {
    const button = event.target.closest(".run");
    if (!button) return;
    chosen = chosen === button.textContent ? "" : button.textContent;
    document.querySelectorAll(".run").forEach(one =>
      one.setAttribute("aria-pressed", String(one.textContent === chosen)));
    update();
  });
});

// -- The filter by setting

const picked = document.getElementById("cells"), said = document.getElementById("shown");
picked?.addEventListener("change", () => {
  cell = Number(picked.value);
  document.querySelectorAll("tr[data-cell]").forEach(row =>
    row.classList.toggle("hidden", cell >= 0 && Number(row.dataset.cell) !== cell));
  document.querySelectorAll(".table").forEach(part => part.say());
  said.textContent = cell < 0 ? "all are shown" : "one setting is shown";
  update();
});

window.report = {need, all, drawn};
})();
