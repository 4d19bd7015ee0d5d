"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = Object.fromEntries(data.columns.map((name, place) => [name, place]));
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Everything is made of nodes and text: no name from the data is ever read as markup.
  const SVG = "http://www.w3.org/2000/svg";
  function node(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "rect", "line", "circle", "text", "title"].includes(name);
    const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(1);
  const clipped = (text, most) => ([...text].length > most ? [...text].slice(0, most - 1).join("") + "…" : text);

  // --- sorting --------------------------------------------------------------------------------------------------
  const collator = new Intl.Collator(undefined, { numeric: true });

  function valueOf(row, column) {
    const place = row.cells[column];
    if (place.dataset.value !== undefined) return Number(place.dataset.value);
    const text = place.textContent.trim();
    if (text === "" || text === "–" || place.querySelector(".number")) return null; // a gap, in words
    const number = Number(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  }

  function compare(one, other, direction) {
    if (one === null || other === null) return (one === null) - (other === null); // the unknown comes last
    if (typeof one === "number" && typeof other === "number") return direction * (one - other);
    return direction * collator.compare(String(one), String(other));
  }

  function mark(heading, direction) {
    for (const sibling of heading.parentNode.cells) sibling.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  }

  function nextDirection(heading) {
    const now = heading.getAttribute("aria-sort");
    if (now === "none") return heading.cellIndex === 0 ? 1 : -1; // numbers: the highest first
    return now === "ascending" ? -1 : 1;
  }

  for (const table of all("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      heading.firstElementChild.addEventListener("click", () => {
        const direction = nextDirection(heading);
        const rows = [...table.tBodies[0].rows];
        const keyed = rows.map((row) => [valueOf(row, heading.cellIndex), row]);
        keyed.sort(([one], [other]) => compare(one, other, direction));
        table.tBodies[0].append(...keyed.map(([, row]) => row));
        mark(heading, direction);
      });
    }
  }

  // --- which pairs are shown ------------------------------------------------------------------------------------
  for (const section of all("details.group")) {
    const filter = section.querySelector(".filter");
    filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      const fits = (name) => name.toLowerCase().includes(wanted);
      const rows = all("tbody tr[data-name]", section);
      for (const row of rows) row.hidden = !fits(row.dataset.name);
      for (const series of all("[data-pair].series, text[data-pair]", section)) {
        series.classList.toggle("off", !fits(series.dataset.pair));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      section.querySelector(".controls output").textContent = wanted ? `${shown} of ${rows.length} rows` : "";
    });
    const picker = section.querySelector(".costs .pick-shots");
    picker?.addEventListener("change", () => {
      for (const plots of all(".pair-of-plots", section)) plots.hidden = plots.dataset.shots !== picker.value;
    });
  }

  // --- data sets that are folded --------------------------------------------------------------------------------
  // A link into one opens it by itself; on paper all are open, and afterwards as they were.
  const folds = all("details.group, details.facts-of");
  let shut = [];
  addEventListener("beforeprint", () => {
    shut = folds.filter((fold) => !fold.open);
    for (const fold of shut) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of shut) fold.open = false;
  });

  // --- classes --------------------------------------------------------------------------------------------------
  function axis(text, x, y, attributes = {}) {
    return node("text", { x, y, class: "tick", ...attributes }, text);
  }

  function gainPlot(group, place, everything) {
    const most = 24;
    const gains = everything || place.gains.length <= most ? place.gains
      : [...place.gains.slice(0, most / 2), ...place.gains.slice(-most / 2)];
    const [left, right, top, step] = [190, 480, 24, 21];
    const height = top + step * gains.length + 34;
    const edges = gains.flatMap(([, mean, half]) => [mean - (half ?? 0), mean + (half ?? 0)]).filter((x) => Math.abs(x) <= 100);
    const reach = Math.min(100, Math.max(10, Math.ceil(Math.max(...edges.map(Math.abs), ...gains.map((g) => Math.abs(g[1]))) / 10) * 10));
    const x = (value) => left + (Math.min(reach, Math.max(-reach, value)) + reach) / (2 * reach) * (right - left - 10);
    const svg = node("svg", { viewBox: `0 0 ${right} ${height}`, class: "plot", role: "img",
      "aria-label": "Gain of each class over the frozen towers, with its interval" });
    const bottom = height - 30;
    for (const value of [-reach, -reach / 2, 0, reach / 2, reach]) {
      svg.append(node("line", { x1: x(value), x2: x(value), y1: top - 12, y2: bottom, class: value === 0 ? "base" : "grid" }));
      svg.append(axis(value === 0 ? "0" : signed(value).replace(/\.0$/, ""), x(value), bottom + 14, { "text-anchor": "middle" }));
    }
    svg.append(axis("points of recall", (left + right - 10) / 2, height - 1, { "text-anchor": "middle" }));
    gains.forEach(([label, mean, half, n, ours, theirs], row) => {
      const y = top + step * row;
      const name = group.classes[label];
      const interval = half === null ? "" : ` ± ${half.toFixed(1)}`;
      const line = node("g", { class: `gain-row ${mean < 0 ? "down" : "up"}` },
        node("title", {}, `${name}: ${signed(mean)}${interval}, n = ${n}; ${theirs.toFixed(1)} → ${ours.toFixed(1)}%, ${group.clips[label]} test clips`),
        node("rect", { x: 0, y: y - step / 2, width: right, height: step, "fill-opacity": 0 }),
        node("text", { x: left - 14, y: y + 4, "text-anchor": "end" }, clipped(name, 25)),
        half === null ? null : node("line", { x1: x(mean - half), x2: x(mean + half), y1: y, y2: y, class: "whisker" }),
        node("circle", { cx: x(mean), cy: y, r: 4.2 }));
      svg.append(line);
    });
    return svg;
  }

  function confusionPlot(group, place) {
    const count = group.classes.length;
    const named = count <= 24;
    const [left, top, size] = [named ? 186 : 40, 26, named ? 290 : 430];
    const side = size / count;
    const totals = group.clips.map((clips) => clips * place.models);
    const svg = node("svg", { viewBox: `0 0 ${left + size + 8} ${top + size + 22}`, class: "plot", role: "img",
      "aria-label": "Confusion matrix; the list of the most confused classes names its largest entries" });
    const every = named ? 1 : 10;
    for (let label = 0; label < count; label += every) {
      const middle = (label + 0.5) * side + 4;
      const text = named ? `${clipped(group.classes[label], 23)}  ${label + 1}` : String(label + 1);
      svg.append(axis(text, left - 6, top + middle, { "text-anchor": "end" }));
      svg.append(axis(String(label + 1), left + middle - 4, top - 6, { "text-anchor": "middle" }));
    }
    for (let k = 0; k < place.mistakes.length; k += 3) {
      const [i, j, number] = place.mistakes.slice(k, k + 3);
      const share = totals[i] ? number / totals[i] : 0;
      const [x, y] = [left + j * side, top + i * side];
      svg.append(node("rect", { x, y, width: side, height: side, class: i === j ? "hit" : "error", "fill-opacity": Math.min(1, share ** 0.75).toFixed(3) },
        node("title", {}, `${group.classes[i]} taken for ${group.classes[j]}: ${number} of ${totals[i]}`)));
      if (count <= 15 && share >= 0.005) {
        svg.append(node("text", { x: x + side / 2, y: y + side / 2 + 3.5, class: `count${share > 0.45 ? " strong" : ""}` }, String(Math.round(100 * share))));
      }
    }
    svg.append(node("rect", { x: left, y: top, width: size, height: size, class: "bed" }));
    svg.append(axis("predicted", left + size / 2, top + size + 17, { "text-anchor": "middle" }));
    return svg;
  }

  function confusedList(group, place) {
    const list = node("ol");
    for (const [i, j, number, share] of place.confused) {
      list.append(node("li", {}, node("bdi", {}, group.classes[i]), " taken for ", node("bdi", {}, group.classes[j]),
        node("small", {}, `  ${number} times, ${share.toFixed(1)}% of its clips`)));
    }
    return place.confused.length ? [node("h4", {}, "Most confused"), list] : [node("p", {}, "No class was mistaken.")];
  }

  function showGains(figure, group, place, pair) {
    const [canvas, caption] = [figure.querySelector(".canvas"), figure.querySelector("figcaption")];
    canvas.replaceChildren();
    if (place.gains.length === 0) {
      const frozen = group.baselines[pair] === null ? "there is no pair of two frozen towers to compare with"
        : pair === group.baselines[pair] ? "these are the frozen towers; choose another pair" : "no draw in common with the frozen towers";
      caption.textContent = `No gain to show: ${frozen}.`;
      return;
    }
    const many = place.gains.length > 24;
    const draw = (everything) => canvas.replaceChildren(gainPlot(group, place, everything));
    draw(false);
    const alone = place.gains[0][2] === null;
    caption.textContent = `${group.pairs[pair]} against ${group.pairs[group.baselines[pair]]}, `
      + (alone ? "one draw, so without intervals. "
        : `paired over ${place.gains[0][3]} draws with 95% Student-t intervals. A class has few test clips: single classes are not tested. `)
      + (many ? "The 12 that gain most and the 12 that gain least. " : "");
    if (many) {
      const button = node("button", { type: "button", class: "link" }, `Show all ${place.gains.length}`);
      button.addEventListener("click", () => { draw(true); button.remove(); });
      caption.append(button);
    }
  }

  for (const panel of all(".classes")) {
    const group = data.groups[Number(panel.dataset.group)];
    const [pairs, shots] = [panel.querySelector(".pick-pair"), panel.querySelector(".pick-shots")];
    const known = Object.keys(group.places).map((key) => key.split(",").map(Number));
    const fill = (select, names, used) => names.forEach((name, number) => {
      if (used.has(number)) select.append(node("option", { value: number }, name));
    });
    fill(pairs, group.pairs, new Set(known.map(([pair]) => pair)));
    fill(shots, group.shots, new Set(known.map(([, k]) => k)));
    const show = () => {
      const place = group.places[`${pairs.value},${shots.value}`];
      const [gains, confusion] = [panel.querySelector(".gains"), panel.querySelector(".confusion")];
      const caption = confusion.querySelector("figcaption");
      if (!place) {
        for (const canvas of all(".canvas, .confused", panel)) canvas.replaceChildren();
        gains.querySelector("figcaption").textContent = "";
        caption.textContent = "Nothing is known of this pair at this K: its cells are not done, or were left out.";
        return;
      }
      showGains(gains, group, place, Number(pairs.value));
      confusion.querySelector(".canvas").replaceChildren(confusionPlot(group, place));
      caption.textContent = `Rows are true classes, in % of their clips, over ${place.models} trained model${place.models === 1 ? "" : "s"}.`;
      panel.querySelector(".confused").replaceChildren(...confusedList(group, place));
    };
    // To begin with: the highest K, and the pair whose classes changed most in sum; the frozen towers gain nothing.
    const highest = Math.max(...known.map(([, k]) => k));
    const sum = (pair) => (group.places[`${pair},${highest}`]?.gains ?? []).reduce((total, gain) => total + gain[1], 0);
    const first = known.filter(([pair, k]) => k === highest).map(([pair]) => pair)
      .sort((one, other) => (one === group.baselines[one]) - (other === group.baselines[other]) || sum(other) - sum(one))[0];
    [pairs.value, shots.value] = [first, highest];
    pairs.addEventListener("change", show);
    shots.addEventListener("change", show);
    show();
  }

  // --- the cells behind a number --------------------------------------------------------------------------------
  const trace = document.getElementById("trace");

  function commandOf(cell) {
    const command = cell[at.command];
    if (!command) return node("p", { class: "note" }, "No command of this package is known for it.");
    const code = node("code", {}, command);
    const copy = node("button", { type: "button", class: "copy" }, "Copy");
    copy.addEventListener("click", () => {
      getSelection().selectAllChildren(code);
      (navigator.clipboard?.writeText(command) ?? Promise.reject()).then(
        () => { copy.textContent = "Copied"; }, () => { copy.textContent = "Selected"; });
    });
    return node("pre", { class: "command" }, code, copy);
  }

  function told(cell) {
    const parts = [`${cell[at.dataset]}, split ${cell[at.split]}`, cell[at.pair], `K=${cell[at.shots]}`, `draw ${cell[at.draw]}`];
    if (cell[at.seed]) parts.push(`seed ${cell[at.seed]}`);
    return parts.join(" · ");
  }

  function behind(number) {
    const cell = data.cells[number];
    const result = [cell[at.state]];
    if (cell[at.top1] !== null) result.push(`top-1 ${cell[at.top1].toFixed(2)}%`);
    if (cell[at.seconds] !== null) result.push(`trained ${cell[at.seconds].toFixed(1)} s`);
    if (cell[at.finished]) result.push(cell[at.finished]);
    return node("div", { class: "behind" },
      node("p", {}, node("b", {}, told(cell)), " ", result.join(", ")),
      cell[at.note] ? node("p", { class: cell[at.state] === "done" ? "note" : "why" }, cell[at.note]) : null,
      cell[at.record] ? node("p", { class: "note" }, node("code", {}, cell[at.record])) : null,
      commandOf(cell));
  }

  function open(button) {
    const numbers = button.dataset.cells.split(" ").filter(Boolean).map(Number);
    document.getElementById("trace-title").textContent = button.dataset.about;
    const about = `${button.dataset.table}. ${numbers.length} cell${numbers.length === 1 ? "" : "s"} behind it.`;
    document.getElementById("trace-number").textContent = button.classList.contains("number")
      ? `${[...button.childNodes].map((part) => part.textContent.trim()).join(" ").trim()}: ${about}` : about;
    document.getElementById("trace-cells").replaceChildren(...numbers.map(behind));
    trace.showModal();
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cells]");
    if (button) open(button);
    else if (event.target === trace) trace.close();
  });

  // --- every cell -----------------------------------------------------------------------------------------------
  const table = document.getElementById("cells-table");
  const filter = document.getElementById("cells-filter");
  const state = document.getElementById("cells-state");
  const more = document.getElementById("cells-more");
  const shownColumns = [["data set", "dataset"], ["split", "split"], ["pair", "pair"], ["K", "shots"], ["draw", "draw"],
    ["seed", "seed"], ["state", "state"], ["top-1 %", "top1"], ["top-5 %", "top5"], ["mean class %", "mean_class"],
    ["weights", "weights"], ["train s", "seconds"]];
  const varies = (name) => new Set(data.cells.map((cell) => cell[at[name]])).size > 1;
  const columns = shownColumns.filter(([, name]) => !["dataset", "split", "seed"].includes(name) || varies(name));
  const PAGE = 60;
  let [limit, order, direction] = [PAGE, null, 1];
  const searchable = data.cells.map((cell) =>
    `${told(cell)} ${cell[at.pair]} K=${cell[at.shots]} ${cell[at.state]} ${cell[at.note]}`.toLowerCase());

  function shown(name, value) {
    if (value === null) return "–";
    if (["top1", "top5", "mean_class", "seconds"].includes(name)) return value.toFixed(1);
    return name === "weights" ? value.toLocaleString("en") : String(value);
  }

  function listCells() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.cells.map((cell, number) => number).filter((number) =>
      words.every((word) => searchable[number].includes(word)) && (!state.value || data.cells[number][at.state] === state.value));
    if (order) {
      found.sort((one, other) => compare(data.cells[one][at[order]], data.cells[other][at[order]], direction));
    }
    table.tBodies[0].replaceChildren(...found.slice(0, limit).map((number) => {
      const cell = data.cells[number];
      const places = columns.map(([, name]) =>
        node("td", ["pair", "state", "dataset"].includes(name) ? { class: "text" } : {}, shown(name, cell[at[name]])));
      const button = node("button", { type: "button", class: "link", "data-cells": number, "data-about": told(cell),
        "data-table": cell[at.state] }, "command");
      return node("tr", {}, ...places, node("td", {}, button));
    }));
    more.hidden = found.length <= limit;
    more.textContent = `Show ${Math.min(found.length - limit, 10 * PAGE)} more`;
    document.getElementById("cells-count").textContent = `${found.length} of ${data.cells.length} cells`;
  }

  table.append(node("thead", {}, node("tr", {}, ...columns.map(([title, name]) => {
    const button = node("button", { type: "button" }, title);
    const textual = ["pair", "state", "dataset"].includes(name);
    const heading = node("th", { scope: "col", "aria-sort": "none", class: textual ? "text" : null }, button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      direction = now === "none" ? (textual ? 1 : -1) : now === "ascending" ? -1 : 1;
      order = name;
      mark(heading, direction);
      listCells();
    });
    return heading;
  }), node("th", { scope: "col" }, "trace"))), node("tbody"));
  for (const control of [filter, state]) {
    control.addEventListener("input", () => { limit = PAGE; listCells(); });
  }
  more.addEventListener("click", () => { limit += 10 * PAGE; listCells(); });
  listCells();
})();
