"use strict";
// Names of tags, songs and systems are untrusted: they are only ever set as textContent.

function make(name, className, words) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (words !== undefined) element.textContent = words;
  return element;
}

// tables

function cellValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === undefined) return null;
  const number = Number(value);
  return value !== "" && Number.isFinite(number) ? number : value;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column, heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [cellValue(row, column), row]);
  rows.sort(([a], [b]) => {
    // unknown values go last in either direction
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
  body.classList.add("sorted");
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, column, heading));
  });
}

for (const input of document.querySelectorAll("input[data-rows]")) {
  const body = document.getElementById(input.dataset.rows);
  const count = document.querySelector(`[data-count-of="${input.dataset.rows}"]`);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      if (!row.hidden) shown += 1;
    }
    count.textContent = wanted ? `${shown} of ${body.rows.length} rows` : "";
  });
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

// songs

const MARKS = { yes: ["✓", "true"], no: ["×", "not true"], open: ["?", "unknown"] };
const MOST_AT_FIRST = 4;
const data = JSON.parse(document.getElementById("song-data").textContent);
const controls = document.getElementById("song-controls");
const list = document.getElementById("song-list");
const condition = document.getElementById("condition");
const filter = document.getElementById("song-filter");
const choices = [];

function mark(kind) {
  const [sign, words] = MARKS[kind];
  const holder = make("span");
  const shown = make("span", `mark ${kind}`, sign);
  shown.setAttribute("aria-hidden", "true");
  holder.append(shown, make("span", "only-read", words));
  return holder;
}

function chips(tags) {
  const items = make("ul", "chips");
  for (const tag of tags) items.append(make("li", "", data.tags[tag]));
  return items;
}

function answerTable(song, answer) {
  const table = make("table", "answer");
  const head = table.createTHead().insertRow();
  head.className = "only-read";
  for (const words of ["truth", "tag", "score"]) {
    const heading = make("th", "", words);
    heading.scope = "col";
    head.append(heading);
  }
  const body = table.createTBody();
  for (const [tag, score] of answer.top) {
    const kind = song.true.includes(tag) ? "yes" : song.unknown.includes(tag) ? "open" : "no";
    const row = body.insertRow();
    if (kind === "yes") row.className = "hit";
    const first = row.insertCell();
    first.className = "mark-cell";
    first.append(mark(kind));
    const name = row.insertCell();
    name.className = "tag-name";
    name.textContent = data.tags[tag];
    const last = row.insertCell();
    last.className = "score-cell";
    const bar = make("span", "bar");
    const filled = make("i");
    filled.style.width = `${100 * Math.min(1, Math.max(0, score))}%`;
    bar.setAttribute("aria-hidden", "true");
    bar.append(filled);
    last.append(bar, score.toFixed(2));
  }
  return table;
}

function numberTable(song, shown, answers) {
  const table = make("table", "numbers");
  const head = table.createTHead().insertRow();
  for (const words of ["measure", "truth", ...shown.map((place) => data.systems[place])]) {
    const heading = make("th", words === "measure" ? "" : "number", words);
    heading.scope = "col";
    head.append(heading);
  }
  const body = table.createTBody();
  data.numbers.forEach((tag, place) => {
    const row = body.insertRow();
    const name = make("th", "", data.tags[tag]);
    name.scope = "row";
    row.append(name);
    const truth = song.numbers[place];
    const values = [truth === null ? "unknown" : truth.toFixed(2)];
    for (const system of shown) values.push(answers[system] ? answers[system].numbers[place].toFixed(2) : "–");
    for (const value of values) row.append(make("td", "number", value));
  });
  const holder = make("div", "scroll");
  holder.append(table);
  return holder;
}

function drawAnswers(song, holder) {
  const at = Number(condition.value);
  const answers = song.systems[at];
  const shown = choices.flatMap((box, place) => (box.checked ? [place] : []));
  const columns = make("div", "columns");
  for (const place of shown) {
    const column = make("div", data.families[place]);
    column.append(make("h4", "", data.systems[place]));
    if (answers[place]) {
      column.append(answerTable(song, answers[place]));
      const missed = answers[place].missed.map(([tag, rank]) => `${data.tags[tag]} (rank ${rank})`);
      if (missed.length) column.append(make("p", "why", `also true: ${missed.join(", ")}`));
    } else {
      column.append(make("p", "why", "no finished run"));
    }
    columns.append(column);
  }
  holder.replaceChildren(columns);
  if (data.numbers.length && shown.length) holder.append(numberTable(song, shown, answers));
}

function drawCard(song) {
  const card = make("article", "card");
  const head = make("div", "card-head");
  head.append(make("h3", "", song.id));
  if (song.audio) {
    const player = make("audio");
    player.controls = true;
    player.preload = "none";
    player.src = song.audio;
    player.setAttribute("aria-label", `Excerpt of ${song.id}`);
    head.append(player);
  }
  const truth = make("p", "", "True: ");
  truth.append(song.true.length ? chips(song.true) : "none of the tags");
  const answers = make("div");
  card.append(head, make("p", "why", song.why), truth, answers);
  const words = [song.id, ...song.true.map((tag) => data.tags[tag])].join("\n").toLowerCase();
  return { card, words, draw: () => drawAnswers(song, answers) };
}

const cards = data.songs.map(drawCard);

// many columns need the full width
function drawAll() {
  list.classList.toggle("wide", choices.filter((box) => box.checked).length > 2);
  for (const { draw } of cards) draw();
}

function drawSongs() {
  const wanted = filter.value.trim().toLowerCase();
  let shown = 0;
  for (const { card, words } of cards) {
    card.hidden = !words.includes(wanted);
    if (!card.hidden) shown += 1;
  }
  document.getElementById("song-count").textContent = `${shown} of ${cards.length} songs`;
}

data.conditions.forEach((words, place) => {
  const option = make("option", "", words);
  option.value = place;
  condition.append(option);
});
condition.value = data.start;
condition.parentElement.hidden = data.conditions.length < 2;
data.systems.forEach((words, place) => {
  const label = make("label");
  const box = make("input");
  box.type = "checkbox";
  box.checked = data.first.includes(place) && data.first.indexOf(place) < MOST_AT_FIRST;
  box.addEventListener("change", drawAll);
  choices.push(box);
  label.append(box, ` ${words}`);
  document.getElementById("systems").append(label);
});
document.getElementById("systems").hidden = data.systems.length < 2;
condition.addEventListener("change", drawAll);
filter.addEventListener("input", drawSongs);
controls.addEventListener("submit", (event) => event.preventDefault());
list.append(...cards.map(({ card }) => card));
drawAll();
drawSongs();
controls.hidden = false;
