// An image with boxes over it: one SVG, so that boxes and words stay sharp at every zoom. Data is only ever set as
// attributes and text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.appendChild(made);
  return made;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  const { height, width } = data; // in pixel widths: pixels need not be square
  const whole = { x: 0, y: 0, width };
  if (!root.place || root.size !== `${height}x${width}`) root.place = { ...whole };
  root.size = `${height}x${width}`;
  root.replaceChildren();

  const bar = document.createElement("div");
  bar.className = "bar";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", data.words);
  svg.setAttribute("tabindex", "0");
  root.append(bar, svg);
  make("image", { href: data.image, width, height, preserveAspectRatio: "none" }, svg);
  if (data.heat) {
    make("image", { href: data.heat, width, height, preserveAspectRatio: "none", opacity: 0.45 }, svg);
  }
  for (const box of data.boxes) {
    const place = { x: box.x1, y: box.y1, width: box.x2 - box.x1, height: box.y2 - box.y1 };
    make("rect", { ...place, class: "under", "vector-effect": "non-scaling-stroke" }, svg);
    make("rect", { ...place, class: box.dashed ? "box dashed" : "box", "vector-effect": "non-scaling-stroke" }, svg);
  }
  // After all boxes: no box's line may run through the score of another.
  const texts = data.boxes.map((box) => [make("text", {}, svg), box]);
  for (const [text, box] of texts) text.textContent = box.label;

  function draw() {
    const place = root.place;
    place.width = Math.min(width, Math.max(width / 16, place.width));
    const high = (place.width * height) / width;
    place.x = Math.min(width - place.width, Math.max(0, place.x));
    place.y = Math.min(height - high, Math.max(0, place.y));
    svg.setAttribute("viewBox", `${place.x} ${place.y} ${place.width} ${high}`);
    svg.classList.toggle("zoomed", place.width < width);
    // A high picture is as high as its frame, not as wide.
    const pixel = Math.max(place.width / Math.max(1, svg.clientWidth), high / Math.max(1, svg.clientHeight));
    for (const [text, box] of texts) {
      const size = 15 * pixel;
      text.setAttribute("font-size", size);
      text.setAttribute("stroke-width", size / 5);
      // Beside the box, and inside the picture wherever the box is: a score that is cut off reads as another score.
      const edge = 0.3 * size;
      const right = width - text.getComputedTextLength() - edge;
      const beside = box.y1 > 1.4 * size ? box.y1 - 0.4 * size : box.y2 + 1.1 * size;
      text.setAttribute("x", Math.max(edge, Math.min(box.x1, right)));
      text.setAttribute("y", Math.max(1.1 * size, Math.min(beside, height - edge)));
    }
  }
  function zoom(factor, at) {
    const place = root.place;
    const point = at || { x: place.x + place.width / 2, y: place.y + (place.width * height) / width / 2 };
    const before = place.width;
    place.width = Math.min(width, Math.max(width / 16, before / factor));
    place.x = point.x - (point.x - place.x) * (place.width / before);
    place.y = point.y - (point.y - place.y) * (place.width / before);
    draw();
  }
  function move(right, down) {
    root.place.x += right * root.place.width;
    root.place.y += down * root.place.width;
    draw();
  }
  const keys = {
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4),
    "0": () => { root.place = { ...whole }; draw(); },
    ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0), ArrowUp: () => move(0, -0.1), ArrowDown: () => move(0, 0.1),
  };
  for (const [words, key, sign] of [["Zoom in", "+", "+"], ["Zoom out", "-", "−"], ["Whole image", "0", "⤢"]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = sign;
    button.title = words;
    button.setAttribute("aria-label", words);
    button.onclick = keys[key];
    bar.append(button);
  }
  svg.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own: it zooms the whole page
    if (event.key in keys) { event.preventDefault(); keys[event.key](); }
  };
  svg.onwheel = (event) => {
    if (!event.ctrlKey) return; // a wheel alone scrolls the page
    event.preventDefault();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, at);
  };
  let from = null;
  svg.onpointerdown = (event) => {
    if (root.place.width >= width) return; // a whole image scrolls with the page
    from = [event.clientX, event.clientY];
    svg.setPointerCapture(event.pointerId);
  };
  svg.onpointermove = (event) => {
    if (!from) return;
    const wide = svg.getScreenCTM().a * root.place.width;
    move((from[0] - event.clientX) / wide, (from[1] - event.clientY) / wide);
    from = [event.clientX, event.clientY];
  };
  svg.onpointerup = svg.onpointercancel = () => { from = null; };
  const watcher = new ResizeObserver(draw);
  watcher.observe(svg);
  draw();
  return () => watcher.disconnect();
}
