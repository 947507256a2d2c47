"use strict";
/* The page's behaviour: read the numbers, draw four figures with Plotly, fill in the equations.
   All numbers come from the trace; nothing is computed here but W x, U h and products of two numbers. */

const PAGE = JSON.parse(document.getElementById("page-data").textContent);
const $ = id => document.getElementById(id);
const state = { layer: 0, sequence: 0, unit: 0, step: 0, symbol: null };

/* ---- numbers ---- */

const decoded = new Map();

function binary(blob, type) {
  if (!decoded.has(blob)) {
    const text = atob($(blob).textContent);
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    decoded.set(blob, new type(bytes.buffer));
  }
  return decoded.get(blob);
}

const layer = () => PAGE.layers[state.layer];

/* Steps `from` to `to` of one row of the sequence shown. Arrays are (sequence, row, step); codes 1, 2, ... lie
   evenly over the row's range, and 0 stands for a step that was skipped. */
function read(symbol, row, from, to) {
  const { blob, bits, rows, steps, low, unit } = layer().arrays[symbol];
  const codes = binary(blob, bits === 8 ? Uint8Array : Uint16Array);
  const start = (state.sequence * rows + row) * steps;
  return Array.from(codes.subarray(start + from, start + to), code => code ? low[row] + (code - 1) * unit[row] : null);
}

const series = (symbol, row = state.unit) => read(symbol, row, 0, layer().arrays[symbol].steps);
const allRows = symbol => layer().arrays[symbol].low.map((_, row) => series(symbol, row));
const at = (symbol, row = state.unit, step = state.step) => read(symbol, row, step, step + 1)[0];

/* The value that the step found: that of the step read before it, or of the initial state. */
function before(symbol, row = state.unit) {
  const step = state.step + (layer().go_backwards ? 1 : -1);
  return step < 0 || step >= layer().steps ? at("initial_" + symbol, row, 0) : at(symbol, row, step);
}

/* W x_t, U h_{t-1} and b of one gate (0, 1, ... in the packing order) for the unit shown. */
function parts(gate) {
  const { kernel, recurrent_kernel, bias, units } = { ...layer().weights, units: layer().units };
  const column = gate * units + state.unit, width = kernel.columns;
  const product = (weights, value) => {
    const matrix = binary(weights.blob, Float32Array);
    let sum = 0;
    for (let row = 0; row < weights.rows; row++) sum += matrix[row * width + column] * value(row);
    return sum;
  };
  return {
    wx: product(kernel, row => at("x", row)),
    uh: product(recurrent_kernel, row => before("h", row)),
    b: bias ? binary(bias.blob, Float32Array)[column] : 0,
  };
}

/* Whether the layer read each step; its gates have no value where it did not. */
const wasRead = () => series(layer().symbols.find(symbol => !("initial_" + symbol in layer().arrays)), 0).map(value => value !== null);
const onlyRead = (rows, wasReadAt = wasRead()) => rows.map(row => row.map((value, step) => wasReadAt[step] ? value : null));
const stepNames = () => layer().has_step_names ? PAGE.step_names[state.sequence] : null;

/* ---- text ---- */

