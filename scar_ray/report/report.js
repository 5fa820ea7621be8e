(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const live = document.getElementById("live");
  const charts = JSON.parse(document.getElementById("data").textContent);
  const ROWS = 8;

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // ---- tooltip ----------------------------------------------------------------------------------
  function placeTip(x, y, below) {
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(Math.max(6, x - width / 2), document.documentElement.clientWidth - width - 6);
    const above = y - height - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 6 ? Math.min(below + 10, window.innerHeight - height - 6) : above}px`;
  }

  // What the tooltip says moves with the page; this puts it in place again.
  let again = null;

  function tipAt(target) {
    const box = target.getClientRects()[0];
    if (!box) return;
    again = () => tipAt(target);
    tip.replaceChildren(element("b", "", target.dataset.tip));
    placeTip(box.left + box.width / 2, box.top, box.bottom);
  }

  const hideTip = () => {
    again = null;
    tip.hidden = true;
  };

  // The browser's own tooltips serve where scripts are off; ours also answer to touch and focus.
  for (const titled of document.querySelectorAll("[title]")) {
    titled.dataset.tip = titled.title;
    titled.removeAttribute("title");
  }
  for (const bar of document.querySelectorAll(".bar")) bar.dataset.tip = bar.getAttribute("aria-label");
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const target = event.target.closest("[data-tip]");
      if (target) tipAt(target);
      else if (!event.target.closest(".plot")) hideTip();
    });
  }
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", () => { if (again) again(); }, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  // ---- heat map: one tab stop a response, arrow keys inside -------------------------------------
  for (const text of document.querySelectorAll(".text")) {
    const units = [...text.querySelectorAll(".unit")];
    text.addEventListener("keydown", (event) => {
      const at = units.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: units.length - 1 }[event.key];
      if (at < 0 || to === undefined || !units[to]) return;
      event.preventDefault();
      units[at].tabIndex = -1;
      units[to].tabIndex = 0;
      units[to].focus();
    });
  }
  const numbers = document.getElementById("numbers");
  if (numbers) {
    const show = () => document.body.classList.toggle("numbers", numbers.checked);
    numbers.addEventListener("change", show);
    show();
  }

  // ---- legend: pressed methods come forward -----------------------------------------------------
  const buttons = [...document.querySelectorAll(".legend button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      const pressed = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.group));
      for (const drawn of document.querySelectorAll(".chart [data-group]")) {
        drawn.classList.toggle("dim", pressed.size > 0 && !pressed.has(drawn.dataset.group));
      }
    });
  }

  // ---- read-out of the curves -------------------------------------------------------------------
  function format(value) {
    const size = Math.abs(value);
    let text;
    if (size === 0) text = "0";
    else if (size >= 99.95) text = Math.round(value).toLocaleString("en");
    else if (size < 1e-3) text = value.toExponential(1);
    else text = value.toFixed(2 - Math.floor(Math.log10(size)));
    return text.replace(/-/g, "−");
  }

  function nearest(values, x) {
    let low = 0;
    let high = values.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (values[middle] < x) low = middle;
      else high = middle;
    }
    return Math.abs(values[low] - x) <= Math.abs(values[high] - x) ? low : high;
  }

  class Readout {
    constructor(plot, chart) {
      this.plot = plot;
      this.chart = chart;
      this.at = null;
      this.found = null;
      this.cross = element("i", "cross");
      this.dots = element("div", "dots");
      plot.append(this.cross, this.dots);
      plot.addEventListener("pointermove", (event) => this.point(event));
      plot.addEventListener("pointerdown", (event) => this.point(event));
      // A finger leaves when it is lifted; what it pointed at stays until the next tap elsewhere.
      plot.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.clear(); });
      document.addEventListener("pointerdown", (event) => { if (this.found && !plot.contains(event.target)) this.clear(); });
      plot.addEventListener("blur", () => this.clear());
      plot.addEventListener("keydown", (event) => this.key(event));
    }

    left([, low, high, root], x) {
      const t = root ? (v) => Math.sqrt(Math.max(v, 0)) : (v) => v;
      return (t(x) - t(low)) / (t(high) - t(low));
    }

    place(series, i) {
      return [this.left(this.chart.x, series.x[i]), 1 - this.left(this.chart.y, series.y[i])];
    }

    clear() {
      if (this.found) hideTip();
      this.at = this.found = null;
      this.dots.replaceChildren();
      this.cross.style.display = "none";
    }

    point(event) {
      const box = this.plot.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      const found = [];
      for (const series of this.visible()) {
        if (this.chart.free) {
          series.x.forEach((_, i) => {
            const [px, py] = this.place(series, i);
            found.push({ series, i, far: Math.hypot((px - x) * box.width, (py - y) * box.height) });
          });
        } else {
          const [, low, high] = this.chart.x;
          const i = nearest(series.x, low + x * (high - low));
          const [px, py] = this.place(series, i);
          if (Math.abs(px - x) < 0.03) found.push({ series, i, far: Math.abs(py - y), off: Math.abs(px - x) });
        }
      }
      if (!found.length) return this.clear();
      found.sort((a, b) => a.far - b.far);
      this.show(this.chart.free ? found.slice(0, 1) : found.slice(0, ROWS));
    }

    visible() {
      const dim = (series) => this.plot.querySelector(`path.mean[data-group="${series.group}"]`).classList.contains("dim");
      return this.chart.series.filter((series) => series.x.length && !dim(series));
    }

    key(event) {
      const series = this.visible();
      const move = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 0, ArrowDown: 0, Home: 0, End: 0 }[event.key];
      if (move === undefined || !series.length) return;
      event.preventDefault();
      if (!this.at || !series.includes(this.at.series)) this.at = { series: series[0], i: move < 0 ? series[0].x.length : -1 };
      let { series: on, i } = this.at;
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        const step = event.key === "ArrowDown" ? 1 : -1;
        const was = on.x[Math.max(0, i)];
        on = series[(series.indexOf(on) + step + series.length) % series.length];
        i = nearest(on.x, was);
      }
      if (event.key === "Home") i = 0;
      if (event.key === "End") i = on.x.length - 1;
      i = Math.min(Math.max(0, i + move), on.x.length - 1);
      this.show([{ series: on, i }]);
      this.at = { series: on, i };
      live.textContent = tip.textContent;
    }

    show(found) {
      const { chart } = this;
      this.found = found;
      again = () => this.show(found);
      const { series, i } = found.reduce((best, each) => ((each.off ?? 0) < (best.off ?? 0) ? each : best));
      const [px, py] = this.place(series, i);
      const box = this.plot.getBoundingClientRect();
      this.cross.style.display = chart.free ? "none" : "block";
      this.cross.style.left = `${px * 100}%`;
      found.sort((a, b) => b.series.y[b.i] - a.series.y[a.i]);
      this.dots.replaceChildren(...found.map((each) => {
        const dot = element("i", "dot");
        const [x, y] = this.place(each.series, each.i);
        dot.dataset.group = each.series.group;
        dot.style.left = `${x * 100}%`;
        dot.style.top = `${y * 100}%`;
        return dot;
      }));
      const rows = found.map((each) => {
        const row = element("div", "row");
        const swatch = element("i", "swatch");
        swatch.dataset.group = each.series.group;
        row.append(swatch, element("span", "", `${each.series.name} `), element("b", "", format(each.series.y[each.i])));
        return row;
      });
      tip.replaceChildren(element("div", "head", this.head(series, i)), ...rows);
      placeTip(box.left + px * box.width, box.top + (chart.free ? py * box.height : 0), box.top + py * box.height);
    }

    head(series, i) {
      const step = `step ${series.step[i].toLocaleString("en")}`;
      const name = this.chart.x[0];
      if (/step/.test(name)) return step;
      return `${step} · ${name.split(",")[0]} ${format(series.x[i])}`;
    }
  }

  for (const plot of document.querySelectorAll(".plot")) {
    const chart = charts[plot.dataset.chart];
    if (chart.series.length) new Readout(plot, chart);
  }
})();
