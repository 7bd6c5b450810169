// Explore the confusion matrix with pointer, keyboard or the list of labels.
(() => {
  const holder = document.getElementById("explorer");
  if (!holder) return;
  const { labels, cells, examples } = JSON.parse(document.getElementById("confusion-data").textContent);
  const size = labels.length;
  const canvas = holder.querySelector("canvas");
  const status = holder.querySelector("[role=status]");
  const texts = holder.querySelector(".texts");
  const chooser = holder.querySelector("select");
  const breakdown = holder.querySelector("tbody");
  const counts = new Map(cells.map(([gold, given, count]) => [gold * size + given, count]));
  const totals = new Array(size).fill(0);
  cells.forEach(([gold, , count]) => { totals[gold] += count; });
  const errors = cells.filter(([gold, given]) => gold !== given);
  let [row, column] = errors.length ? errors[0] : [0, 0];
  let error = 0;

  const countOf = (gold, given) => counts.get(gold * size + given) || 0;
  const shareOf = (gold, given) => totals[gold] ? countOf(gold, given) / totals[gold] : 0;
  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const side = canvas.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(side * ratio);
    const context = canvas.getContext("2d");
    const step = canvas.width / size;
    context.fillStyle = colour("--card");
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (const [gold, given] of cells) {
      context.globalAlpha = 0.2 + 0.8 * Math.sqrt(shareOf(gold, given));
      context.fillStyle = colour(gold === given ? "--accent" : "--warn");
      context.fillRect(given * step, gold * step, Math.max(step, 1), Math.max(step, 1));
    }
    context.globalAlpha = 1;
    if (step > 6 * ratio) {
      context.strokeStyle = colour("--line");
      context.lineWidth = ratio / 2;
      for (let line = 0; line <= size; line += 1) {
        context.beginPath();
        context.moveTo(line * step, 0); context.lineTo(line * step, canvas.height);
        context.moveTo(0, line * step); context.lineTo(canvas.width, line * step);
        context.stroke();
      }
    }
    context.strokeStyle = colour("--ink");
    context.lineWidth = 2 * ratio;
    const room = Math.max(step, 6 * ratio);
    context.strokeRect(column * step - (room - step) / 2, row * step - (room - step) / 2, room, room);
  }

  function show() {
    const count = countOf(row, column);
    const verb = row === column ? "answered correctly" : `answered ${labels[column]}`;
    status.textContent = `${labels[row]}, ${verb}: ${count} of ${totals[row]} (${percent(shareOf(row, column))})`;
    texts.replaceChildren(...(examples[`${row},${column}`] || []).map((text) => {
      const item = document.createElement("li");
      item.dir = "auto";
      item.textContent = text;
      return item;
    }));
    draw();
  }

  function listAnswers() {
    const gold = Number(chooser.value);
    const given = cells.filter(([label]) => label === gold).sort((one, other) => other[2] - one[2]);
    breakdown.replaceChildren(...given.slice(0, 12).map(([, label, count]) => {
      const line = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      const name = document.createElement("code");
      name.textContent = labels[label];
      head.append(name, label === gold ? " (right)" : "");
      line.append(head);
      for (const value of [count, percent(shareOf(gold, label))]) {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.textContent = value;
        line.append(cell);
      }
      return line;
    }));
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const within = (value, length) => Math.min(size - 1, Math.max(0, Math.floor(size * value / length)));
    return [within(event.clientY - box.top, box.height), within(event.clientX - box.left, box.width)];
  }

  canvas.addEventListener("pointermove", (event) => {
    const [gold, given] = at(event);
    if (gold === row && given === column) return;
    [row, column] = [gold, given];
    show();
  });
  canvas.addEventListener("click", (event) => {
    [row, column] = at(event);
    chooser.value = row;
    show();
    listAnswers();
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    row = Math.min(size - 1, Math.max(0, row + move[0]));
    column = Math.min(size - 1, Math.max(0, column + move[1]));
    show();
  });
  holder.querySelector("button").addEventListener("click", () => {
    if (!errors.length) return;
    error = (error + 1) % errors.length;
    [row, column] = errors[error];
    chooser.value = row;
    show();
    listAnswers();
  });
  chooser.addEventListener("change", () => {
    row = column = Number(chooser.value);
    show();
    listAnswers();
  });
  chooser.append(...labels.map((label, number) => new Option(label, number)));
  chooser.value = row;
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  holder.hidden = false;
  show();
  listAnswers();
})();