const number = (value, digits = layer().digits) =>
  (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−");
const plain = value => value === null ? "?" : String(Number(value.toPrecision(4))).replace("-", "−");
const escaped = text => String(text).replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`);
const factor = value => value < 0 ? `(${number(value)})` : number(value);
const signed = value => (value < 0 ? " − " : " + ") + number(Math.abs(value));
const percent = value => (100 * value).toFixed(0).replace("-", "−") + " %";
const name = symbol => `<b class="symbol" style="color:${PAGE.colors[symbol] || "inherit"}">${symbol}</b>`;
const now = symbol => name(symbol) + "<sub>t</sub>";
const past = symbol => name(symbol) + "<sub>t−1</sub>";
const FUNCTION = { sigmoid: "σ" };

function gateRow(symbol, gate, activation, says) {
  const { wx, uh, b } = parts(gate);
  const sub = symbol === "z" ? "" : `<sub>${symbol}</sub>`;
  const f = FUNCTION[activation] || activation;
  const terms = `W${sub} x<sub>t</sub> + U${sub} ${past("h")}` + (layer().weights.bias ? ` + b${sub}` : "");
  const numbers = number(wx) + signed(uh) + (layer().weights.bias ? signed(b) : "");
  const value = at(symbol);
  const wrap = inner => f ? `${f}(${inner})` : inner;
  return row(now(symbol), wrap(terms), wrap(numbers), value, says(value));
}

const row = (left, middle, numbers, value, says, kind = "") =>
  `<tr class="${kind}"><td>${left}</td><td>= ${middle}</td><td>= ${numbers}</td><td>≈ <b>${number(value)}</b></td><td class="says">${says}</td></tr>`;

const EQUATIONS = {
  lstm() {
    const { activation, recurrent_activation } = layer();
    const [i, f, g, o, c, h] = ["i", "f", "g", "o", "c", "h"].map(symbol => at(symbol));
    const old = before("c");
    return gateRow("f", 1, recurrent_activation, v => `forget gate: ${percent(v)} of the memory stays`)
      + gateRow("i", 0, recurrent_activation, v => `input gate: ${percent(v)} of the candidate enters`)
      + gateRow("g", 2, activation, v => `candidate: pushes the memory ${v < 0 ? "down" : "up"}`)
      + gateRow("o", 3, recurrent_activation, v => `output gate: ${percent(v)} of the memory leaves`)
      + row(now("c"), `${now("f")} ${past("c")} + ${now("i")} ${now("g")}`,
            `${number(f)} · ${factor(old)} + ${number(i)} · ${factor(g)}`, c,
            `memory: ${number(f * old)} stays, ${number(i * g)} enters`, "state")
      + row(now("h"), `${now("o")} ${activation}(${now("c")})`, `${number(o)} · ${activation}(${number(c)})`, h,
            "short-term memory: what leaves", "state");
  },
  vanilla_rnn() {
    const { activation } = layer();
    return gateRow("z", 0, "", () => "pre-activation: the input and the state before, weighed")
      + row(now("h"), `${activation}(${now("z")})`, `${activation}(${number(at("z"))})`, at("h"),
            "hidden state, and the layer's output", "state");
  },
};

/* What the model gave out for this sequence (at this step, if it gives one for each), and what it should have. */
function showOutcome() {
  const text = ({ by_step, numbers, more }) => {
    const row = numbers[state.sequence];
    if (by_step && row.length !== layer().steps) return `${row.length} steps`;
    const shown = (by_step ? row[state.step] : row).map(value => typeof value === "number" ? plain(value) : value ?? "?");
    return shown.join(", ") + (more ? `, … (${more} more)` : "") + (by_step ? ` at step ${state.step}` : "");
  };
  $("outcome").innerHTML = PAGE.outcomes.map(({ name, prediction, target }) =>
    `Prediction <code>${escaped(name)}</code>: <b>${text(prediction)}</b>` + (target ? `, target: <b>${text(target)}</b>` : "")).join("<br>");
  const found = PAGE.explained;
  $("explained").textContent = typeof found === "string" ? found : layer().contributors
    ? (found.method === "occlusion" ? `Contributions: by how much ${found.target} falls when a number is replaced by that of the baseline (${found.baseline}).`
      : `Contributions (${found.method}): ${found.target} is ${plain(found.reference[state.sequence])} at the baseline (${found.baseline}); with the contributions, ${plain(found.total[state.sequence])} in all, it is ${plain(found.prediction[state.sequence])}.`)
    : "This layer has other steps than the input, so contributions are not shown beside them.";
}

function showEquations() {
  const gate = layer().kind === "lstm" ? "f" : "z";
  $("equations").innerHTML = at(gate) === null
    ? `<p class="skipped">The mask made the layer skip step ${state.step}: its state stayed as it was.</p>`
    : `<table>${EQUATIONS[layer().kind]()}</table>`;
}

/* ---- figures ---- */

const CONFIG = { responsive: true, displayModeBar: false };
const FONT = { family: "system-ui, sans-serif", size: 13, color: "#1d2329" };
const steps = () => Array.from({ length: layer().steps }, (_, step) => step);
const line = (y, label, axis, color, more = {}) =>
  ({ x: steps(), y, name: label, yaxis: axis, legend: "legend" + axis.slice(1), mode: "lines", line: { color, width: 1.8, ...more } });

const SKIPPED = "#bfbfbf";
/* PuOr of ColorBrewer: white at zero, apart from the grey of skipped steps, and told apart by any colour vision. */
const SIGNED = [[0, "#7f3b08"], [0.2, "#e08214"], [0.4, "#fee0b6"], [0.5, "#f7f7f7"], [0.6, "#d8daeb"], [0.8, "#8073ac"], [1, "#2d004b"]];
const MOST_LINES = 6;
const color = k => PAGE.features[k % PAGE.features.length];

/* Grey behind the steps that the mask made the layer skip. */
function skipped() {
  const shapes = [];
  wasRead().forEach((read, step) => {
    if (read) return;
    const last = shapes[shapes.length - 1];
    if (last && last.x1 === step - 0.5) last.x1 = step + 0.5;
    else shapes.push({ type: "rect", name: "skipped", layer: "below", xref: "x", yref: "paper", x0: step - 0.5, x1: step + 0.5, y0: 0, y1: 1, line: { width: 0 }, fillcolor: SKIPPED });
  });
  return shapes;
}

/* A heat map in a panel, white at zero, with its scale beside it. */
function signedHeat(rows, labels, axis, [low, high]) {
  const largest = Math.max(1e-12, ...rows.map(values => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0)));
  return [{ type: "heatmap", z: rows, x: steps(), y: labels, yaxis: axis, colorscale: SIGNED, zmin: -largest, zmax: largest,
    colorbar: { x: 1.01, xanchor: "left", y: (low + high) / 2, len: high - low, thickness: 10, tickvals: [-largest, 0, largest], ticktext: [-largest, 0, largest].map(value => plain(Number(value.toPrecision(2)))), tickfont: { size: 11 }, outlinewidth: 0 },
    hovertemplate: "%{y}, step %{x}: %{z:.4g}<extra></extra>" }];
}

const bar = (y, label, axis, color) => ({ type: "bar", x: steps(), y, name: label, yaxis: axis, legend: "legend" + axis.slice(1), marker: { color, line: { width: 0 } } });

/* Each panel: title of its axis, fixed range if any, traces for an axis whose panel lies between two heights. */
function panels() {
  const inputs = (axis, place) => {
    const rows = allRows("x");
    if (rows.length > MOST_LINES) return signedHeat(onlyRead(rows), layer().features, axis, place);
    return rows.map((y, k) => line(y, layer().features[k], axis, color(k)));
  };
  const contributions = (axis, place) => {
    const rows = allRows("attribution"), labels = layer().contributors;
    if (rows.length > MOST_LINES) return signedHeat(rows, labels, axis, place);
    return rows.map((y, k) => bar(y, labels[k], axis, labels.length > 1 ? color(k) : PAGE.colors.i));
  };
  const input = [{ title: "input x", draw: inputs }, ...(layer().contributors ? [{ title: "contribution", draw: contributions }] : [])];
  const one = (symbol, label) => axis => [line(series(symbol), label, axis, PAGE.colors[symbol])];
  if (layer().kind === "vanilla_rnn")
    return [...input, { title: "pre-activation", draw: one("z", "z") }, { title: "state", range: [-1.05, 1.05], draw: one("h", "h hidden state") }];
  const gates = axis => [["f", "f forget gate", "solid"], ["i", "i input gate", "dash"], ["o", "o output gate", "dot"]]
    .map(([symbol, label, dash]) => line(series(symbol), label, axis, PAGE.colors[symbol], { dash }));
  const change = axis => {
    const [f, i, g, c] = ["f", "i", "g", "c"].map(symbol => series(symbol));
    const first = at("initial_c", state.unit, 0);
    const old = layer().go_backwards ? [...c.slice(1), first] : [first, ...c.slice(0, -1)];
    return [bar(i.map((v, t) => v === null ? null : v * g[t]), "enters: i·g", axis, PAGE.colors.i),
            bar(f.map((v, t) => v === null ? null : (v - 1) * old[t]), "forgotten: −(1−f)·c", axis, PAGE.colors.f)];
  };
  const states = axis => [line(series("c"), "c long-term", axis, PAGE.colors.c),
                          line(series("h"), "h short-term", axis, PAGE.colors.h, { dash: "dot" })];
  return [...input, { title: "gates", range: [-0.04, 1.04], draw: gates }, { title: "candidate", range: [-1.05, 1.05], draw: one("g", "g candidate") },
          { title: "change of c", draw: change }, { title: "memory", draw: states }];
}

const cursor = () => ({ type: "line", xref: "x", yref: "paper", x0: state.step, x1: state.step, y0: 0, y1: 1, line: { color: "#1d2329", width: 1.2, dash: "dot" } });

/* Names of the steps for an axis of time: of some of them, if there are many. */
function stepTicks() {
  const names = stepNames();
  if (!names) return {};
  const every = Math.ceil(names.length / 40), tickvals = steps().filter(step => step % every === 0);
  return { tickmode: "array", tickvals, ticktext: tickvals.map(step => escaped(names[step])), title: { text: "" }, automargin: true };
}

const timeShapes = () => [...skipped(), cursor()];

function showTime() {
  const all = panels(), height = 1 / all.length;
  const layout = { height: 60 + 118 * all.length, margin: { l: 62, r: 20, t: 10, b: 44 }, font: FONT, barmode: "relative", bargap: 0,
    xaxis: { title: { text: "step", standoff: 6 }, range: [-0.5, layer().steps - 0.5], anchor: "y" + all.length, zeroline: false, ...stepTicks() }, shapes: timeShapes(), hovermode: "x unified" };
  const traces = all.flatMap(({ title, range, draw }, k) => {
    const id = k ? String(k + 1) : "", top = 1 - k * height;
    layout["yaxis" + id] = { title: { text: title, standoff: 8 }, nticks: 4, domain: [top - height * 0.88, top], range, zerolinecolor: "#c8ced5" };
    layout["legend" + id] = { x: 1.01, xanchor: "left", y: top, font: { size: 12 } };
    const drawn = draw("y" + id, [top - height * 0.88, top]);
    if (drawn[0].type === "heatmap") Object.assign(layout["yaxis" + id], { autorange: "reversed", showgrid: false, zeroline: false });
    return drawn;
  });
  layout.margin.r = 170;
  traces.forEach(trace => { trace.xaxis = "x"; if (trace.legend === "legendundefined") trace.legend = "legend"; });
  return Plotly.react("time", traces, layout, CONFIG);
}

const unitShapes = () => [cursor(), { type: "rect", xref: "paper", x0: 0, x1: 1, y0: state.unit - 0.5, y1: state.unit + 0.5, line: { color: "#1d2329", width: 1.2 } }];

function showUnits() {
  const signedValues = !["i", "f", "o"].includes(state.symbol), z = onlyRead(allRows(state.symbol));
  const largest = Math.max(1e-12, ...z.map(values => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0)));
  const bounds = signedValues ? { zmin: -largest, zmax: largest, colorscale: SIGNED } : { zmin: 0, zmax: 1, colorscale: "Cividis" };
  return Plotly.react("units",
    [{ type: "heatmap", z, x: steps(), ...bounds, hovertemplate: `unit %{y}, step %{x}: ${state.symbol} = %{z:.${layer().digits}f}<extra></extra>`, colorbar: { thickness: 14, title: { text: state.symbol } } }],
    { height: Math.min(620, 150 + 9 * layer().units), margin: { l: 62, r: 20, t: 10, b: 44 }, font: FONT, shapes: unitShapes(), plot_bgcolor: SKIPPED,
      xaxis: { title: { text: "step" }, showgrid: false, zeroline: false, ...stepTicks() }, yaxis: { title: { text: "unit" }, autorange: "reversed", showgrid: false, zeroline: false } }, CONFIG);
}

function showGradient() {
  const gradient = layer().gradient;
  $("verdict").textContent = gradient ? gradient.verdict : PAGE.no_gradient;
  $("gradient").hidden = !gradient;
  if (!gradient) return Plotly.purge("gradient");
  const traces = gradient.states.flatMap(({ symbol, low, mean, high }) => {
    const color = PAGE.colors[symbol], edge = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, x: steps() };
    return [{ ...edge, y: low }, { ...edge, y: high, fill: "tonexty", fillcolor: color + "22" },
            { x: steps(), y: mean, name: `‖∂L/∂${symbol}‖`, mode: "lines", line: { color, width: 2.2, dash: symbol === "h" ? "dot" : "solid" } }];
  });
  return Plotly.react("gradient", traces, { height: 320, margin: { l: 78, r: 20, t: 10, b: 44 }, font: FONT, shapes: [cursor()], hovermode: "x unified",
    xaxis: { title: { text: "step" }, range: [-0.5, layer().steps - 0.5] }, legend: { x: 1.01, xanchor: "left", y: 1 },
    yaxis: { type: "log", exponentformat: "power", title: { text: "norm of the gradient" } } }, CONFIG);
}

function showSummary() {
  const { closed, open, memory_length, saturated } = layer().summary;
  const units = layer().arrays.h.low.map((_, unit) => unit);
  const bars = (y, color, more = {}) => ({ type: "bar", x: units, y, marker: { color }, showlegend: false, hovertemplate: "unit %{x}: %{y}<extra></extra>", ...more });
  const layout = { height: 320, margin: { l: 62, r: 20, t: 34, b: 44 }, font: FONT };
  const title = (text, x) => ({ text: `<b>${text}</b>`, x, xref: "paper", y: 1.01, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false });
  if (!closed)
    return Plotly.react("summary-plot", [bars(saturated, PAGE.colors.h)],
      { ...layout, annotations: [title("Saturated: share of steps with |h| > 0.9", 0), ...(saturated.some(share => share > 0) ? [] : [
        { text: "no unit at any step", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false }])], xaxis: { title: { text: "unit" } }, yaxis: { range: [0, 1], tickformat: ".0%" } }, CONFIG);
  const gates = [["o", "output"], ["i", "input"], ["f", "forget"]];
  const rows = gates.flatMap(([gate, label]) => [[`${label} > 0.9`, open[gate]], [`${label} < 0.1`, closed[gate]]]);
  const any = rows.some(([, shares]) => shares.some(share => share > 0));
  const heat = { type: "heatmap", x: units, y: rows.map(([label]) => label), z: rows.map(([, shares]) => shares), zmin: 0, zmax: 1, colorscale: [[0, "#f7f7f7"], [1, "#0b4f8a"]], xgap: 1, ygap: 1,
    colorbar: { x: 0.5, xanchor: "left", thickness: 12, tickformat: ".0%", outlinewidth: 0 }, hovertemplate: "unit %{x}, %{y} at %{z:.0%} of the steps<extra></extra>" };
  const nothing = { text: "no gate of any unit at any step", x: 0.5, y: 0.5, xref: "x domain", yref: "y domain", showarrow: false, bgcolor: "#fff", borderpad: 6 };
  return Plotly.react("summary-plot", [heat, bars(memory_length, PAGE.colors.c, { xaxis: "x2", yaxis: "y2" })], { ...layout, margin: { ...layout.margin, l: 110 },
    annotations: [title("Saturation: share of the steps with a gate shut or open", 0), title("Memory length −1/log(mean f)", 0.62), ...(any ? [] : [nothing])],
    xaxis: { title: { text: "unit" }, domain: [0, 0.48], showgrid: false, zeroline: false }, yaxis: { showgrid: false }, plot_bgcolor: "#fff",
    xaxis2: { title: { text: "unit" }, domain: [0.62, 1], anchor: "y2" }, yaxis2: { title: { text: "steps" }, anchor: "x2", rangemode: "tozero" } }, CONFIG);
}

/* ---- controls ---- */

function showLayer() {
  const { units, steps, sequences } = layer();
  $("unit").max = units - 1;
  $("step").max = steps - 1;
  $("sequence").max = sequences - 1;
  $("unit-range").textContent = `of 0…${units - 1}`;
  $("sequence-range").textContent = `of 0…${sequences - 1}`;
  const symbols = layer().symbols;
  if (!symbols.includes(state.symbol)) state.symbol = symbols.includes("f") ? "f" : "h";
  $("symbol").replaceChildren(...symbols.map(symbol => new Option(`${symbol}  ${PAGE.meanings[symbol]}`, symbol)));
  $("symbol").value = state.symbol;
  $("layer-note").textContent = layer().note;
  $("precision").textContent = layer().precision;
  $("summary").textContent = layer().summary.text;
  showGradient();
  showSummary();
}

/* A number that is being typed is left alone until it is finished. */
function showControls(finished) {
  for (const key of ["layer", "sequence", "unit", "step", "symbol"])
    if (finished === $(key) || document.activeElement !== $(key)) $(key).value = state[key];
}

const clamp = (value, most) => Math.min(Math.max(Math.round(value) || 0, 0), most);

/* Take over the changes, correct what lies outside, and redraw what depends on them. */
function go(changes) {
  const old = { ...state };
  Object.assign(state, changes);
  state.sequence = clamp(state.sequence, layer().sequences - 1);
  state.unit = clamp(state.unit, layer().units - 1);
  state.step = clamp(state.step, layer().steps - 1);
  const changed = (...keys) => keys.some(key => state[key] !== old[key]);
  if (changed("layer")) showLayer();
  showControls();
  const names = stepNames();
  $("step-shown").textContent = `${state.step} of 0…${layer().steps - 1}` + (names ? `: ${names[state.step]}` : "");
  showOutcome();
  showEquations();
  const drawn = [];
  if (changed("layer", "sequence", "unit")) drawn.push(showTime());
  else if (changed("step")) drawn.push(Plotly.relayout("time", { shapes: timeShapes() }));
  if (changed("layer", "sequence", "symbol")) drawn.push(showUnits());
  else if (changed("step", "unit")) drawn.push(Plotly.relayout("units", { shapes: unitShapes() }));
  if (changed("step") && !changed("layer") && layer().gradient) drawn.push(Plotly.relayout("gradient", { shapes: [cursor()] }));
  return Promise.all(drawn);
}

$("layer").replaceChildren(...PAGE.layers.map(({ name, kind, units }, k) => new Option(`${name} (${PAGE.kinds[kind]}, ${units} units)`, k)));
for (const key of ["sequence", "unit", "step"]) {
  $(key).addEventListener("input", event => go({ [key]: Number(event.target.value) }));
  $(key).addEventListener("change", event => showControls(event.target));
}
$("layer").addEventListener("change", event => go({ layer: Number(event.target.value) }));
$("symbol").addEventListener("change", event => go({ symbol: event.target.value }));
$("controls").addEventListener("submit", event => event.preventDefault());

state.layer = -1;
go({ layer: 0, step: Math.floor(PAGE.layers[0].steps / 2) }).then(() => {
  $("time").on("plotly_click", ({ points }) => go({ step: points[0].x }));
  $("units").on("plotly_click", ({ points }) => go({ unit: points[0].y, step: points[0].x }));
  document.body.dataset.ready = "yes";
});
