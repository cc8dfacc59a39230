// A table whose rows may lead to studies. Data is only ever set as text and attributes, never as markup.
function make(name, parent, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".rows");
  root.choose = (uid) => setTriggerValue("chosen", uid);
  const shown = JSON.stringify(data);
  if (root.shown === shown) return; // a refresh that brought nothing new moves nothing
  root.shown = shown;
  const focused = root.getRootNode().activeElement?.dataset?.uid;
  root.replaceChildren();

  const table = make("table", root);
  table.setAttribute("aria-label", data.words);
  const head = make("tr", make("thead", table));
  for (const name of data.columns) make("th", head, name).scope = "col";
  const body = make("tbody", table);
  for (const { uid, mark, cells } of data.rows) {
    const row = make("tr", body);
    row.className = mark;
    cells.forEach((text, place) => {
      const leads = uid && !place;
      const cell = make("td", row, leads ? undefined : text);
      cell.dataset.name = data.columns[place];
      cell.classList.toggle("empty", text === "-");
      if (!leads) return;
      const link = make("a", cell, text);
      link.href = `study?uid=${encodeURIComponent(uid)}`;
      link.dataset.uid = uid;
      if (uid === focused) link.focus();
    });
    if (!uid) continue;
    row.classList.add("leads");
    row.onclick = (event) => {
      const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.button;
      if (elsewhere || (!event.target.closest("a") && String(window.getSelection()))) return; // a new tab, or copying
      event.preventDefault();
      root.choose(uid);
    };
  }
}
