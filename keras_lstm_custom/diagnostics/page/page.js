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
  if (row >= rows) return Array(to - from).fill(null); // a projected h has fewer units than the rest
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

/* The column of a gate's block for the unit shown; null where the weights are not packed by gate. */
function column(weights, gate) {
  const number = gate ? layer().gates.indexOf(gate) : 0;
  return weights && number >= 0 && state.unit < layer().columns ? number * layer().columns + state.unit : null;
}

/* W x_t or U h_{t-1} of one gate for the unit shown, `value` being the vector's numbers; null where there is none. */
function product(weights, gate, value) {
  const k = column(weights, gate);
  if (k === null) return null;
  const matrix = binary(weights.blob, Float32Array);
  let sum = 0;
  for (let row = 0; row < weights.rows; row++) sum += matrix[row * weights.columns + k] * value(row);
  return sum;
}

function biasOf(gate, row) {
  const { bias } = layer().weights, k = column(bias, gate);
  return k === null || row >= bias.rows ? null : binary(bias.blob, Float32Array)[row * bias.columns + k];
}

/* Whether the layer read each step; its gates have no value where it did not. */
const wasRead = () => series("read", 0).map(value => value !== null);
const onlyRead = (rows, wasReadAt = wasRead()) => rows.map(row => row.map((value, step) => wasReadAt[step] ? value : null));
const stepNames = () => layer().has_step_names ? PAGE.step_names[state.sequence] : null;

/* ---- text ---- */

