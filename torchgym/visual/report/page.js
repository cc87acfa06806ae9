"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const coarse = matchMedia("(pointer: coarse)");
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false };
  const darkColours = JSON.parse(document.getElementById("dark-colours").textContent);
  const figures = [...document.querySelectorAll("script[data-plot]")].map((script) => ({
    spec: script.textContent,
    overTime: "overTime" in script.dataset,
    place: document.getElementById(script.dataset.plot),
  }));

  // Figures are stored in the light colours.
  function recolour(key, value) {
    if (!dark.matches || typeof value !== "string") return value;
    return value.replace(/^(#\w{6}$|rgba\(\d+,\d+,\d+)/, (colour) => darkColours[colour] ?? colour);
  }

  function paint(figure) {
    const { data, layout } = JSON.parse(figure.spec, recolour);
    layout.template.layout.xaxis.nticks = narrow.matches ? 5 : 8;
    layout.template.layout.legend.font.size = coarse.matches ? 17 : 13; // rows of 25 pixels, for a finger
    layout.dragmode = coarse.matches ? false : "zoom"; // a finger scrolls the page
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

  for (const figure of figures) {
    paint(figure).then(() => {
      if (figure.overTime) figure.place.on("plotly_relayout", (change) => follow(figure, change));
    });
  }
  for (const query of [dark, narrow, coarse]) {
    query.addEventListener("change", () => figures.forEach(paint));
  }
})();
