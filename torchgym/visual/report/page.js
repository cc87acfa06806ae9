"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const coarse = matchMedia("(pointer: coarse)");
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false };

  const figures = [...document.querySelectorAll("script[data-plot]")].map((script) => {
    const spec = JSON.parse(script.textContent);
    const figure = { ...spec, place: document.getElementById(script.dataset.plot), version: 0 };
    figure.light = spec.dark.map(([path]) => [path, at(figure, path)]);
    figure.margin = { ...spec.layout.margin };
    return figure;
  });

  function at(tree, path) {
    return path.reduce((branch, key) => branch[key], tree);
  }

  function paint(figure) {
    for (const [path, value] of dark.matches ? figure.dark : figure.light) {
      at(figure, path.slice(0, -1))[path[path.length - 1]] = value;
    }
    const { data, layout, margin } = figure;
    layout.datarevision = figure.version += 1;
    layout.height = narrow.matches ? figure.narrowHeight : figure.height;
    layout.margin = narrow.matches ? { ...margin, l: Math.min(margin.l, 56), r: Math.min(margin.r, 14) } : { ...margin };
    layout.dragmode = coarse.matches ? false : "zoom"; // a finger scrolls the page
    layout.xaxis.nticks = narrow.matches ? 5 : 8;
    return Plotly.react(figure.place, data, layout, config);
  }

  // Figures over the same time show the same part of it.
  let following = false;
  async function follow(source, change) {
    const keys = ["xaxis.range", "xaxis.range[0]", "xaxis.range[1]", "xaxis.autorange"];
    const found = Object.fromEntries(keys.filter((key) => key in change).map((key) => [key, change[key]]));
    if (following || Object.keys(found).length === 0) return;
    following = true;
    const others = figures.filter((figure) => figure.overTime && figure !== source);
    await Promise.all(others.map((figure) => Plotly.relayout(figure.place, { ...found })));
    following = false;
  }

  function toggle(button) {
    const on = button.getAttribute("aria-pressed") !== "true";
    const place = document.getElementById(button.getAttribute("aria-controls"));
    button.setAttribute("aria-pressed", String(on));
    Plotly.restyle(place, { visible: on }, button.dataset.traces.split(",").map(Number));
  }

  for (const figure of figures) {
    paint(figure).then(() => {
      if (figure.overTime) figure.place.on("plotly_relayout", (change) => follow(figure, change));
    });
  }
  for (const button of document.querySelectorAll(".keys button")) {
    button.addEventListener("click", () => toggle(button));
  }
  for (const query of [dark, narrow, coarse]) {
    query.addEventListener("change", () => figures.forEach(paint));
  }
})();