/* A state without a number is one that starts from minus infinity. */
const number = (value, digits = layer().digits) => value === null ? "−∞" :
  (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−");
const plain = value => value === null ? "?" : String(Number(value.toPrecision(4))).replace("-", "−");
const escaped = text => String(text).replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`);
const factor = value => value === null || value < 0 ? `(${number(value)})` : number(value);
const signed = value => (value === null || value < 0 ? " − " : " + ") + (value === null ? "∞" : number(Math.abs(value)));
const percent = value => (100 * value).toFixed(0).replace("-", "−") + " %";
const name = symbol => `<b class="symbol" style="color:${layer().colors[symbol] || "inherit"}">${escaped(symbol)}</b>`;
const now = symbol => name(symbol) + "<sub>t</sub>";
const past = symbol => name(symbol) + "<sub>t−1</sub>";
const FUNCTION = { sigmoid: "σ" };

/* ---- formulas: a little LaTeX, as text and with the step's numbers in place of its symbols ---- */

const TOKENS = [
  [/([WU])(?:_(\w+))? (x_t|h_\{t-1\}|\(([^()]*)\))/y, ([, letter, gate, vector, inner]) => {
    const factors = inner === undefined ? [vector] : inner.split(" \\odot ");
    const value = row => factors.map(factor => valueOf(factor, row)).reduce((a, b) => a * b);
    const weights = layer().weights[letter === "W" ? "kernel" : "recurrent_kernel"];
    const shown = factors.map(written).join(" ");
    return { html: `${letter}${sub(gate)} ${inner === undefined ? shown : `(${shown})`}`, value: product(weights, gate, value) };
  }],
  [/([bd])(?:_(\w+))?(?!\w)/y, ([, letter, gate]) => ({ html: letter + sub(gate), value: biasOf(gate, letter === "b" ? 0 : 1) })],
  [/([A-Za-z]\w*?)_(?:t(?!\w)|\{t-1\})/y, ([text, symbol]) => symbol in layer().about ? { html: written(text), value: valueOf(text, state.unit) } : null],
  [/([A-Za-z])_(\w+)/y, ([text, letter, gate]) => ({ html: letter + sub(gate), value: layer().vectors[text]?.[state.unit] })],
  [/\\tanh/y, () => literal(layer().activation || "tanh")],
  [/\\sigma/y, () => literal({ sigmoid: "σ" }[layer().recurrent_activation] || layer().recurrent_activation || "σ")],
  [/\\operatorname\{(\w+)\}(?:_\{([^}]*)\})?/y, ([, text, below]) => literal(text + sub(below))],
  [/\\tilde (\w)_t/y, ([, symbol]) => literal(`${symbol}\u0303<sub>t</sub>`)],
  [/\\gamma_(\w+)/y, ([, gate]) => literal("γ" + sub(gate))],
  [/ \\odot /y, () => ({ html: " ", text: " · " })],
  [/\\log(?=\\)/y, () => literal("log ")],
  [/\\(\w+)/y, ([, text]) => literal(text)],
  [/ - /y, () => literal(" − ")],
  [/[^]/y, ([text]) => literal(escaped(text))],
];
const literal = text => ({ html: text, text });
const sub = text => text ? `<sub>${text}</sub>` : "";
const written = text => text === "x_t" ? "x<sub>t</sub>" : text.endsWith("_{t-1}") ? past(text.slice(0, -6)) : now(text.slice(0, -2));
const valueOf = (text, row) => text.endsWith("_{t-1}") ? before(text.slice(0, -6), row) : at(text.slice(0, -2), row);

function tokens(formula) {
  const { bias } = layer().weights, found = [];
  const text = formula.replace(/ \+ ([bd])(_\w+)?(?!\w)/g, (term, letter) => bias && (letter === "b" || bias.rows > 1) ? term : "");
  for (let place = 0; place < text.length;) {
    for (const [pattern, read] of TOKENS) {
      pattern.lastIndex = place;
      const match = pattern.exec(text), token = match && read(match);
      if (!token) continue;
      found.push(token);
      place += match[0].length;
      break;
    }
  }
  return found;
}

/* What has no number is written as it is. */
const inNumbers = found => found.reduce((text, { html, text: plain, value }) => {
  if (plain !== undefined || value === undefined) return text + (plain ?? html);
  if (text.endsWith(" + ")) return text.slice(0, -3) + signed(value);
  return text + (/[·−/] $/.test(text) ? factor(value) : number(value));
}, "");

const saying = says => escaped(says).replace(/\[([^\]]*)\]/g, (_, inner) => {
  if (inner.endsWith(" %")) return percent(valueOf(inner.slice(0, -2), state.unit));
  const [symbol, words] = inner.split(": ");
  if (words) return words.split(", ")[valueOf(symbol, state.unit) < 0 ? 0 : 1];
  return number(inner.split(" * ").map(factor => valueOf(factor, state.unit)).reduce((a, b) => a * b));
});

function row(symbol, formula) {
  const state = layer().states.includes(symbol), middle = formula ? tokens(formula.right) : null;
  const long = middle && middle.map(({ html }) => html).join("").replace(/<[^>]*>/g, "").length > 48 ? "long" : "";
  const right = middle ? `<td class="${long}">= ${middle.map(({ html }) => html).join("")}</td><td class="${long}">${formula.of_all_units ? "" : `= ${inNumbers(middle)}`}</td>` : "<td></td><td></td>";
  const says = formula ? saying(formula.says) : escaped(layer().about[symbol].title);
  return `<tr class="${state ? "state" : ""}"><td>${now(symbol)}</td>${right}<td>≈ <b>${number(at(symbol))}</b></td><td class="says">${says}</td></tr>`;
}

/* The symbols in the order in which a step computes them; those without a formula come with their values alone. */
function inOrder() {
  const named = layer().formulas.map(({ symbol }) => symbol);
  return [...named, ...layer().symbols.filter(symbol => !named.includes(symbol))];
}

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
  const formulas = Object.fromEntries(layer().formulas.map(formula => [formula.symbol, formula]));
  $("equations").innerHTML = !wasRead()[state.step]
    ? `<p class="skipped">The mask made the layer skip step ${state.step}: its state stayed as it was.</p>`
    : `<table>${inOrder().filter(symbol => at(symbol) !== null).map(symbol => row(symbol, formulas[symbol])).join("")}</table>`;
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
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
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
function signedHeat(rows, labels, axis) {
  const largest = Math.max(1e-12, ...rows.map(values => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0)));
  return [{ type: "heatmap", z: rows, x: steps(), y: labels, yaxis: axis, colorscale: SIGNED, zmin: -largest, zmax: largest,
    colorbar: { x: 1.01, xanchor: "left", thickness: 10, tickvals: [-largest, 0, largest], ticktext: [-largest, 0, largest].map(value => plain(Number(value.toPrecision(2)))), tickfont: { size: 11 }, outlinewidth: 0 },
    hovertemplate: "%{y}, step %{x}: %{z:.4g}<extra></extra>" }];
}

const bar = (y, label, axis, color) => ({ type: "bar", x: steps(), y, name: label, yaxis: axis, legend: "legend" + axis.slice(1), marker: { color, line: { width: 0 } } });

/* Each panel: title of its axis, fixed range if any, and its traces for an axis. */
function panels() {
  const inputs = axis => {
    const rows = allRows("x");
    if (rows.length > MOST_LINES) return signedHeat(onlyRead(rows), layer().features, axis);
    return rows.map((y, k) => line(y, layer().features[k], axis, color(k)));
  };
  const contributions = axis => {
    const rows = allRows("attribution"), labels = layer().contributors;
    if (rows.length > MOST_LINES) return signedHeat(rows, labels, axis);
    const told = isNarrow() && labels.length > 1 && String(labels) === String(layer().features); // by the legend above
    return rows.map((y, k) => ({ ...bar(y, labels[k], axis, labels.length > 1 ? color(k) : PAGE.accent), showlegend: !told }));
  };
  const input = [{ title: "input x", draw: inputs }, ...(layer().contributors ? [{ title: "contribution", draw: contributions }] : [])];
  const { about, colors, keeper, memory, states } = layer();
  const label = symbol => `${symbol} ${about[symbol].label || about[symbol].title}`;
  const curve = (symbol, axis, more) => line(series(symbol), label(symbol), axis, colors[symbol], more);
  const one = (symbol, title) => {
    const within = about[symbol].range === "signed" && series(symbol).every(value => Math.abs(value) <= 1.05);
    return { title: title || about[symbol].title || symbol, range: within ? [-1.05, 1.05] : undefined, draw: axis => [curve(symbol, axis)] };
  };
  const computed = inOrder().filter(symbol => !states.includes(symbol)), isShare = symbol => about[symbol].range === "share";
  const shares = computed.filter(isShare);
  const gates = axis => shares.map((symbol, k) => curve(symbol, axis, { dash: DASHES[k % DASHES.length] }));
  const change = axis => {
    const stays = series(keeper), now = series(memory), first = at("initial_" + memory, state.unit, 0);
    const old = layer().go_backwards ? [...now.slice(1), first] : [first, ...now.slice(0, -1)];
    const enters = (about[keeper].enters || `${memory}ₜ − ${keeper} ${memory}ₜ₋₁`).replaceAll("_t", "").replaceAll(" ", "·");
    const other = shares.find(symbol => symbol !== keeper);
    return [bar(stays.map((v, t) => v === null ? null : now[t] - v * old[t]), `enters: ${enters}`, axis, other ? colors[other] : PAGE.accent),
            bar(stays.map((v, t) => v === null ? null : (v - 1) * old[t]), `forgotten: −(1−${keeper})·${memory}`, axis, colors[keeper])];
  };
  const both = axis => [curve(memory, axis), curve("h", axis, { dash: "dot" })];
  return [...input, ...(shares.length ? [{ title: "gates", range: [-0.04, 1.04], draw: gates }] : []),
          ...computed.filter(symbol => !isShare(symbol)).map(symbol => one(symbol)),
          ...(keeper ? [{ title: `change of ${memory}`, draw: change }] : []),
          memory === "h" ? one("h", "state") : { title: "memory", draw: both },
          ...states.filter(symbol => symbol !== "h" && symbol !== memory).map(symbol => one(symbol))];
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

/* On a phone a legend stands above its panel, else to the right of it. */
const isNarrow = () => document.documentElement.clientWidth < 640;
const onTop = y => ({ orientation: "h", x: 0, xanchor: "left", y, yanchor: "bottom" });

/* How many rows the legend of some traces takes there: where one row does not do, all entries are as wide as the widest. */
function legendRows(traces) {
  const widths = traces.filter(trace => trace.type !== "heatmap" && trace.showlegend !== false).map(({ name }) => 44 + 6.5 * name.length);
  const width = document.documentElement.clientWidth - 110, sum = widths.reduce((a, b) => a + b, 0);
  return sum <= width ? Math.min(widths.length, 1) : Math.ceil(widths.length / Math.max(1, Math.floor(width / Math.max(...widths))));
}

const PANEL = 102, BETWEEN = 16, LEGEND_ROW = 19; // pixels

function showTime() {
  const all = panels(), narrow = isNarrow(), axisOf = k => "y" + (k ? k + 1 : "");
  const drawn = all.map(({ draw }, k) => draw(axisOf(k)));
  const heads = drawn.map(traces => BETWEEN + (narrow ? LEGEND_ROW * legendRows(traces) : 0));
  const whole = heads.reduce((a, b) => a + b, 0) + PANEL * all.length;
  const layout = { height: 60 + whole, margin: { l: 62, r: narrow ? 12 : 170, t: 10, b: 44 }, font: FONT, barmode: "relative", bargap: 0,
    xaxis: { title: { text: "step", standoff: 6 }, range: [-0.5, layer().steps - 0.5], anchor: "y" + all.length, zeroline: false, ...stepTicks() }, shapes: timeShapes(), hovermode: "x unified" };
  let above = 0;
  all.forEach(({ title, range }, k) => {
    const id = axisOf(k).slice(1), top = 1 - (above += heads[k]) / whole, low = 1 - (above += PANEL) / whole;
    layout["yaxis" + id] = { title: { text: title, standoff: 8 }, nticks: 4, domain: [Math.max(low, 0), top], range, zerolinecolor: "#c8ced5" };
    layout["legend" + id] = { ...(narrow ? onTop(top) : { x: 1.01, xanchor: "left", y: top, yanchor: "top" }), font: { size: 12 } };
    if (drawn[k][0].type !== "heatmap") return;
    layout.margin.r = Math.max(layout.margin.r, 60);
    Object.assign(layout["yaxis" + id], { autorange: "reversed", showgrid: false, zeroline: false, automargin: !narrow, showticklabels: !narrow });
    Object.assign(drawn[k][0].colorbar, { y: (low + top) / 2, len: top - low });
  });
  const traces = drawn.flat();
  traces.forEach(trace => { trace.xaxis = "x"; if (trace.legend === "legendundefined") trace.legend = "legend"; });
  return Plotly.react("time", traces, layout, CONFIG);
}

const unitShapes = () => [cursor(), { type: "rect", xref: "paper", x0: 0, x1: 1, y0: state.unit - 0.5, y1: state.unit + 0.5, line: { color: "#1d2329", width: 1.2 } }];

function showUnits() {
  const signedValues = layer().about[state.symbol].range !== "share", z = onlyRead(allRows(state.symbol));
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
  const positive = values => values.map(v => v > 0 ? v : null);  // a log axis has no 0: no line where the gradient is none
  const traces = gradient.states.flatMap(({ symbol, ...norms }) => {
    const [low, mean, high] = [norms.low, norms.mean, norms.high].map(positive);
    const color = layer().colors[symbol], edge = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, x: steps() };
    return [{ ...edge, y: low }, { ...edge, y: high, fill: "tonexty", fillcolor: color + "22" },
            { x: steps(), y: mean, name: `‖∂L/∂${symbol}‖`, mode: "lines", line: { color, width: 2.2, dash: symbol === "h" ? "dot" : "solid" } }];
  });
  return Plotly.react("gradient", traces, { height: 320, margin: { l: 78, r: 20, t: 10, b: 44 }, font: FONT, shapes: [cursor()], hovermode: "x unified",
    xaxis: { title: { text: "step" }, range: [-0.5, layer().steps - 0.5] }, legend: isNarrow() ? onTop(1) : { x: 1.01, xanchor: "left", y: 1 },
    yaxis: { type: "log", exponentformat: "power", title: { text: "norm of the gradient" } } }, CONFIG);
}

function showSummary() {
  const { closed, open, memory_length, saturated, peak } = layer().summary, { about, colors, keeper, memory } = layer();
  const units = Array.from({ length: layer().units }, (_, unit) => unit);
  const bars = (y, color, more = {}) => ({ type: "bar", x: units, y, marker: { color }, showlegend: false, hovertemplate: "unit %{x}: %{y}<extra></extra>", ...more });
  const layout = { height: 320, margin: { l: 62, r: 20, t: 34, b: 44 }, font: FONT };
  const title = (text, x) => ({ text: `<b>${text}</b>`, x, xref: "paper", y: 1.01, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false });
  if (!closed && !saturated)
    return Plotly.react("summary-plot", [bars(peak, colors.h)],
      { ...layout, annotations: [title("Largest |h|", 0)], xaxis: { title: { text: "unit" } }, yaxis: { rangemode: "tozero" } }, CONFIG);
  if (!closed)
    return Plotly.react("summary-plot", [bars(saturated, colors.h)],
      { ...layout, annotations: [title("Saturated: share of steps with |h| > 0.9", 0), ...(saturated.some(share => share > 0) ? [] : [
        { text: "no unit at any step", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false }])], xaxis: { title: { text: "unit" } }, yaxis: { range: [0, 1], tickformat: ".0%" } }, CONFIG);
  const gates = inOrder().filter(symbol => symbol in closed).reverse().map(gate => [gate, about[gate].title.replace(/ gate$/, "") || gate]);
  const rows = gates.flatMap(([gate, label]) => [[`${label} > 0.9`, open[gate]], [`${label} < 0.1`, closed[gate]]]);
  const any = rows.some(([, shares]) => shares.some(share => share > 0));
  const heat = { type: "heatmap", x: units, y: rows.map(([label]) => label), z: rows.map(([, shares]) => shares), zmin: 0, zmax: 1, colorscale: [[0, "#f7f7f7"], [1, "#0b4f8a"]], xgap: 1, ygap: 1,
    colorbar: { x: 0.5, xanchor: "left", thickness: 12, tickformat: ".0%", outlinewidth: 0 }, hovertemplate: "unit %{x}, %{y} at %{z:.0%} of the steps<extra></extra>" };
  const nothing = { text: "no gate of any unit at any step", x: 0.5, y: 0.5, xref: "x domain", yref: "y domain", showarrow: false, bgcolor: "#fff", borderpad: 6 };
  const length = memory_length ? [bars(memory_length, colors[memory], { xaxis: "x2", yaxis: "y2" })] : [];
  return Plotly.react("summary-plot", [heat, ...length], { ...layout, margin: { ...layout.margin, l: 110 },
    annotations: [title("Saturation: share of the steps with a gate shut or open", 0), ...(memory_length ? [title(`Memory length −1/log(mean ${keeper})`, 0.62)] : []), ...(any ? [] : [nothing])],
    xaxis: { title: { text: "unit" }, domain: [0, 0.48], showgrid: false, zeroline: false }, yaxis: { showgrid: false }, plot_bgcolor: "#fff", ...(memory_length ? {
    xaxis2: { title: { text: "unit" }, domain: [0.62, 1], anchor: "y2" }, yaxis2: { title: { text: "steps" }, anchor: "x2", rangemode: "tozero" } } : {}) }, CONFIG);
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
  if (!symbols.includes(state.symbol)) state.symbol = layer().keeper || "h";
  $("symbol").replaceChildren(...symbols.map(symbol => new Option(`${symbol}  ${layer().about[symbol].title}`, symbol)));
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

$("layer").replaceChildren(...PAGE.layers.map(({ name, title, units }, k) => new Option(`${name} (${title}, ${units} units)`, k)));
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
