"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const kernels = JSON.parse(byId("kernels").textContent);
  const body = byId("steps").tBodies[0];
  const rows = [...body.rows];
  const bars = [...byId("timeline").querySelectorAll("rect")];
  const heads = [...byId("steps").tHead.rows[0].cells];
  const detail = byId("detail");
  const hint = detail.textContent;

  // The time line: one stop of the tabulator, arrows between bars.
  const show = (step, isFocused) => {
    bars.forEach((bar, i) => {
      bar.classList.toggle("at", i === step);
      if (isFocused) bar.tabIndex = i === step ? 0 : -1;
    });
    rows.forEach((row) => row.classList.toggle("at", Number(row.dataset.step) === step));
    detail.textContent = step < 0 ? hint : bars[step].getAttribute("aria-label");
  };
  bars.forEach((bar, i) => {
    bar.addEventListener("mouseenter", () => show(i, false));
    bar.addEventListener("mouseleave", () => show(bars.indexOf(document.activeElement), false));
    bar.addEventListener("focus", () => show(i, true));
    bar.addEventListener("click", () => open(bar.dataset.kernel));
    bar.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: bars.length - 1 }[event.key];
      if (bars[to]) bars[to].focus();
      else if (event.key === "Enter" || event.key === " ") open(bar.dataset.kernel);
      else return;
      event.preventDefault();
    });
  });

  // The table.
  const sort = (column, isDescending) => {
    const isNumber = heads[column].classList.contains("n");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const compare = (a, b) => {
      if (!isNumber) return key(a).localeCompare(key(b), undefined, { numeric: true });
      // Cells without a number are last in either direction.
      const [x, y] = [key(a), key(b)].map((text) => (text === "" ? NaN : Number(text)));
      if (Number.isNaN(x) || Number.isNaN(y)) return (Number.isNaN(x) - Number.isNaN(y)) * (isDescending ? -1 : 1);
      return x - y;
    };
    const byStep = (a, b) => a.dataset.step - b.dataset.step;
    rows.sort((a, b) => (isDescending ? compare(b, a) : compare(a, b)) || byStep(a, b));
    body.append(...rows);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const is = head.getAttribute("aria-sort");
      // Numbers start with the largest, but for the order of steps.
      const first = head.classList.contains("n") && column > 0;
      sort(column, is === null ? first : is === "ascending");
    });
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !String(getSelection())) open(row.dataset.kernel);
  });

  // The dump of a kernel.
  const dialog = byId("dump");
  const open = (number) => {
    const kernel = kernels[number];
    if (!kernel) return;
    byId("problem").textContent = kernel.problem;
    const sections = kernel.sections.map(({ name, text }, i) => {
      const [section, summary, pre] = ["details", "summary", "pre"].map((tag) => document.createElement(tag));
      section.open = i === 0;
      summary.textContent = name;
      pre.textContent = text;
      pre.tabIndex = 0;
      section.append(summary, pre);
      return section;
    });
    byId("sections").replaceChildren(...sections);
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  // The address may say what to show: #sort=3&kernel=0
  const asked = new URLSearchParams(location.hash.slice(1));
  const column = Math.abs(Number(asked.get("sort")));
  if (asked.has("sort") && heads[column]) sort(column, !asked.get("sort").startsWith("+"));
  if (asked.has("kernel")) open(asked.get("kernel"));
  document.documentElement.dataset.rows = String(body.rows.length);
})();
