// Sorts by the whole number behind a cell (data-sort), words by the reader's language; what is not there comes last.
Tablesort.extend("value", () => false, (a, b) => {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (a === "none" || b === "none") return (a === "none") - (b === "none") ? ((a === "none") ? -1 : 1) : 0;
  return isFinite(a) && isFinite(b) ? y - x : b.localeCompare(a, undefined, { numeric: true });
});
document.documentElement.classList.add("scripted");
document.querySelectorAll("table.sortable").forEach((table) => new Tablesort(table));

// Shows the rows, and the runs below, that hold every word typed.
const find = document.getElementById("find");
if (find) {
  const rows = [...document.querySelectorAll("table.runs tbody tr")];
  const pairs = rows.map((row) => [row, document.querySelector(row.querySelector("a").getAttribute("href"))]);
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [row, run] of pairs) {
      const text = (row.textContent + " " + run.querySelector("summary").textContent).toLowerCase();
      row.hidden = run.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    document.getElementById("found").textContent = `${shown} of ${rows.length} runs`;
  };
  find.addEventListener("input", show);
  show();
}

// A link to a run opens it.
const open = () => {
  const run = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (run instanceof HTMLDetailsElement) {
    run.open = true;
    run.scrollIntoView();
  }
};
addEventListener("hashchange", open);
open();
