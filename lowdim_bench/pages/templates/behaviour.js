"use strict";
// Filters, order and comparison are in the address, so that it can be shared. Figures are fetched and drawn when they come into view.
(() => {
  const form = document.getElementById("filters");
  const count = document.getElementById("count");
  const comparison = document.getElementById("comparison");
  const state = new URLSearchParams(location.search);

  const remember = (values) => {
    for (const [name, value] of Object.entries(values)) value ? state.set(name, value) : state.delete(name);
    const query = state.toString();
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash);
  };

  // What is inline in a report is at an address in a server.
  const data = document.getElementById("data");
  let inline;
  const unpacked = async () => {
    const bytes = Uint8Array.from(atob(data.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const load = async (kind, name) => {
    if (!("address" in data.dataset)) {
      const all = await (inline ??= unpacked());
      return name === undefined ? all[kind] : all[kind][name];
    }
    const query = name === undefined ? "" : `?name=${encodeURIComponent(name)}`;
    const answer = await fetch(`${data.dataset.address}/${kind}${query}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer.json();
  };

  // Filters.
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const text = wanted.method.toLowerCase();
    const fits = (item) => (!wanted.track || !item.dataset.track || item.dataset.track === wanted.track)
      && (!wanted.task || !item.dataset.task || item.dataset.task === wanted.task)
      && item.dataset.method.toLowerCase().includes(text);
    let shown = 0;
    for (const section of document.querySelectorAll("main > section")) {
      const items = section.querySelectorAll("[data-method]");
      if (!items.length) continue;
      let here = 0;
      for (const item of items) {
        item.hidden = !fits(item);
        here += !item.hidden && item.tagName === "TR" ? 1 : 0;
      }
      section.hidden = here === 0 || ("task" in section.dataset && wanted.task !== "" && section.dataset.task !== wanted.task);
      if ("task" in section.dataset && !section.hidden) shown += here;
    }
    count.textContent = shown === 1 ? "1 row" : `${shown} rows`;
    return wanted;
  };
  const refilter = () => remember(filter());
  form.addEventListener("input", refilter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(refilter));

  // Order: by the same column in every table that has it.
  const tables = [...document.querySelectorAll("table.sortable")];
  const value = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim());
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  const order = (column, down) => {
    for (const table of tables) {
      const heads = [...table.tHead.rows[0].cells];
      const place = heads.findIndex((head) => head.dataset.column === column);
      if (place < 0) continue;
      for (const head of heads) head.removeAttribute("aria-sort");
      heads[place].setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...table.tBodies[0].rows].map((row) => [value(row.cells[place]), row]);
      keyed.sort(([a], [b]) => compare(a, b) * (down ? -1 : 1));
      table.tBodies[0].append(...keyed.map(([, row]) => row));
    }
  };
  for (const table of tables) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.dataset.column = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        order(button.textContent, down);
        remember({ sort: (down ? "-" : "") + button.textContent });
      });
    }
  }

  // Two methods on the same seeds.
  const cell = (text, number) => {
    const made = document.createElement("td");
    made.textContent = text;
    if (number) made.className = "number";
    return made;
  };
  const against = async () => {
    const { a, b } = Object.fromEntries(new FormData(comparison));
    const box = document.getElementById("compared").closest(".scroll");
    const told = document.getElementById("incomparable");
    box.hidden = true;
    told.textContent = "";
    if (!a || !b || a === b) {
      told.textContent = a && a === b ? "Choose two different methods." : "";
      return;
    }
    const { rows, pairs } = await load("comparisons");
    const lines = [];
    for (const [first, second, ratio, low, high, probability, seeds] of pairs) {
      const straight = rows[first][0] === a && rows[second][0] === b;
      if (!straight && !(rows[first][0] === b && rows[second][0] === a)) continue;
      const [x, y] = straight ? [first, second] : [second, first];
      const [middle, least, most, chance] = straight ? [ratio, low, high, probability] : [1 / ratio, 1 / high, 1 / low, 1 - probability];
      const line = document.createElement("tr");
      const texts = [rows[x][2], rows[y][2], `${middle.toPrecision(3)}×`];
      line.append(cell(rows[x][1]), ...texts.map((text) => cell(text, true)), cell(`${least.toPrecision(3)} to ${most.toPrecision(3)}`));
      line.append(cell(chance.toFixed(2), true), cell(String(seeds), true));
      lines.push(line);
    }
    document.getElementById("compared").replaceChildren(...lines);
    box.hidden = lines.length === 0;
    if (!lines.length) told.textContent = "There is no task on which both thresholds were found among its best rows.";
  };
  const fail = (error) => { document.getElementById("incomparable").textContent = `The comparison could not be loaded: ${error.message}`; };
  const offer = async () => {
    const { methods } = await load("comparisons");
    const sorted = Object.entries(methods).sort(([, x], [, y]) => x.localeCompare(y));
    for (const name of ["a", "b"]) {
      comparison.elements[name].append(...sorted.map(([digest, label]) => new Option(label, digest)));
      comparison.elements[name].value = state.get(name) ?? "";
    }
    await against();
  };
  if (comparison) {
    comparison.addEventListener("submit", (event) => event.preventDefault());
    comparison.addEventListener("input", () => {
      remember(Object.fromEntries(new FormData(comparison)));
      against().catch(fail);
    });
  }

  // Figures.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // The colours of ink, grid, notes and lines in lowdim_bench.figures, and what they become on a dark page.
  const darker = { "#222222": "#ececec", "#e6e6e6": "#33373e", "#6b6b6b": "#b4b4b4", "#0072b2": "#5ab4f0", "#f7f7f7": "#2a2e35" };
  const coloured = (specification) => {
    if (!dark.matches) return specification;
    const text = JSON.stringify(specification);
    return JSON.parse(text.replace(/"(#222222|#e6e6e6|#6b6b6b|#0072b2|#f7f7f7)"/g, (_, colour) => `"${darker[colour]}"`));
  };
  const draw = async (element) => {
    try {
      await window.vegaEmbed(element, coloured(await load("figure", element.dataset.figure)), {
        actions: { export: true, source: false, compiled: false, editor: false },
        renderer: "svg",
        theme: dark.matches ? "dark" : undefined,
        // Its numbers are in the tables: a figure is one picture with a name, not hundreds of marks to be read out.
        config: { aria: false, background: null, ...(dark.matches ? { text: { color: "#ececec" } } : {}) },
      });
      const picture = element.querySelector("svg");
      for (const part of picture.querySelectorAll("*")) {
        for (const name of ["role", "aria-label", "aria-roledescription"]) part.removeAttribute(name);
      }
      element.querySelector("summary")?.setAttribute("aria-label", "Save this figure");
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", element.nextElementSibling.textContent);
      element.dataset.drawn = "yes";
    } catch (error) {
      element.textContent = `This figure could not be drawn: ${error.message}`;
    }
  };
  const watch = () => {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "300px" });
    for (const element of document.querySelectorAll("[data-figure]")) watcher.observe(element);
  };

  // What the address asks for.
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
      target.querySelector("summary").focus();
    }
  };
  for (const name of ["task", "track", "method"]) {
    if (state.has(name)) form.elements[name].value = state.get(name);
  }
  filter();
  if (state.has("sort")) order(state.get("sort").replace(/^-/, ""), state.get("sort").startsWith("-"));
  document.documentElement.dataset.ready = "yes";
  addEventListener("hashchange", open);
  addEventListener("load", () => {
    watch();
    open();
    if (comparison) offer().catch(fail);
  });
})();
