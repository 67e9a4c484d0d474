"use strict";
// A click on a heading sorts its table: whole row groups where there are several, else rows.
const UNITS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18, Ki: 1024, Mi: 1048576, Gi: 1073741824 };
function key(cell) {
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  const number = /^([+\-−]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*(?:([kMGTPE]i?)\b)?/.exec(text.replace(/^[<=] /, ""));
  return number ? Number(number[1].replace("−", "-").replaceAll(",", "")) * (UNITS[number[2]] ?? 1) : text;
}
function compare(a, b) {
  const numbers = [a, b].map((value) => typeof value === "number");
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1; // what was not measured comes last
  return numbers[0] ? b - a : a.localeCompare(b);
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const whole = table.tBodies.length > 1;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const parts = whole ? [...table.tBodies] : [...table.tBodies[0].rows];
      const keyed = parts.map((part) => [key((whole ? part.rows[0] : part).cells[column]), part]);
      const sign = order === "descending" ? 1 : -1;
      keyed.sort((a, b) => (typeof a[0] === typeof b[0] ? sign : 1) * compare(a[0], b[0]));
      (whole ? table : table.tBodies[0]).append(...keyed.map((pair) => pair[1]));
    });
  });
}
// On paper nothing is closed.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((one) => (one.open = true));
});
addEventListener("afterprint", () => closed.forEach((one) => (one.open = false)));
