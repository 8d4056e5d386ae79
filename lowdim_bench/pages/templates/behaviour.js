"use strict";
// Filters, sorting and the drawing of figures when they come into view. Filters are in the address, so that it can be shared.
(() => {
  const form = document.getElementById("filters");
  const count = document.getElementById("count");

  const apply = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const text = wanted.method.toLowerCase();
    let shown = 0;
    for (const section of document.querySelectorAll("section[data-task]")) {
      let here = 0;
      for (const item of section.querySelectorAll("[data-track]")) {
        const fits = (!wanted.track || item.dataset.track === wanted.track) && item.dataset.method.toLowerCase().includes(text);
        item.hidden = !fits;
        here += fits && item.tagName === "TR" ? 1 : 0;
      }
      section.hidden = (wanted.task && section.dataset.task !== wanted.task) || here === 0;
      shown += section.hidden ? 0 : here;
    }
    count.textContent = `${shown} rows`;
    return wanted;
  };

  const remember = () => {
    const wanted = apply();
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash);
  };

  const recall = () => {
    const query = new URLSearchParams(location.search);
    for (const name of ["task", "track", "method"]) {
      if (query.has(name)) form.elements[name].value = query.get(name);
    }
    apply();
  };

  form.addEventListener("input", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(remember));

  const value = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim());
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b)) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compare(value(a.cells[column]), value(b.cells[column])) * (down ? -1 : 1));
        body.append(...rows);
      });
    });
  }

  const specifications = JSON.parse(document.getElementById("specifications").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // The colours of ink, grid and notes in lowdim_bench.figures, and what they become on a dark page.
  const darker = { "#222222": "#ececec", "#e6e6e6": "#33373e", "#6b6b6b": "#b4b4b4", "#0072b2": "#5ab4f0" };
  const specification = (name) => {
    if (!dark.matches) return specifications[name];
    const text = JSON.stringify(specifications[name]);
    return JSON.parse(text.replace(/"(#222222|#e6e6e6|#6b6b6b|#0072b2)"/g, (_, colour) => `"${darker[colour]}"`));
  };
  const draw = (element) => {
    if (element.dataset.drawn || !window.vegaEmbed) return;
    element.dataset.drawn = "yes";
    window.vegaEmbed(element, specification(element.dataset.figure), {
      actions: { export: true, source: false, compiled: false, editor: false },
      renderer: "svg",
      theme: dark.matches ? "dark" : undefined,
      config: dark.matches ? { background: null, text: { color: "#ececec" } } : { background: null },
    }).catch((error) => { element.textContent = `This figure could not be drawn: ${error.message}`; });
  };
  const begin = () => {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) { draw(entry.target); watcher.unobserve(entry.target); }
      }
    }, { rootMargin: "300px" });
    for (const element of document.querySelectorAll("[data-figure]")) watcher.observe(element);
  };
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", open);
  addEventListener("load", () => { recall(); begin(); open(); });
})();
